"""Checkpoints: the whole state of a run in one file of tensors, complete or absent.

A checkpoint is a .safetensors file. Its metadata has a JSON document, which says what the leaves
are and what the caller says of the run, and the SHA-256 of that document and of all bytes.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim.formats.arguments import integer, shown
from precsim.training.replay.files import write_whole
from precsim.training.replay.leaves import (
    Leaf,
    described,
    kind_of,
    leaf_of,
    placed,
    stands_for,
    tensor_of,
)

_NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")
_VERSION = 1
_BESIDE = "arrays/"
"""What the names of arrays beside the state begin with; the path of no leaf does."""
_FIELDS = {"version", "about", "structure", "leaves"}
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What `load_checkpoint` found.

    Parameters
    ----------
    state : pytree
        The state; without `like`, a dict of its leaves by path.
    about : mapping
        What `save_checkpoint` was told of the run.
    arrays : dict of str to ndarray
        The arrays beside the state.
    file : Path
        The file that has it.

    Examples
    --------
    >>> import tempfile, numpy as np, precsim as ps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = ps.replay.save_checkpoint(folder, {"w": np.float32([1.5])}, about={"step": 3})
    ...     found = ps.replay.load_checkpoint(folder)
    >>> found.about["step"], found.file.name, found.state["['w']"].tolist()
    (3, 'checkpoint-00000001.safetensors', [1.5])
    """

    state: Any
    about: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    file: Path


def save_checkpoint(
    folder: str | Path,
    state: Any,
    *,
    about: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Any] | None = None,
    keep: int = 2,
) -> Path:
    """Write a state to a new file, whole or not at all, and delete the oldest checkpoints.

    Parameters
    ----------
    folder : str or Path
        Where checkpoints are; it is made if there is none. Files of other names stay as they are.
    state : pytree
        Arrays of NumPy and JAX of any dtype of numbers, random keys (typed or not), numbers of
        Python.
    about : mapping, optional
        What the caller says of the run, for example its step; anything that JSON has.
    arrays : mapping of str to array, optional
        Arrays beside the state, whose shapes no `like` knows beforehand, such as the losses so far.
    keep : int
        How many checkpoints stay, this one included.

    Returns
    -------
    Path
        The file, ``checkpoint-NNNNNNNN.safetensors``; its number is one more than the last one's.

    Raises
    ------
    TypeError
        If a leaf of the state is no number, or `about` has what JSON has not.
    ValueError
        If `keep` is not an integer from 1 on, or two leaves have the same path.
    OSError
        If a file cannot be written; the message names it. Earlier checkpoints stay.

    Notes
    -----
    The file gets its name once all its bytes are on the disk, so that a process that is killed, or
    a machine that loses power, leaves the earlier checkpoints and no half of a new one. Floats keep
    each bit, NaN payloads included. Dtypes that the file format lacks, such as int4, are stored as
    bytes.

    Source: safetensors, README, "Format".

    Examples
    --------
    >>> import tempfile, numpy as np, precsim as ps
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in range(4):
    ...         file = ps.replay.save_checkpoint(folder, {"w": np.float32(step), "step": step})
    ...     print(ps.replay.load_checkpoint(folder, like={"w": np.float32(0), "step": 0}).state)
    {'step': 3, 'w': np.float32(3.0)}
    """
    from safetensors.numpy import save

    keep = integer(keep, "keep", least=1)
    folder = Path(folder)
    leaves = _described(state)
    beside = {f"{_BESIDE}{name}": np.asarray(x) for name, x in (arrays or {}).items()}
    leaves |= {name: described(x, name) for name, x in beside.items()}
    document = _document(about or {}, jax.tree.structure(state), leaves)
    tensors = {name: tensor_of(array) for name, (_, array) in leaves.items() if array is not None}
    digest = _digest(document, {name: x.tobytes() for name, x in tensors.items()})
    content = save(tensors, {"checkpoint": document, "sha256": digest})
    folder.mkdir(parents=True, exist_ok=True)
    numbered = _numbered(folder)
    number = max(numbered, default=0) + 1
    path = folder / f"checkpoint-{number:08d}.safetensors"
    write_whole(path, content)
    for old in sorted(numbered)[: len(numbered) + 1 - keep]:
        numbered[old].unlink(missing_ok=True)
    return path


