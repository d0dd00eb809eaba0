"""The bits of a run's state: hashed, stored, and compared with another run's."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim.formats.arguments import integer
from precsim.training.replay.stored import (
    Hashes,
    StoredRun,
    append_step,
    read_run,
    state_path,
    write_run,
)
from precsim.training.replay.weights import load_weights, save_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class BitDifference:
    """Where two runs first differ.

    Parameters
    ----------
    step : int
        The first compared step whose states differ.
    tensor : str
        The first tensor, in the order of their names, that differs then.
    element : tuple of int, optional
        Its first element that differs, where both states are known.
    ours, theirs : int, optional
        The bit patterns of that element.

    Examples
    --------
    >>> import precsim as ps
    >>> patterns = {"ours": 0x3F800001, "theirs": 0x3F800000}
    >>> print(ps.replay.BitDifference(step=2, tensor="w", element=(0, 1), **patterns))
    step 2: w[0, 1] differs, 0x3f800001 against 0x3f800000
    """

    step: int
    tensor: str
    element: tuple[int, ...] | None = None
    ours: int | None = None
    theirs: int | None = None

    def __str__(self) -> str:
        """Return a sentence."""
        text = f"step {self.step}: {self.tensor}"
        if self.element is None:
            return f"{text} differs"
        place = ", ".join(map(str, self.element))
        return f"{text}[{place}] differs, 0x{self.ours:08x} against 0x{self.theirs:08x}"


def state_arrays(state: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a pytree by path, without random keys, which a run's seed gives."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves
        if not jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)
    }


def hash_state(state: Any) -> dict[str, str]:
    """Return the SHA-256 of each array of a state; the key "" has that of them all.

    Parameters
    ----------
    state : pytree of arrays
        Weights, buffers of the optimizer, counters, scales.

    Returns
    -------
    dict of str to str
        Path of the leaf -> 64 hexadecimal digits. Hashed are path, dtype, shape and little-endian
        bytes, NaN in its standard pattern: equal hashes mean equal bits.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> one, other = ({"w": np.float32([x])} for x in (1.0, 1.0 + 2.0**-23))
    >>> hashes = ps.replay.hash_state(one)
    >>> hashes["w"][:16], hashes[""] == ps.replay.hash_state(other)[""]
    ('77860500a43cd0b8', False)
    """
    hashes = {name: _hash(name, x) for name, x in sorted(state_arrays(state).items())}
    total = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
    return {"": total, **hashes}


def _hash(name: str, x: np.ndarray) -> str:
    if x.dtype.kind in "OSUMm":
        raise TypeError(
            f"state has leaf {name!r} of dtype {x.dtype}; allowed are arrays of numbers"
        )
    x = _with_standard_nan(x)
    little = np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<"), copy=False)
    head = f"{name} {x.dtype} {x.shape} ".encode()
    return hashlib.sha256(head + little.tobytes()).hexdigest()


def _with_standard_nan(x: np.ndarray) -> np.ndarray:
    """Give every NaN one pattern: which one an operation returns differs between devices."""
    if not jnp.issubdtype(x.dtype, np.floating):
        return x
    return np.where(np.isnan(x), x.dtype.type(np.nan), x)


@dataclass(slots=True, kw_only=True)
class BitLog:
    """Hashes of a run's state every N steps, stored step by step, and compared with a stored run.

    Parameters
    ----------
    every : int
        Steps between two hashes.
    folder : Path, optional
        An existing folder for ``hashes.json`` and, step by step, ``states``; None keeps the hashes
        in memory.
    stored : Path, optional
        A folder, or a ``hashes.json``, of another run.
    about : mapping, optional
        What made the run; stored beside the hashes.
    keep_states : bool
        Whether the states themselves are stored too. They are needed to name the element that
        differs.
    hashes : dict of int to dict of str to str
        Step -> `hash_state` of its state, filled as the run goes on.
    difference : BitDifference, optional
        The first difference from the stored run, once there is one.
    compared : int
        Steps whose hashes were found equal or different.

    Raises
    ------
    ValueError
        If `every` is not an integer from 1 on, or the stored run has no hashes at any step of this
        one.

    Examples
    --------
    Call it after each step of your own loop:

    >>> import numpy as np, precsim as ps
    >>> log = ps.replay.BitLog(every=2)
    >>> for step in range(5):
    ...     log(step, {"w": np.float32([step])})
    >>> list(log.hashes), log.difference
    ([0, 2, 4], None)
    """

    every: int
    folder: Path | None = None
    stored: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    keep_states: bool = True
    hashes: dict[int, dict[str, str]] = field(default_factory=dict)
    difference: BitDifference | None = None
    compared: int = 0

    def __post_init__(self) -> None:
        """Check, and read the stored run."""
        self.every = integer(self.every, "every", least=1)
        self.folder = None if self.folder is None else Path(self.folder)
        self.stored = None if self.stored is None else Path(self.stored)
        if self.stored is None:
            return
        self._run = read_run(self.stored)
        self.stored_hashes = dict(self._run.hashes)
        if not any(k % self.every == 0 for k in self.stored_hashes):
            steps = [str(k) for k in self.stored_hashes]
            listed = ", ".join(steps[:6]) + (" ..." if len(steps) > 6 else "")
            raise ValueError(
                f"every is {self.every}; {self.stored} has hashes of the steps {listed or 'none'} only"
            )

    stored_hashes: dict[int, Hashes] = field(default_factory=dict, init=False, repr=False)
    """Those of the stored run."""
    _run: StoredRun | None = field(default=None, init=False, repr=False)

    def __call__(self, step: int, state: Any) -> None:
        """Hash the state of a step, if it is its turn; step 0 starts anew."""
        if step == 0:
            self.hashes.clear()
            self.difference, self.compared = None, 0
        if step % self.every:
            return
        self.hashes[step] = hash_state(state)
        if self.folder is not None:
            if len(self.hashes) == 1:
                write_run(self.folder, self.every, self.about, self.hashes)
            else:
                append_step(self.folder, step, self.hashes[step])
            if self.keep_states:
                self._keep(step, state)
        theirs = self.stored_hashes.get(step)
        if theirs is not None:
            self.compared += 1
            if self.difference is None and theirs[""] != self.hashes[step][""]:
                self.difference = self._locate(step, state, theirs)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Store what is known of the run at its end."""
        self.about = about
        if self.folder is not None:
            write_run(self.folder, self.every, self.about, self.hashes)

    def _keep(self, step: int, state: Any) -> None:
        assert self.folder is not None
        path = state_path(self.folder, step)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # of this run, started anew
        save_weights(path, state_arrays(state))

    def _locate(self, step: int, state: Any, theirs: Mapping[str, str]) -> BitDifference:
        ours = self.hashes[step]
        names = [
            name for name in sorted({*ours, *theirs} - {""}) if ours.get(name) != theirs.get(name)
        ]
        if not names:
            return BitDifference(step=step, tensor="none (the stored hash of all is another)")
        name = names[0]
        try:
            stored = None if self._run is None else _load_arrays(self._run, step)
        except (ValueError, OSError) as error:  # the difference is found; only its element is not
            return BitDifference(step=step, tensor=f"{name} ({error})")
        if stored is None or name not in ours or name not in stored:
            return BitDifference(step=step, tensor=name)
        return differing_element(step, name, state_arrays(state), stored)


