"""A matrix product whose forward pass and two gradients have specs of their own."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.products.backends import resolve_backend
from precsim.products.product import run_product
from precsim.products.specs.spec import MatmulSpec


class Specs(NamedTuple):
    """How a product and its gradients are computed; static under jit."""

    forward: MatmulSpec
    dgrad: MatmulSpec
    wgrad: MatmulSpec
    backend: str

    @classmethod
    def resolve(
        cls,
        spec: str | MatmulSpec,
        dgrad: str | MatmulSpec | None,
        wgrad: str | MatmulSpec | None,
        backend: str,
    ) -> "Specs":
        """Parse the three specs (the gradients' default is the forward one) and check the backend."""
        forward = MatmulSpec.parse(spec)
        gradients = MatmulSpec.parse(dgrad or forward), MatmulSpec.parse(wgrad or forward)
        for each in (forward, *gradients):
            resolve_backend(each, backend)
        return cls(forward, *gradients, backend)


class Noise(NamedTuple):
    """Random bits for the stochastically rounded outputs: of a @ b, of a's gradient, of b's."""

    forward: Array | None = None
    dgrad: Array | None = None
    wgrad: Array | None = None


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def matmul_with_gradients(a: Array, b: Array, c: Array | None, noise: Noise, specs: Specs) -> Array:
    """Return c + a @ b; shapes (..., M, K), (..., K, N), (..., M, N) with equal batch dimensions."""
    return run_product(a, b, c, specs.forward, noise.forward, backend=specs.backend)


def _forward(
    a: Array, b: Array, c: Array | None, noise: Noise, specs: Specs
) -> tuple[Array, tuple[Array, Array, bool, Noise]]:
    y = matmul_with_gradients(a, b, c, noise, specs)
    return y, (a, b, c is None, noise)


def _backward(
    specs: Specs, residuals: tuple[Array, Array, bool, Noise], g: Array
) -> tuple[Array, Array, Array | None, None]:
    a, b, no_c, noise = residuals
    transpose = partial(jnp.swapaxes, axis1=-1, axis2=-2)
    run = partial(run_product, backend=specs.backend)
    da = run(g, transpose(b), None, specs.dgrad, noise.dgrad)
    db = run(transpose(a), g, None, specs.wgrad, noise.wgrad)
    return da, db, None if no_c else g, None


matmul_with_gradients.defvjp(_forward, _backward)