def load_checkpoint(folder: str | Path, like: Any = None) -> Checkpoint:
    """Return the newest complete checkpoint of a folder.

    Parameters
    ----------
    folder : str or Path
        A folder that `save_checkpoint` wrote to.
    like : pytree, optional
        A state of the same structure, for example the one before the first step. What is loaded
        has its types, its libraries (NumPy or JAX) and its places on devices. Where it has a number
        of Python, the file may have an array of one number. None: the leaves come as NumPy arrays,
        random keys and numbers of Python, in a dict by path.

    Returns
    -------
    Checkpoint
        State, what was said of the run, and the file.

    Raises
    ------
    FileNotFoundError
        If the folder has no checkpoint.
    ValueError
        If all its checkpoints are damaged, or the state's structure is not that of `like`: other
        paths, shapes, dtypes, or static fields, such as the format of a `DelayedScale`.

    Warns
    -----
    UserWarning
        If a newer file is damaged (cut short, changed, contradicting itself), and an older one is
        used in its place. The message names both.

    Notes
    -----
    The SHA-256 of all bytes is checked before anything is made of them. No file makes the loader
    allocate more than a few times its own size, whatever sizes it declares; nothing is unpickled.

    Examples
    --------
    >>> import tempfile, numpy as np, precsim as ps
    >>> state = ps.DelayedScale.start("e4m3:scale=tensor", length=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = ps.replay.save_checkpoint(folder, state.update(np.float32([7.0])))
    ...     print(ps.replay.load_checkpoint(folder, like=state).state.factor)
    64.0
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder is {folder}, which is a file; allowed are folders")
    numbered = _numbered(folder) if folder.exists() else {}
    if not numbered:
        raise FileNotFoundError(f"{folder} has no checkpoint (checkpoint-00000001.safetensors)")
    damages = []
    for number in sorted(numbered, reverse=True):
        path = numbered[number]
        try:
            found = _read(path)
        except ValueError as error:
            damages.append(str(error))
            continue
        if damages:
            warnings.warn(f"{damages[0]}; {path.name} is used", UserWarning, stacklevel=2)
        state = found.leaves if like is None else _as(like, found)
        return Checkpoint(state=state, about=found.about, arrays=found.arrays, file=path)
    raise ValueError(damages[0] + ("" if len(damages) == 1 else "; the others are damaged, too"))


def _numbered(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by number."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in found if match}


def _described(state: Any) -> dict[str, Leaf]:
    """Return what a file has of each leaf, by path."""
    leaves: dict[str, Leaf] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        name = jax.tree_util.keystr(path)
        if name in leaves or name.startswith(_BESIDE):
            raise ValueError(f"state has two leaves of the path {name}; paths have to differ")
        leaves[name] = described(leaf, name)
    return leaves


def _document(about: Mapping[str, Any], structure: Any, leaves: Mapping[str, Leaf]) -> str:
    content = {
        "version": _VERSION,
        "about": dict(about),
        "structure": _nodes(structure),
        "leaves": {name: leaf.about for name, leaf in leaves.items()},
    }
    try:
        return json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"about has what JSON has not: {error}") from None


def _nodes(structure: Any) -> list[str]:
    """Return the nodes of a tree from its root on: types and static fields, in words."""
    data = structure.node_data()
    if data is None:
        return []
    kind, static = data
    fields = static if isinstance(static, (list, tuple)) else [] if static is None else [static]
    words = _ADDRESS.sub("", ", ".join(map(str, fields)))
    children = structure.children()
    own = f"{kind.__name__}({words or len(children)})"
    return [own, *(node for child in children for node in _nodes(child))]


def _digest(document: str, data: Mapping[str, bytes | bytearray]) -> str:
    """Return the SHA-256 of a checkpoint: the document, and each tensor's name, size and bytes."""
    digest = hashlib.sha256(document.encode())
    for name, found in sorted(data.items()):
        digest.update(f"\n{name} {len(found)}\n".encode())
        digest.update(found)
    return digest.hexdigest()