def differing_element(
    step: int, name: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> BitDifference:
    """Return the first element of a tensor that differs between two states."""
    x, y = (np.atleast_1d(np.ascontiguousarray(state[name])) for state in (ours, theirs))
    if x.shape != y.shape or x.dtype != y.dtype:
        return BitDifference(step=step, tensor=f"{name} (shape or dtype)")
    x, y = _with_standard_nan(x), _with_standard_nan(y)
    words = f"u{x.dtype.itemsize}"
    where = np.argwhere(x.view(words) != y.view(words))
    if not len(where):
        return BitDifference(step=step, tensor=name)
    at = tuple(int(i) for i in where[0])
    patterns = int(x.view(words)[at]), int(y.view(words)[at])
    return BitDifference(step=step, tensor=name, element=at, ours=patterns[0], theirs=patterns[1])


def load_state(run: StoredRun, step: int, like: Any) -> Any:
    """Return the stored state of a step as a pytree like another one, whose random keys it keeps.

    Returns None if the state was not kept.

    Raises
    ------
    ValueError
        If the file is damaged, has other tensors than `like`, or not the bits of the stored hash.
    """
    arrays = _load_arrays(run, step)
    if arrays is None:
        return None
    path, wanted = run.state_path(step), state_arrays(like)
    for name in sorted(wanted.keys() | arrays.keys()):
        if name not in arrays or name not in wanted:
            raise ValueError(
                f"{path} has {'an unknown' if name in arrays else 'no'} tensor {name!r}"
            )
        kinds = [f"{x.dtype}{list(x.shape)}" for x in (arrays[name], wanted[name])]
        if kinds[0] != kinds[1]:
            raise ValueError(f"{path}: tensor {name!r} is {kinds[0]}; the run has {kinds[1]}")

    def stored(at: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(at, simple=True, separator="/")
        return jnp.asarray(arrays[name]) if name in arrays else leaf

    return jax.tree_util.tree_map_with_path(stored, like)


def _load_arrays(run: StoredRun, step: int) -> dict[str, np.ndarray] | None:
    """Return the stored arrays of a step, checked against the stored hashes; None if absent."""
    path = run.state_path(step)
    if not path.exists():
        return None
    arrays = load_weights(path)
    found, stored = hash_state(arrays), run.hashes.get(step, {})
    wrong = [name for name in sorted({*found, *stored}) if found.get(name) != stored.get(name)]
    if wrong:
        raise ValueError(
            f"{path}: tensor {wrong[-1]!r} has not the hash that {run.file.name} has for step {step}"
        )
    return arrays
