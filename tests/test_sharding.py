"""Four simulated devices return the same bits.

They do so inside `jax.shard_map`, with JAX's checks, and on a mesh of explicit axes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import precsim as ps
from precsim.arithmetic import portable

DEVICES = 4


def weight_gradient(a: Any, b: Any) -> Any:
    """Of one device's share: `b` is made to vary, or JAX would add up the shares."""
    if jax.sharding.get_abstract_mesh().manual_axes:
        b = jax.lax.pcast(b, ("d",), to="varying")
    return jax.grad(lambda b: ps.matmul(a, b, "h100:bf16").sum())(b)


def product(spec: str) -> Callable[[Any, Any], Any]:
    return lambda a, b: ps.matmul(a, b, spec)


CASES: dict[str, Callable[[Any, Any], Any]] = {
    "bf16_bf16_bf16": product("bf16_bf16_bf16"),
    "accumulate": lambda a, b: ps.accumulate(a, "bf16", order="pairwise", axis=1),
    "portable sum": lambda a, b: portable.sum(a, 1),
}
MORE = CASES | {
    **{
        spec: product(spec)
        for spec in (
            "h100:bf16:promote16",
            "bf16_bf16_bf16:kahan",
            "bf16_bf16_fp32:exact",
            "bf16_bf16_fp32[rtz]:fused16x25+sticky",
            "b200:mxfp8",
        )
    },
    "gradient of a product": weight_gradient,
    "tangent of a product": lambda a, b: jax.jvp(product("bf16_bf16_fp32"), (a, b), (a, b))[1],
    "round_to": lambda a, b: ps.round_to(a, "e4m3"),
    "segment_sum": lambda a, b: ps.segment_sum(
        a, jnp.arange(a.shape[0]) % 3, "bf16", num_segments=4
    ),
    "exp": lambda a, b: ps.exp(a, "bf16"),
    "portable exp": lambda a, b: portable.exp(a),
}


def gradients(a: Any, b: Any) -> Any:
    """Of rows and of weights, whose product sums over what is shared out."""
    return jax.grad(lambda a, b: ps.matmul(a, b, "bf16_bf16_fp32").sum(), (0, 1))(a, b)


def embedded(a: Any, b: Any) -> Any:
    ids = (ps.round_to(abs(a), "q3.0") % 7).astype(jnp.int32)
    return jax.grad(lambda b: (ps.embedding(b, ids, "bf16") ** 2).sum())(b)


EXPLICIT: dict[str, Callable[[Any, Any], Any]] = {
    "gradients": gradients,
    "add a row": lambda a, b: ps.add(a, b[:, 0], "bf16"),
}
MORE_EXPLICIT = (
    EXPLICIT
    | {name: MORE[name] for name in MORE if name != "gradient of a product"}
    | {
        "three dimensions": lambda a, b: ps.matmul(a.reshape(8, 2, 32), b, "h100:bf16"),
        "a vector": lambda a, b: ps.matmul(a, b[:, 0], "h100:bf16"),
        "sums over what is shared out": lambda a, b: ps.accumulate(a, "bf16", axis=0),
        "portable sum over it": lambda a, b: portable.sum(a, 0),
        "gradient of a portable sum": lambda a, b: jax.grad(
            lambda a: (portable.sum(a, 0) ** 2).sum()
        )(a),
        "convolution": lambda a, b: ps.conv(
            a.reshape(16, 4, 4, 2), b[:9].reshape(3, 3, 2, 4), "h100:bf16"
        ),
        "embedding": embedded,
        "scaled_matmul": lambda a, b: ps.scaled_matmul(
            a, b, "h100:e4m3:promote32", a_scales=abs(a[:, :1]), b_scales=abs(b[:1])
        ),
        "comparison": lambda a, b: ps.ieee.less(a, b[:, 0]),
        "divide": lambda a, b: ps.divide(a, b[:, 0], "bf16"),
        "blocks": lambda a, b: ps.round_to(a, "mxfp8_e4m3", axis=-1),
    }
)


def operands() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = (
        np.asarray(ps.round_to(rng.standard_normal(shape, np.float32), "bf16"))
        for shape in ((16, 32), (32, 8))
    )
    return a, b


