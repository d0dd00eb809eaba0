"""Accounts of functions inside `jax.shard_map`, on four simulated devices."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import precsim as ps

lax: Any = jax.lax
F32: Any = np.float32

Rows, Everywhere = PartitionSpec("d"), PartitionSpec()  # type: ignore[no-untyped-call]


def mesh(*sizes: int) -> Any:
    names = ("d", "m")[: len(sizes)]
    return jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(sizes))


def sharded(fun: Callable[..., Any], count: int, *specs: Any, **options: Any) -> Any:
    return jax.shard_map(fun, mesh=mesh(count), in_specs=specs, **options)


def operands() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x, w = (random.normal(size=shape).astype(np.float32) for shape in ((8, 16), (16, 4)))
    return x, w


def layer(x: Any, w: Any) -> Any:
    """Return a scalar that sums over devices: all of it is on each of them."""
    y = jnp.tanh(x @ w)
    mean = lax.psum(jnp.sum(y, 0), "d") / 8
    return lax.psum(jnp.sum((y - mean) ** 2), "d")


def far_from_one_device() -> float:
    """Compare two devices with one that computes two rows; return the largest distance of shares.

    `vmap` makes a sum of what the devices sum. Two numbers have one order, so bits are the same.
    """
    x, w = operands()
    on_two = sharded(layer, 2, Rows, Everywhere, out_specs=Everywhere)
    rows = jax.vmap(layer, (0, None), axis_name="d")
    got = ps.analyze(on_two, x, w, policy="bf16")
    want = ps.analyze(lambda x, w: rows(x.reshape(2, 4, 16), w)[0], x, w, policy="bf16")
    assert got.result == want.result
    pairs = list(zip(got.rows, want.rows, strict=True))
    assert all(math.isclose(a.sqnr, b.sqnr, rel_tol=1e-12) for a, b in pairs if a.error2)
    return max(abs(a.share - b.share) for a, b in pairs) / want.gross


def looped(x: Any, w: Any) -> Any:
    """Return sums of loops with a number of turns, and of branches, of each device's own."""
    number = lax.axis_index("d")

    def grown(state: Any) -> Any:
        n, y = state
        return n + 1, y + 0.3 * jnp.tanh(y @ w @ w.T)

    start = (number * 0, x)
    _, y = lax.while_loop(lambda state: state[0] < number + 1, grown, start)
    y = lax.cond(number == 2, jnp.sin, lambda y: y * y, y)
    y, _ = lax.scan(
        lambda y, _: (0.9 * y + lax.ppermute(y, "d", [(0, 1), (1, 0)]), None), y, length=3
    )
    return lax.psum(jnp.sum(y), "d") * jnp.max(lax.all_gather(x[0, 0], "d"))


def descent(x: Any, w: Any) -> Any:
    """Return weights after a step whose gradient sums over devices."""
    return w - 0.1 * lax.pmean(jax.grad(lambda w: jnp.mean((x @ w) ** 2))(w), "d")


def main() -> dict[str, Any]:
    x, w = operands()
    found: dict[str, Any] = {"far": far_from_one_device()}
    loops = sharded(looped, 4, Rows, Everywhere, out_specs=Everywhere, check_vma=False)
    step = sharded(descent, 4, Rows, Everywhere, out_specs=Everywhere)
    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "loops": (loops, {"policy": "bf16"}),
        "turns": (loops, {"policy": "bf16", "turns": "each", "recompute": True}),
        "step": (step, {"policy": "bf16:sr", "nodes": 3}),
        "gradient": (jax.grad(step_sum(step), 1), {"policy": "bf16"}),
    }
    for name, (fun, options) in cases.items():
        report = ps.analyze(fun, x, w, **options)
        emulated = ps.emulate(fun, options["policy"])(x, w)
        same = bool(np.array_equal(report.result, emulated))
        found[name] = same, report.remainder / report.gross, report.obstacles
    big = sharded(jnp.square, 4, Rows, out_specs=Rows)
    row = ps.analyze(big, F32([1, 300, 2, 300]), policy="fp16").rows[0]
    found["overflowed"] = row.overflowed, row.elements
    return found


def step_sum(step: Any) -> Callable[..., Any]:
    return lambda x, w: jnp.sum(step(x, w) ** 2)


@pytest.mark.slow
def test_on_four_devices() -> None:
    """In a process of its own: the number of devices is fixed when JAX starts."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.analysis.account.test_shards"],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("far") < 1e-12
    assert found.pop("overflowed") == [2, 4]
    for name, (is_same, left, obstacles) in found.items():
        assert is_same, name
        assert abs(left) < 1e-3, (name, left)
        assert not obstacles, (name, obstacles)


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
