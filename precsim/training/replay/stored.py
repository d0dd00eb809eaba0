"""A stored run: the file of hashes that a `BitLog` writes as a run goes on, and how it is read.

The file is one JSON document, one line per step. A step is appended before the two closing
braces, so that the file is valid after each step and is never written anew. A run that is killed
while it writes leaves a last line without its end, which the reader leaves out.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precsim.training.replay.files import unwritten, write_whole

HASHES = "hashes.json"
STATES = "states"

_END = "\n}}\n"
_FIELDS = ("every", "about", "steps")
_STEP = re.compile(r"0|[1-9][0-9]{0,11}")
_DIGITS = re.compile(r"[0-9a-f]{64}")

Hashes = dict[str, str]
"""The hash of each tensor by its name, and under "" that of all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What `read_run` found: hashes by step, and what made the run."""

    file: Path
    about: Mapping[str, Any]
    hashes: Mapping[int, Hashes]

    def state_path(self, step: int) -> Path:
        """Return where the state of a step is, if it was kept."""
        return state_path(self.file.parent, step)

    def said(self, field: str, kind: type) -> Any:
        """Return what the run says of itself; None if it does not.

        Raises
        ------
        ValueError
            If it is of another type; the message names the file and the field.
        """
        value = self.about.get(field)
        if value is not None and not isinstance(value, kind):
            raise _wrong(self.file, f"about.{field} is {_short(value)}", f"a {kind.__name__}")
        return value


def state_path(folder: Path, step: int) -> Path:
    """Return the file of a step's state in the folder of a run."""
    return folder / STATES / f"{step:08d}.safetensors"


def write_run(
    folder: Path, every: int, about: Mapping[str, Any], hashes: Mapping[int, Hashes]
) -> None:
    """Write the whole file of hashes in one piece."""
    head = json.dumps({"every": every, "about": dict(about), "steps": {}})
    lines = ",".join(_line(step, found) for step, found in hashes.items())
    write_whole(folder / HASHES, head.removesuffix("}}") + lines + _END)


def append_step(folder: Path, step: int, hashes: Hashes) -> None:
    """Add a step to a file that has others."""
    path = folder / HASHES
    try:
        with path.open("r+b", buffering=0) as file:
            file.seek(-len(_END), 2)
            file.truncate()
            file.write(f",{_line(step, hashes)}{_END}".encode())
    except OSError as error:
        raise unwritten(path, error) from None


def _line(step: int, hashes: Hashes) -> str:
    return f'\n"{step}": {json.dumps(hashes)}'


def read_run(path: Path) -> StoredRun:
    """Read a stored run: a folder with ``hashes.json``, or that file.

    Raises
    ------
    OSError
        If the file cannot be read; the message names it.
    ValueError
        If its content is not that of a stored run; the message names the file and the field.
    """
    file = path / HASHES if path.is_dir() else path
    content = _document(file, path)
    if not isinstance(content, dict):
        raise _wrong(file, f"it is {_short(content)}", "an object")
    if "steps" not in content:
        raise ValueError(f"{file} is not a file of hashes: it has no 'steps'")
    if unknown := sorted(content.keys() - set(_FIELDS)):
        raise _wrong(file, f"it has the field {_short(unknown[0])}", ", ".join(_FIELDS))
    about, steps = content.get("about", {}), content["steps"]
    for field, value in (("about", about), ("steps", steps)):
        if not isinstance(value, dict):
            raise _wrong(file, f"{field} is {_short(value)}", "an object")
    for step, hashes in steps.items():
        _check_step(file, step, hashes)
    return StoredRun(file=file, about=about, hashes={int(k): found for k, found in steps.items()})


def _document(file: Path, path: Path) -> Any:
    try:
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} has no stored hashes (looked for {file})") from None
    except OSError as error:
        raise OSError(error.errno, f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a file of hashes: not UTF-8, {error.reason}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        try:  # a last line without its end
            return json.loads(text[: text.rfind("\n")].rstrip(",") + _END)
        except (ValueError, RecursionError):
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise ValueError(f"{file} is not a file of hashes: {reason}") from None


def _check_step(file: Path, step: str, hashes: Any) -> None:
    if not _STEP.fullmatch(step):
        raise _wrong(file, f"steps has {_short(step)}", "integers from 0 on")
    if not isinstance(hashes, dict):
        raise _wrong(file, f"steps.{step} is {_short(hashes)}", "an object")
    for name, digits in {"": None, **hashes}.items():
        if not isinstance(digits, str) or not _DIGITS.fullmatch(digits):
            field = f"steps.{step}[{_short(name)}]"
            raise _wrong(file, f"{field} is {_short(digits)}", "64 hexadecimal digits")


def _wrong(file: Path, found: str, allowed: str) -> ValueError:
    return ValueError(f"{file} is not a file of hashes: {found}; allowed are {allowed}")


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
