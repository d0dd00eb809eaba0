"""Files of a run: names that every system takes, and contents that are whole or absent."""

import hashlib
import os
import re
from pathlib import Path

MAX_NAME = 80
"""Characters of a name. Systems take 255 bytes, to which a suffix is added."""

_PLAIN = re.compile(r"[a-z0-9_]([a-z0-9_.,=+-]*[a-z0-9_])?")
_ENDS_LIKE_A_DIGEST = re.compile(r"-[0-9a-f]{8}\Z")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)")
"""Names that Windows keeps for devices, whatever follows their first dot."""


def file_name(name: str) -> str:
    """Return the file name, without a suffix, that stands for a policy.

    A plain name stands for itself: lower-case ASCII letters, digits and ``_.,=+-``, at most
    `MAX_NAME` of them. Any other name is made plain, cut, and given the first 8 digits of its
    SHA-256, so that different names have different files, also where case is ignored.

    Examples
    --------
    >>> file_name("bf16_mixed"), file_name("bf16,update=bf16:sr")
    ('bf16_mixed', 'bf16,update=bf16-sr-e9f735c2')
    """
    is_plain = len(name) <= MAX_NAME and _PLAIN.fullmatch(name) and not _DEVICES.match(name)
    if is_plain and not _ENDS_LIKE_A_DIGEST.search(name):
        return name
    readable = re.sub(r"[^a-z0-9_.,=+]+", "-", name.lower())[: MAX_NAME - 10].strip("-.,=+")
    if _DEVICES.match(readable):
        readable = f"_{readable}"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable or 'policy'}-{digest}"


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file in one piece: an interruption leaves the former content, or no file.

    All bytes are on the disk before the file has its name.

    Raises
    ------
    OSError
        If the file cannot be written; the message names it.
    """
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise unwritten(path, error) from None
    finally:
        draft.unlink(missing_ok=True)


def unwritten(path: Path, error: OSError) -> OSError:
    """Return the error of a file that cannot be written, with its name: a full disk says none."""
    return OSError(error.errno, f"{path} cannot be written: {error.strerror or error}")
