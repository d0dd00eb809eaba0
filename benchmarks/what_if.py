"""Cases of `precsim.errors.statistics`: around a training step, and on an array in memory."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import precsim as ps
from benchmarks import inputs
from benchmarks.case import Case, Contender, Goal, Setting

PLAIN, WATCHED = "float32 step", "step and statistics"
STATISTICS, BLOCKS, HISTOGRAM = "statistics", "statistics in blocks", "numpy.histogram"
WIDTH, ROWS = 512, 2048
"""Of the layers, and examples of a batch: as many as a small transformer has tokens."""


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    yield Case(
        name="statistics/step",
        build=steps,
        goals=(Goal(measured=WATCHED, against=PLAIN, at_most=1.3),),
        size=1,
    )
    yield Case(
        name="statistics/array",
        build=arrays,
        goals=(
            Goal(measured=STATISTICS, against=HISTOGRAM, at_most=3),
            Goal(measured=BLOCKS, against=HISTOGRAM),
        ),
        size=1 << 24,
    )


def steps(setting: Setting) -> Mapping[str, Contender]:
    """Train three layers for a step; watched, count all weights and gradients in the same jit."""
    import jax
    import jax.numpy as jnp

    draw = np.random.default_rng(inputs.SEED)
    x = jnp.asarray(draw.standard_normal((ROWS, WIDTH), np.float32))
    params = list(jnp.asarray(draw.standard_normal((3, WIDTH, WIDTH), np.float32) * 0.05))

    def loss(params: list[Any], x: Any) -> Any:
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    def plain(params: list[Any], x: Any) -> tuple[Any, Any]:
        gradients = jax.grad(loss)(params, x)
        return [w - 0.1 * g for w, g in zip(params, gradients, strict=True)], gradients

    def watched(params: list[Any], x: Any) -> tuple[Any, Any]:
        new, gradients = plain(params, x)
        return new, [ps.errors.statistics(v) for v in (*params, *gradients)]

    def calling(step: Callable[..., Any]) -> Callable[[], object]:
        compiled: Any = jax.jit(step).lower(params, x).compile()
        wait: Callable[[Any], Any] = jax.block_until_ready
        return lambda: wait(compiled(params, x))

    return {PLAIN: Contender(run=calling(plain)), WATCHED: Contender(run=calling(watched))}


def arrays(setting: Setting) -> Mapping[str, Contender]:
    """Count an array of float32 in memory."""
    x = np.resize(np.random.default_rng(0).standard_normal(1 << 20, np.float32), setting.size)
    return {
        HISTOGRAM: Contender(run=lambda: np.histogram(x, 256)),
        STATISTICS: Contender(run=lambda: ps.errors.statistics(x)),
        BLOCKS: Contender(run=lambda: ps.errors.statistics(x, block_size=32)),
    }
