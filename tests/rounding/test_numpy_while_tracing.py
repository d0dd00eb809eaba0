"""NumPy arrays are computed at once, and come back as NumPy arrays, inside a traced function.

On an H100 a table that a backward pass made with `round_to` came back as a tracer, and the next
NumPy function failed: only arrays large enough for the compiled kernel were touched.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

LARGE = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
COMPUTE: dict[str, Any] = {
    "round_to": lambda: ps.round_to(LARGE, "bf16"),
    "float64": lambda: ps.round_to(LARGE.astype(np.float64), "bf16"),
    "matmul": lambda: ps.matmul(LARGE[:16], LARGE[:, :16], "bf16_bf16_fp32"),
    "tensor core": lambda: ps.matmul(LARGE[:16], LARGE[:, :16], "h100:bf16"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", COMPUTE)
def test_numpy_in_numpy_out_in_the_backward_pass_of_a_jitted_gradient(name: str) -> None:
    outside = COMPUTE[name]()
    seen: list[Any] = []

    @jax.custom_vjp
    def fun(x: Any) -> Any:
        return jnp.sum(x)

    def forward(x: Any) -> Any:
        seen.append(COMPUTE[name]())
        return fun(x), x

    def backward(x: Any, g: Any) -> Any:
        seen.append(COMPUTE[name]())
        return (g * jnp.asarray(seen[-1].ravel()[: x.size], jnp.float32),)

    fun.defvjp(forward, backward)
    gradient = jax.jit(jax.grad(fun))(jnp.ones(4))
    assert len(seen) >= 2
    for inside in seen:
        assert type(inside) is np.ndarray
        assert (inside.dtype, inside.shape) == (outside.dtype, outside.shape)
        assert inside.tobytes() == outside.tobytes()
    assert np.array_equal(np.asarray(gradient), outside.ravel()[:4].astype(np.float32))


def test_in_a_traced_loop() -> None:
    def body(k: Any, x: Any) -> Any:
        table = ps.round_to(LARGE, "fp16")
        assert type(table) is np.ndarray
        return x + table[0, 0]

    total = jax.jit(lambda x: jax.lax.fori_loop(0, 3, body, x))(jnp.float32(0))
    assert abs(float(total) - 3 * float(LARGE[0, 0])) < 1e-2
