"""The same bits inside `jax.shard_map`, on four simulated devices, with JAX's checks of what varies over them."""

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
from jax.sharding import AxisType, PartitionSpec

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
    "h100:bf16:promote16": product("h100:bf16:promote16"),
    "accumulate": lambda a, b: ps.accumulate(a, "bf16", order="pairwise", axis=1),
    "portable sum": lambda a, b: portable.sum(a, 1),
}
MORE = CASES | {
    **{
        spec: product(spec)
        for spec in (
            "bf16_bf16_bf16",
            "bf16_bf16_bf16:kahan",
            "bf16_bf16_fp32:exact",
            "bf16_bf16_fp32[rtz]:fused16x25+sticky",
            "b200:mxfp8",
        )
    },
    "gradient of a product": weight_gradient,
    "round_to": lambda a, b: ps.round_to(a, "e4m3"),
    "segment_sum": lambda a, b: ps.segment_sum(a, jnp.arange(4) % 3, "bf16", num_segments=4),
    "exp": lambda a, b: ps.exp(a, "bf16"),
    "portable exp": lambda a, b: portable.exp(a),
}


def differences(cases: dict[str, Callable[[Any, Any], Any]]) -> dict[str, int]:
    """Count wrong elements of each case: rows of `a` are shared out, `b` is everywhere."""
    mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(AxisType.Auto,))
    rows, everywhere = PartitionSpec("d"), PartitionSpec()  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(0)
    a, b = (
        np.asarray(ps.round_to(rng.standard_normal(shape, np.float32), "bf16"))
        for shape in ((16, 32), (32, 8))
    )
    found = {}
    for name, fun in cases.items():
        shared = jax.shard_map(fun, mesh=mesh, in_specs=(rows, everywhere), out_specs=rows)
        alone = jax.jit(fun)
        expected = np.concatenate([alone(part, b) for part in np.split(a, DEVICES)])
        got = np.asarray(jax.jit(shared)(a, b))
        found[name] = int((got.view(np.uint32) != expected.view(np.uint32)).sum())
    return found


@pytest.mark.parametrize("which", ["fast", pytest.param("all", marks=pytest.mark.slow)])
def test_on_four_devices(which: str) -> None:
    """In a process of its own: the number of devices is fixed when JAX starts."""
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_shard_map", which],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cases = MORE if which == "all" else CASES
    assert json.loads(done.stdout) == dict.fromkeys(cases, 0)


if __name__ == "__main__":
    json.dump(differences(MORE if sys.argv[1] == "all" else CASES), sys.stdout)
