"""The numbers that are rounded, and which of the results are compared with exact ones."""

from typing import Any

import numpy as np

SEED = 20261122
COMPARED = 800
"""How many results of a contender are compared, the special values among them."""


def make_input(size: int, dtype: Any = np.float32, *, seed: int = SEED) -> np.ndarray:
    """Return normal numbers times 2**k, k from -8 to 8, behind one of each special kind.

    In e4m3 about one in seven is subnormal and one in thirty overflows.
    """
    draw = np.random.default_rng(seed)
    spread = draw.integers(-8, 9, size=size, dtype=np.int32)
    x = np.ldexp(draw.standard_normal(size, dtype=np.float32), spread).astype(dtype)
    special = specials(dtype)[:size]
    x[: special.size] = special
    return x


def on_device(x: np.ndarray) -> Any:
    """Return a JAX array of the same numbers; a float64 one lets this process have float64."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", x.dtype == np.float64)  # type: ignore[no-untyped-call]
    return jnp.asarray(x)


def specials(dtype: Any) -> np.ndarray:
    """Return zeros, infinities, NaN, ends of the carrier, ties and neighbours of ties."""
    info = np.finfo(dtype)
    positive = [0.0, np.inf, info.max, info.tiny, info.smallest_subnormal, 1.0]
    for exponent in (-149, -136, -133, -126, -24, -16, -15, -9, -7, -4, -3, -1, 0, 8, 15):
        quantum = 2.0**exponent
        ties = [k * quantum for k in (0.5, 1.0, 1.5, 2.5, 17.0, 25.0, 1.0 + 2.0**-8)]
        positive += ties + [float(np.nextafter(dtype(t), dtype(9e37))) for t in ties]
    with np.errstate(over="ignore"):
        values = np.array(positive, dtype)
    return np.concatenate([values, -values, [dtype(np.nan)]])


def chosen(size: int, *, seed: int = SEED) -> np.ndarray:
    """Return the places that are compared: the special values and a random choice of the others."""
    first = min(size, specials(np.float32).size)
    others = np.random.default_rng(seed).integers(0, size, size=COMPARED - first)
    return np.concatenate([np.arange(first), others])