class _Content(NamedTuple):
    """What a file has."""

    path: Path
    about: dict[str, Any]
    structure: list[Any]
    words: dict[str, Any]
    """Path -> what describes a leaf."""
    leaves: dict[str, Any]
    arrays: dict[str, np.ndarray]


def _read(path: Path) -> _Content:
    """Return the content of a file; ValueError if it is damaged."""
    import safetensors

    tensors_of: Any = safetensors.deserialize
    content = path.read_bytes()
    try:
        data = {name: tensor["data"] for name, tensor in tensors_of(content)}
        metadata = _header(content)["__metadata__"]
        text = metadata["checkpoint"]
        if metadata["sha256"] != _digest(text, data):
            raise ValueError("its SHA-256 is not that of its bytes")
        return _checked(path, json.loads(text), data)
    except KeyError as error:
        reason: object = f"it has no {error}"
    except (
        safetensors.SafetensorError,
        ValueError,
        RecursionError,
        TypeError,
        AttributeError,
    ) as error:
        reason = error
    raise ValueError(f"{path} is no whole checkpoint: {' '.join(str(reason).split())}")


def _header(content: bytes) -> dict[str, Any]:
    """Return the header of a file of tensors that has been read."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, Any] = json.loads(content[8 : 8 + length])
    return found


def _checked(path: Path, document: Any, data: Mapping[str, bytearray]) -> _Content:
    """Look at a document that may say anything, and make the leaves that it describes."""
    if not isinstance(document, dict) or document.keys() != _FIELDS:
        raise ValueError(f"its fields are not {', '.join(sorted(_FIELDS))}")
    if document["version"] != _VERSION:
        raise ValueError(f"its version is {shown(document['version'])}; allowed is {_VERSION}")
    for field, kind in (("about", dict), ("structure", list), ("leaves", dict)):
        if not isinstance(document[field], kind):
            raise ValueError(f"its field {field} is {shown(document[field])}")  # noqa: TRY004
    words = document["leaves"]
    for name in sorted(data.keys() - words.keys()):
        raise ValueError(f"nothing describes its tensor {shown(name)}")
    leaves = {}
    for name, description in words.items():
        try:
            leaves[name] = leaf_of(description, data.get(name))
        except ValueError as error:
            raise ValueError(f"leaf {shown(name)}: {error}") from None
    arrays = {
        name.removeprefix(_BESIDE): leaves.pop(name)
        for name in list(leaves)
        if name.startswith(_BESIDE)
    }
    return _Content(path, document["about"], document["structure"], words, leaves, arrays)


def _as(like: Any, found: _Content) -> Any:
    """Return the leaves of a file as a tree like another one."""
    wanted = _described(like)
    tree: Any = jax.tree.structure(like)
    for name in sorted(wanted.keys() ^ found.leaves.keys()):
        what = "a leaf that like has not" if name in found.leaves else "not the leaf"
        raise ValueError(f"{found.path} has {what}: {name or 'the whole state'}")
    for name, leaf in wanted.items():
        theirs = found.words[name]
        if not stands_for(leaf.about, theirs):
            raise ValueError(
                f"{found.path}: leaf {name} is {kind_of(theirs)}; like has {kind_of(leaf.about)}"
            )
    nodes = _nodes(tree)
    if found.structure != nodes:
        pairs = zip([*found.structure, "nothing"], [*nodes, "nothing"], strict=False)
        here, there = next((x, y) for x, y in pairs if x != y)
        raise ValueError(f"{found.path} has {shown(here)} where like has {shown(there)}")
    made = [
        placed(found.leaves[name], found.words[name], leaf)
        for name, leaf in zip(wanted, jax.tree.leaves(like), strict=True)
    ]
    return tree.unflatten(made)
