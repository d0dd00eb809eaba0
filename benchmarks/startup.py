"""Cases of waiting: the first call of a compiled rounding, imports, the command line."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import precsim as ps
from benchmarks import inputs
from benchmarks.case import Case, Contender, Goal, Setting

NUMPY, SHOW, WALK = "import numpy", "precsim show 1.1 fp16", "precsim walk 0.1+0.2"


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    yield Case(
        name="startup/import",
        build=imports,
        goals=(
            Goal(measured="import precsim", against=NUMPY, at_most=1.3),
            Goal(measured=SHOW, against=NUMPY, at_most=3.0),
            Goal(measured=WALK, against=NUMPY, at_most=3.0),
        ),
        size=1,
        quick_size=1,
    )
    for dtype in ("float32", "float64"):
        yield Case(
            name=f"first call/{dtype}",
            build=partial(first_call, dtype),
            goals=tuple(
                Goal(measured=spec, against="negate")
                for spec in ("bf16", "e4m3", "e4m3:rtz", "q7.8")
            ),
            size=1,
            quick_size=1 if dtype == "float32" else None,
        )


def imports(_setting: Setting) -> dict[str, Contender | str]:
    """Start Python and import, and start the command line."""
    commands = {
        NUMPY: ("-c", "import numpy"),
        "import precsim": ("-c", "import precsim"),
        SHOW: ("-m", "precsim", "show", "1.1", "fp16"),
        WALK: ("-m", "precsim", "walk", "0.1+0.2"),
    }
    found: dict[str, Contender | str] = {}
    for name, words in commands.items():
        run = partial(_python, words)
        found[name] = Contender(run=run) if run() == 0 else "the command fails"
    return found


def _python(words: tuple[str, ...]) -> int:
    command = [sys.executable, *words]
    return subprocess.run(command, check=False, capture_output=True).returncode


def first_call(dtype: str, _setting: Setting) -> dict[str, Contender | str]:
    """Trace, compile and run on 1,000 numbers, with nothing kept from an earlier call."""
    import jax

    there = inputs.on_device(np.ones(1000, dtype))

    def anew(function: Callable[[Any], Any]) -> None:
        jax.clear_caches()  # type: ignore[no-untyped-call]
        jax.jit(function)(there).block_until_ready()

    found: dict[str, Contender | str] = {"negate": Contender(run=partial(anew, lambda v: -v))}
    for spec in ("bf16", "e4m3", "e4m3:rtz", "q7.8"):
        function = partial(_round, spec=spec)
        found[spec] = Contender(run=partial(anew, function))
    return found


def _round(v: Any, *, spec: str) -> Any:
    return ps.round_to(v, spec)