def unlike(got: Any, expected: Any) -> int:
    """Count elements whose bits differ."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return sum(
        int(
            (
                np.atleast_1d(np.asarray(x)).view(np.uint8)
                != np.atleast_1d(np.asarray(y)).view(np.uint8)
            ).sum()
        )
        for x, y in pairs
    )


def explicit_differences(cases: dict[str, Callable[[Any, Any], Any]]) -> dict[str, int]:
    """Count wrong elements on `make_mesh`'s default, where shardings are part of types.

    The devices share the rows of `a`.
    """
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Explicit,))
    rows = PartitionSpec("d")  # type: ignore[no-untyped-call]
    a, b = operands()
    expected = {name: jax.jit(fun)(a, b) for name, fun in cases.items()}
    found = {}
    with jax.set_mesh(mesh):
        shared = jax.device_put(a, NamedSharding(mesh, rows))
        everywhere = jax.device_put(b, NamedSharding(mesh, PartitionSpec()))  # type: ignore[no-untyped-call]
        for name, fun in cases.items():
            found[name] = unlike(jax.jit(fun)(shared, everywhere), expected[name])
        of_rows, of_weights = jax.jit(gradients)(shared, everywhere)
        square = jax.device_put(a[:, :16], NamedSharding(mesh, PartitionSpec(None, "d")))  # type: ignore[no-untyped-call]
        contracted = jax.jit(lambda x, y: ps.matmul(x, y, "bf16_bf16_fp32"))(square, a[:, 16:])
    assert tuple(contracted.sharding.spec) == (None, None)
    assert tuple(of_rows.sharding.spec) == ("d", None)
    assert {part.data.shape for part in of_rows.addressable_shards} == {(16 // DEVICES, 32)}
    assert tuple(of_weights.sharding.spec) == (None, None)
    return found


def trained_alike() -> bool:
    """Return whether two steps on all devices end in the state of one device.

    The devices share the batch and the state.
    """
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))
    run = ps.replay.prepare_run(
        ps.TrainConfig(policy=ps.Policy.parse("h100_bf16"), backend="emulated", optimizer="adamw")
    )

    def share(x: Any) -> Any:
        divided = [size and size % DEVICES == 0 for size in x.shape]
        axes = (
            ["d" if i == divided.index(True) else None for i in range(x.ndim)]
            if any(divided)
            else []
        )
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes)))  # type: ignore[no-untyped-call]

    hashes = set()
    for place in (jnp.asarray, share):
        state, step = jax.tree.map(place, run.state), jax.jit(run.step)
        for number in range(2):
            state, _ = step(state, *map(place, run.batch(number)))
        hashes.add(ps.replay.hash_state(state)[""])
    return len(hashes) == 1


def differences(cases: dict[str, Callable[[Any, Any], Any]]) -> dict[str, int]:
    """Count wrong elements of each case: rows of `a` are shared out, `b` is everywhere."""
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))
    rows, everywhere = PartitionSpec("d"), PartitionSpec()  # type: ignore[no-untyped-call]
    a, b = operands()
    found = {}
    for name, fun in cases.items():
        shared = jax.shard_map(fun, mesh=mesh, in_specs=(rows, everywhere), out_specs=rows)
        alone = jax.jit(fun)
        expected = np.concatenate([alone(part, b) for part in np.split(a, DEVICES)])
        got = np.asarray(jax.jit(shared)(a, b))
        found[name] = unlike(got, expected)
    return found


@pytest.mark.long
@pytest.mark.parametrize("which", ["fast", pytest.param("all", marks=pytest.mark.slow)])
def test_on_four_devices(which: str) -> None:
    """In a process of its own: the number of devices is fixed when JAX starts."""
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_sharding", which],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cases, explicit = (MORE, MORE_EXPLICIT) if which == "all" else (CASES, EXPLICIT)
    found, found_explicit, is_trained_alike = json.loads(done.stdout)
    assert found == dict.fromkeys(cases, 0)
    assert found_explicit == dict.fromkeys(explicit, 0)
    assert is_trained_alike


if __name__ == "__main__":
    every = sys.argv[1] == "all"
    chosen = (MORE, MORE_EXPLICIT) if every else (CASES, EXPLICIT)
    trained = trained_alike() if every else True
    json.dump([differences(chosen[0]), explicit_differences(chosen[1]), trained], sys.stdout)
