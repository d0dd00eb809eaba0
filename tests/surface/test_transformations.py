"""Under JAX's transformations every public function has the bits of a Python loop.

One program does several at once: a function mapped over its first argument, and inside of that over
all others, along different axes, in a scan, in `jax.shard_map`, compiled.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests.public_names import last_parts
from tests.surface.public_calls import CALLS, EXEMPT, Call, as_jax, same_bits

COMPILED_FAST = {"xla_backend_optimization_level": 0}

# One call of each way through the code; all others are slow.
FAST = (
    *("equal", "minimum", "add", "round_to", "rsqrt", "ulp", "encode", "decode", "to_integer"),
    *("pack_codes", "quantize mxfp4", "accumulate pairwise", "accumulate sequential"),
    *("segment_sum", "embedding", "matmul h100:bf16", "matmul c and random_bits"),
    "StaticLossScale",
)
FAST_GRADIENTS = ("add", "round_to", "round_to int4_symmetric_block2", "embedding")


def marked(names: Iterable[str], fast: tuple[str, ...]) -> list[Any]:
    """Return test parameters, those marked slow that are not to run by default."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


def test_every_public_name_is_called_or_exempt() -> None:
    called = {name.partition(" ")[0] for name in CALLS}
    assert not called & set(EXEMPT)
    assert called | set(EXEMPT) == last_parts()


def stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def looped(call: Call, arrays: tuple[np.ndarray, ...]) -> Any:
    """Call the function once per pair of examples: one of the first argument, one of all others."""
    rows = [
        [call.run(arrays[0][i], *(x[j] for x in arrays[1:])) for j in range(2)] for i in range(2)
    ]
    if len(arrays) == 1:
        return stacked([row[0] for row in rows])
    return stacked([stacked(row) for row in rows])


def mapped(call: Call, axes: tuple[int, ...]) -> Callable[..., Any]:
    """Map over the first argument, and inside of that over all others, along the axes given."""
    none = [None] * len(axes)
    function = call.run
    if len(axes) > 1:
        function = jax.vmap(function, [None, *axes[1:]])
    return jax.vmap(function, [axes[0], *none[1:]])


def axes_of(call: Call) -> tuple[int, ...]:
    """Return another axis for each argument: the last one, the second one, the first one."""
    choices = (-1, 1, 0)
    return tuple(choices[k % 3] if x.ndim > 1 else 0 for k, x in enumerate(call.arrays))


@pytest.mark.long
@pytest.mark.parametrize("name", marked(CALLS, FAST))
def test_jit_vmap_scan_and_shard_map_equal_a_loop(name: str) -> None:
    call = CALLS[name]
    reverse = tuple(x[::-1] for x in call.arrays)
    expected = stacked([looped(call, call.arrays), looped(call, reverse)])
    axes = axes_of(call)
    scanned = tuple(
        np.stack([np.moveaxis(x, 0, axis) for x in pair])
        for *pair, axis in zip(call.arrays, reverse, axes, strict=True)
    )
    step = mapped(call, axes)

    def run(*arrays: Any) -> Any:
        return jax.lax.scan(lambda _, xs: (None, step(*xs)), None, arrays)[1]

    mesh = jax.make_mesh(
        (min(2, jax.device_count()),), ("d",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    rows = PartitionSpec("d")  # type: ignore[no-untyped-call]
    shared = jax.shard_map(run, mesh=mesh, in_specs=rows, out_specs=rows)
    compiled = jax.jit(shared, compiler_options=COMPILED_FAST)
    assert same_bits(compiled(*as_jax(scanned)), expected)


@pytest.mark.slow
def test_on_two_devices() -> None:
    """The test above, in a process of its own: the number of devices is fixed when JAX starts."""
    name = test_jit_vmap_scan_and_shard_map_equal_a_loop.__name__
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n0",
            "-q",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            name,
        ],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    "name", marked([name for name, call in CALLS.items() if call.gradient], FAST_GRADIENTS)
)
def test_gradients_under_vmap_and_remat_equal_a_loop(name: str) -> None:
    call = CALLS[name]

    def pulled_back(run: Callable[..., Any], *arrays: Any) -> Any:
        """Return the gradients of a cotangent of many different numbers."""

        def of_some(*some: Any) -> Any:
            every = list(arrays)
            for n, x in zip(call.gradient, some, strict=True):
                every[n] = x
            return run(*every)

        y, pull = jax.vjp(of_some, *(arrays[n] for n in call.gradient))
        return pull(jnp.linspace(1, 2, y.size, dtype=y.dtype).reshape(y.shape))

    def both(*arrays: Any) -> Any:
        alone = [pulled_back(call.run, *(x[k] for x in arrays)) for k in range(2)]
        alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
        return alone, jax.vmap(partial(pulled_back, jax.checkpoint(call.run)))(*arrays)

    alone, mapped = jax.jit(both, compiler_options=COMPILED_FAST)(*as_jax(call.arrays))
    assert same_bits(mapped, alone)


@pytest.mark.parametrize(
    "name",
    marked([name for name, call in CALLS.items() if call.gradient], (*FAST_GRADIENTS, "conv")),
)
def test_whatever_has_a_gradient_has_a_tangent(name: str) -> None:
    call = CALLS[name]
    arrays = [x[0] for x in call.arrays]
    some = [arrays[n] for n in call.gradient]

    def of_some(*some: Any) -> Any:
        there = dict(zip(call.gradient, some, strict=True))
        return call.run(*(there.get(n, x) for n, x in enumerate(arrays)))

    y, tangent = jax.eval_shape(lambda *x: jax.jvp(of_some, x, x), *as_jax(some))
    assert (y.shape, y.dtype) == (tangent.shape, tangent.dtype)


# Functions that read the bits of their operands.
OF_CONSTANTS = (
    "equal",
    "add",
    "round_to",
    "ulp",
    "encode",
    "quantize mxfp4",
    "accumulate pairwise",
)


@pytest.mark.long
@pytest.mark.parametrize("name", [*OF_CONSTANTS, "matmul bf16_bf16_fp32"])
def test_transposed_constants_in_nested_jits_have_the_bits_of_numpy(name: str) -> None:
    """Defect: XLA permuted the numbers (jax 0.10.2, CPU), as it does for plain JAX's bitcasts."""
    call = CALLS[name]
    constants = [np.ascontiguousarray(x.T) for x in call.arrays]
    inner = jax.jit(call.run)
    outer = jax.jit(lambda *arrays: inner(*(x.T for x in arrays)))
    program = jax.jit(lambda: outer(*constants), compiler_options=COMPILED_FAST)
    assert same_bits(program(), jax.tree.map(np.asarray, call.run(*call.arrays)))
