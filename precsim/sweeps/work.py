"""What a worker does: check a cell, train a cell. Texts go in and texts come out."""

import json
import os
import platform
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from precsim.analysis.comparison import summarise
from precsim.sweeps.cell import Cell, versions
from precsim.training.control.schedule import schedule_from
from precsim.training.data.dataset import Data
from precsim.training.data.stream import Stream
from precsim.training.loop import check_policy, train_on
from precsim.training.own_objects import load_object
from precsim.training.prepared import load_data
from precsim.training.replay.bits import hash_state
from precsim.training.result import TrainResult


def check(text: str) -> str:
    """Check the program of a cell by a pass over shapes; return what is wrong, or nothing.

    Examples
    --------
    >>> from precsim.training.config import TrainConfig
    >>> check(Cell(TrainConfig(policy="bf16", model="linear", batch_size=2)).text)
    ''
    """

    def passes() -> dict[str, Any]:
        cell = Cell.parse(text)
        config, data = cell.config, _data(cell.reference().text)
        if isinstance(data, Data) and config.batch_size > len(data.train_targets):
            raise ValueError(
                f"batch_size is {config.batch_size}; allowed for task {config.task!r} are 1 to "
                f"{len(data.train_targets)}, the number of its training examples"
            )
        check_policy(data, config)
        return {}

    return str(_caught(passes).get("error", ""))


def check_name(argument: str, text: str) -> str:
    """Make what ``MODULE:FUNCTION`` names; return what is wrong, or nothing.

    Examples
    --------
    >>> check_name("model", "collections:OrderedDict"), check_name("model", "collections:Order")
    ('', "model is 'collections:Order'; module 'collections' has no 'Order'")
    """

    def loads() -> dict[str, Any]:
        load_object(text, argument)
        return {}

    return str(_caught(loads).get("error", ""))


def run(text: str, facts: str) -> str:
    """Train a cell and compare it with the reference of its group.

    Parameters
    ----------
    text : str
        `Cell.text`.
    facts : str
        The versions that the coordinator has, as JSON.

    Returns
    -------
    str
        JSON: "metrics" (the columns of the run table), "weights_hash", "seconds" and "provenance";
        or "error" and "traceback".
    """

    def trained() -> dict[str, Any]:
        if (here := versions()) != (there := json.loads(facts)):
            other = next(name for name in here if here[name] != there.get(name))
            raise ValueError(
                f"the worker on {socket.gethostname()} has {other} {here[other]}, the coordinator "
                f"{there.get(other)}; allowed are workers with the same versions"
            )
        cell = Cell.parse(text)
        begun = time.perf_counter()
        result = _reference(text) if cell.is_reference else _trained(cell)
        seconds = time.perf_counter() - begun
        reference = result if cell.is_reference else _reference(cell.reference().text)
        return {
            "metrics": summarise(result, reference).as_dict(),
            "weights_hash": hash_state(result.weights)[""],
            "seconds": seconds,
            "provenance": provenance(),
        }

    return json.dumps(_caught(trained), allow_nan=False)


def provenance() -> dict[str, Any]:
    """Return where and when a run was made; the clock's time is for readers only."""
    import jax

    return {
        "host": socket.gethostname(),
        "device": str(jax.devices()[0].device_kind),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": _cores(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def settle(number: int, count: int) -> None:
    """Take this process's share of the machine, one of `count`, before JAX looks at it.

    Each worker has cores of its own. Where memory runs out, the system ends a worker before it ends
    the coordinator. Both are left out on systems that have no such thing. A compiled program that a
    killed worker has left half written is compiled again; of that nobody needs to hear.
    """
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator hears it, and ends all
    with suppress(AttributeError, OSError):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number % len(cores) :: count] or cores)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")


@lru_cache(maxsize=2)
def _reference(text: str) -> TrainResult:
    """Return the reference of a group; the cells of a group come one after the other."""
    return _trained(Cell.parse(text))


def _trained(cell: Cell) -> TrainResult:
    data = _data(cell.reference().text)
    return train_on(data, cell.config, control=schedule_from(cell.config.policy))


@lru_cache(maxsize=2)
def _data(reference: str) -> Data | Stream:
    """Return the data that the cells of a group share."""
    return load_data(Cell.parse(reference).config)


def _caught(made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a function makes, or the text of its error."""
    try:
        return made()
    except Exception as error:  # noqa: BLE001 whatever it is, the sweep goes on
        first = str(error).strip().partition("\n")[0]
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        return {"error": f"{kind}{first}", "traceback": traceback.format_exc()}


def _cores() -> int:
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
