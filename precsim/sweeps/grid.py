"""The TOML file of a sweep: policies x models x seeds x settings, all checked before any run."""

import itertools
import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from precsim.formats.arguments import integer, shown, unknown
from precsim.sweeps.cell import REFERENCE, Cell
from precsim.training.config import TrainConfig
from precsim.transform.policy import Policy

MOST_BYTES = 2**20
"""Of a grid's file."""
MOST_CELLS = 10**6
"""Of a grid."""

_KEYS = ("policies", "schedules", "models", "seeds", "settings", "paired")
_OWN_KEYS = {"policy": "policies", "seed": "seeds"}
_SETTINGS = tuple(
    f.name for f in fields(TrainConfig) if f.name not in ("policy", "seed", "snapshots")
)
_STEPS = next(f.default for f in fields(TrainConfig) if f.name == "steps")
_LAST_SEED = 2**32 - 1
_RANGE = re.compile(r"\s*(\d{1,4000})\s*-\s*(\d{1,4000})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A sweep before it begins.

    Parameters
    ----------
    cells : tuple of Cell
        All runs, float32 included: a model and its settings after the other, in each all seeds.
    text : str
        The content of the file.
    """

    cells: tuple[Cell, ...]
    text: str


def read_grid(
    path: Path,
    read_policy: Callable[[str], Policy],
    read_schedule: Callable[[str, int, str], Policy],
) -> Grid:
    """Read a grid and build the config of each cell.

    Parameters
    ----------
    path : Path
        A TOML file. ``policies`` and ``schedules`` are lists of texts as `precsim train` takes
        them, ``models`` a list of names, ``seeds`` a list of integers or a text such as ``"0-9"``.
        The table ``settings`` has fields of `TrainConfig`; a list stands for each of its values.
        Each table ``[[paired]]`` has settings that belong together. The cells are the product of
        all lists and of the tables. The policy fp32 is always among them.
    read_policy : callable
        ``read_policy(text)``.
    read_schedule : callable
        ``read_schedule(text, steps, argument)``; the argument is for messages.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no grid, or a cell is no run; the message begins with the file's name.
    """
    content, text = _content(path)
    try:
        return Grid(cells=_cells(content, read_policy, read_schedule), text=text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _content(path: Path) -> tuple[dict[str, Any], str]:
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; allowed are up to {MOST_BYTES}")
    try:
        text = path.read_text("utf-8")
        return tomllib.loads(text), text
    except (UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from None


def _cells(
    content: Mapping[str, Any],
    read_policy: Callable[[str], Policy],
    read_schedule: Callable[[str, int, str], Policy],
) -> tuple[Cell, ...]:
    for key in content:
        if key not in _KEYS:
            raise unknown("key", key, _KEYS)
    texts = _texts(content, "policies") if "policies" in content else []
    schedules = _texts(content, "schedules") if "schedules" in content else []
    if not texts and not schedules:
        raise ValueError("it has neither policies nor schedules; allowed is a list of texts")
    policies = _different([read_policy(text) for text in (REFERENCE, *texts)], texts)
    seeds = _seeds(content)
    blocks = _blocks(content)
    count = len(blocks) * len(seeds) * (len(policies) + len(schedules))
    if count > MOST_CELLS:
        raise ValueError(f"it has {count} cells; allowed are up to {MOST_CELLS}")
    cells: dict[str, Cell] = {}
    for block in blocks:
        steps = integer(block.get("steps", _STEPS), "steps", 1)
        own = [*policies, *(read_schedule(text, steps, "one of schedules") for text in schedules)]
        for seed, policy in itertools.product(seeds, own):
            cell = Cell(TrainConfig(policy=policy, seed=seed, snapshots=1, **block))
            if cell.text in cells:
                raise ValueError(
                    f"two cells are the same: policy {policy.name}, model {cell.config.model}, "
                    f"seed {seed}; each value may be given once"
                )
            cells[cell.text] = cell
    return tuple(cells.values())


def _different(policies: Sequence[Policy], texts: Sequence[str]) -> list[Policy]:
    """Return the policies, the reference once; refuse two of one name, or two that are the same."""
    reference, *others = policies
    found = [reference]
    for policy, text in zip(others, texts, strict=True):
        if policy == reference:
            continue
        same = next((p for p in found if p == policy or p.name == policy.name), None)
        if same is not None:
            raise ValueError(
                f"policies has {shown(text)}, which is {shown(same.name)} once more; each policy "
                "may be given once, under a name of its own"
            )
        found.append(policy)
    return found


def _seeds(content: Mapping[str, Any]) -> list[int]:
    given = content.get("seeds", [0])
    if isinstance(given, str) and (ends := _RANGE.fullmatch(given)):
        first, last = int(ends[1]), int(ends[2])
        if last < first or last - first >= MOST_CELLS or last > _LAST_SEED:
            raise ValueError(
                f"seeds is {shown(given)}; allowed are up to {MOST_CELLS}, ascending, "
                f"from 0 to {_LAST_SEED}"
            )
        return list(range(first, last + 1))
    if not isinstance(given, list) or not given:
        raise ValueError(
            f"seeds is {shown(given)}; allowed is a list of integers, or '0-9'{_empty(given)}"
        )
    seeds = [integer(each, "one of seeds", 0, _LAST_SEED) for each in given]
    if twice := [seed for seed, count in Counter(seeds).items() if count > 1]:
        raise ValueError(f"seeds has {twice[0]} more than once; each seed may be given once")
    return seeds


def _blocks(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of each block of cells, which differ in policy and seed only."""
    axes: dict[str, list[Any]] = {}
    if "models" in content:
        axes["model"] = _texts(content, "models")
    for name, value in _table(content.get("settings", {}), "settings").items():
        if name in axes:
            raise ValueError(f"{name} is given in models and in settings; allowed is one of them")
        axes[name] = value if isinstance(value, list) else [value]
        if not axes[name]:
            raise ValueError(f"settings.{name} is []; allowed is a value, or a list of some")
    paired = content.get("paired", [{}])
    if not isinstance(paired, list) or not paired:
        raise ValueError(f"paired is {shown(paired)}; allowed are tables, [[paired]]")
    for k, table in enumerate(paired, 1):
        for name, value in _table(table, f"paired table {k}").items():
            if name in axes:
                said = "models" if name == "model" and "models" in content else "settings"
                raise ValueError(f"{name} is given in {said} and in paired; allowed is one of them")
            is_list = isinstance(value, list)
            if is_list:
                raise ValueError(f"paired table {k} has a list for {name}; allowed is one value")
    if math.prod(map(len, axes.values())) * len(paired) > MOST_CELLS:
        raise ValueError(f"it has more than {MOST_CELLS} cells, the most that are allowed")
    products = [dict(zip(axes, each, strict=True)) for each in itertools.product(*axes.values())]
    return [_with_folder({**each, **table}) for table in paired for each in products]


def _with_folder(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block whose folder of data is named from the root on: workers may be elsewhere."""
    folder = block.get("data_dir")
    return block | {"data_dir": str(Path(folder).absolute())} if isinstance(folder, str) else block


def _table(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where} is {shown(given)}; allowed is a table")  # noqa: TRY004
    for name in given:
        if name in _OWN_KEYS:
            raise ValueError(f"{where} has {name!r}; write {_OWN_KEYS[name]}, above all tables")
        if name not in _SETTINGS:
            raise ValueError(f"{where}: {unknown('setting', name, _SETTINGS)}")
    return given


def _texts(content: Mapping[str, Any], name: str) -> list[str]:
    given = content[name]
    if not isinstance(given, list) or not given:
        raise ValueError(f"{name} is {shown(given)}; allowed is a list of texts{_empty(given)}")
    for each in given:
        if not isinstance(each, str):
            raise ValueError(f"one of {name} is {shown(each)}; allowed are texts")  # noqa: TRY004
    return given


def _empty(given: Any) -> str:
    """Return what a message adds where a list, or a text, has nothing."""
    return "" if given or isinstance(given, (bool, int, float)) else ", not empty"
