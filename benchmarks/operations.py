"""Cases of rounded operations: arithmetic, elementary functions, formats that share scales."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import precsim as ps
from benchmarks import inputs, limits
from benchmarks.case import Case, Contender, Goal, Setting, SkipError, against_exact

ARITHMETIC = {"add": 2, "multiply": 2, "divide": 2, "sqrt": 1, "fma": 3}
ELEMENTARY = ("exp", "log", "sin", "tanh")
BLOCK_FORMATS = ("mxfp8_e4m3", "mxfp4", "nvfp4")

ROUNDED, PLAIN, NEAREST = "rounded", "float32", "nearest"


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    for name, operands in ARITHMETIC.items():
        for fmt in ("fp16", "bf16"):
            yield Case(
                name=f"operation/{name}/{fmt}",
                build=partial(operation, name, operands, fmt),
                goals=(
                    Goal(measured=ROUNDED, against=PLAIN),
                    Goal(measured=ROUNDED, against=NEAREST),
                ),
                size=1_000_000,
                quick_size=100_000 if (name, fmt) in {("add", "fp16"), ("fma", "fp16")} else None,
            )
    for name in ELEMENTARY:
        yield Case(
            name=f"elementary/{name}/fp16",
            build=partial(operation, name, 1, "fp16"),
            goals=(
                Goal(measured=ROUNDED, against=PLAIN),
                Goal(measured=ROUNDED, against=NEAREST),
            ),
            size=100_000,
            quick_size=20_000 if name == "exp" else None,
        )
    for name in BLOCK_FORMATS:
        yield Case(
            name=f"block/{name}",
            build=partial(block, name),
            goals=(
                Goal(measured=ROUNDED, against=limits.COPY),
                Goal(measured=ROUNDED, against=NEAREST),
            ),
            size=1 << 20,
            quick_size=1 << 17 if name == "mxfp4" else None,
        )


def operation(name: str, operands: int, fmt: str, setting: Setting) -> dict[str, Contender | str]:
    """Compute a rounded operation, the float32 operation, and one rounding to nearest."""
    import jax
    import jax.numpy as jnp

    rounded = getattr(ps, name, None)
    if rounded is None:
        raise SkipError(f"precsim has no {name}")
    xs = [inputs.make_input(setting.size, seed=inputs.SEED + k) for k in range(operands)]
    there = [jnp.asarray(x) for x in xs]
    plain = (lambda x, y, z: x * y + z) if name == "fma" else getattr(jnp, name)
    call = jax.jit(lambda *v: rounded(*v, fmt))
    run = lambda: call(*there).block_until_ready()
    exact = lambda k: _exact(name, [float(x[k]) for x in xs], fmt)
    check = against_exact(run, inputs.chosen(setting.size), exact) if name in ARITHMETIC else None
    return {
        PLAIN: _jitted(plain, there),
        NEAREST: _jitted(lambda x: ps.round_to(x, fmt), there[:1]),
        ROUNDED: Contender(run=run, check=check),
    }


def _exact(name: str, operands: list[float], fmt: str) -> float:
    return ps.oracle.compute_exact(name, *operands, spec=fmt).value


def block(name: str, setting: Setting) -> dict[str, Contender | str]:
    """Quantise and dequantise blocks that share a scale, and round the same numbers to e4m3."""
    import jax.numpy as jnp

    x = np.nan_to_num(inputs.make_input(setting.size), posinf=1.0, neginf=1.0).reshape(-1, 1024)
    try:
        ps.round_to(np.zeros((1, 1024), np.float32), name)
    except (TypeError, ValueError) as problem:
        raise SkipError(f"round_to does not take {name}: {problem}") from None
    there = jnp.asarray(x)
    return {
        limits.COPY: limits.copy(x),
        NEAREST: _jitted(lambda v: ps.round_to(v, "e4m3"), [there]),
        ROUNDED: _jitted(lambda v: ps.round_to(v, name), [there]),
    }


def _jitted(function: Callable[..., Any], there: list[Any]) -> Contender:
    import jax

    call = jax.jit(function)
    return Contender(run=lambda: call(*there).block_until_ready())
