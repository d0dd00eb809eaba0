"""Which backends there are, and which one runs a spec."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from precsim.formats.arguments import shown
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode

if TYPE_CHECKING:
    from precsim.products.native.refusal import Shapes

BACKENDS = ("auto", "emulated", "native", "reference")


@dataclass(frozen=True, slots=True)
class Specs:
    """How a product and its gradients are computed; static under jit, so hashed only once."""

    forward: MatmulSpec
    dgrad: MatmulSpec
    wgrad: MatmulSpec
    backend: str
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Remember the hash."""
        object.__setattr__(self, "_hash", hash((*self.products, self.backend)))

    def __hash__(self) -> int:
        """Return the hash of the fields."""
        return self._hash

    @property
    def products(self) -> tuple[MatmulSpec, MatmulSpec, MatmulSpec]:
        """The product and both gradients."""
        return self.forward, self.dgrad, self.wgrad

    @property
    def tangent(self) -> MatmulSpec:
        """How tangents are multiplied: as the product, but to nearest where that is stochastic."""
        return _to_nearest(self.forward)

    @classmethod
    def resolve(
        cls,
        spec: str | MatmulSpec,
        dgrad: str | MatmulSpec | None,
        wgrad: str | MatmulSpec | None,
        backend: str,
    ) -> "Specs":
        """Parse the three specs (a gradient's default is the forward one) and check the backend."""
        try:
            hash((spec, dgrad, wgrad, backend))
        except TypeError:  # what has no hash is no spec and no backend either
            return _resolved.__wrapped__(spec, dgrad, wgrad, backend)
        specs = _resolved(spec, dgrad, wgrad, backend)
        if backend == "native":
            for each in specs.products:
                # The tensor cores of a device, which may be another one since.
                if isinstance(each.order, FusedBlock):
                    resolve_backend(each, backend)
        return specs


@lru_cache(maxsize=1024)
def _to_nearest(spec: MatmulSpec) -> MatmulSpec:
    parts = {name: getattr(spec, name) for name in ("lhs", "rhs", "accumulator", "output")}
    nearest = {
        name: replace(part, mode=RoundingMode.TIES_TO_EVEN, num_random_bits=0)
        for name, part in parts.items()
        if part is not None and part.mode is RoundingMode.STOCHASTIC
    }
    return replace(spec, **nearest) if nearest else spec


# Errors are not remembered.
@lru_cache(maxsize=1024)
def _resolved(
    spec: str | MatmulSpec,
    dgrad: str | MatmulSpec | None,
    wgrad: str | MatmulSpec | None,
    backend: str,
) -> Specs:
    forward = MatmulSpec.parse(spec)
    specs = Specs(
        forward, MatmulSpec.parse(dgrad or forward), MatmulSpec.parse(wgrad or forward), backend
    )
    for each in specs.products:
        resolve_backend(each, backend)
    return specs


def resolve_backend(
    spec: str | MatmulSpec, backend: str = "auto", *, shapes: "Shapes | None" = None
) -> str:
    """Return the backend that `matmul` runs.

    Parameters
    ----------
    spec : str or MatmulSpec
        The product.
    backend : {"auto", "emulated", "native", "reference"}
        What was asked for.
    shapes : pair of tuple of int, optional
        Shapes (..., M, K) and (..., K, N) of the operands, with equal batch dimensions. A tensor
        core's order depends on them, so without them "auto" is "emulated".

    Returns
    -------
    str
        "emulated", "native" or "reference". "auto" gives "native" for the product of a machine
        ("h100:bf16") on two conditions: this process has one such GPU (or the call is inside
        `jax.shard_map`), and the GPU's kernel for these shapes was found to have the spec's bits.
        Else it gives "emulated", since no native kernel follows a sequential spec bit for bit.

    Raises
    ------
    ValueError
        If the backend is unknown, or has no kernel for the spec (of these shapes).

    Examples
    --------
    >>> import precsim as ps
    >>> ps.kernels.resolve_backend("bf16_bf16_fp32")
    'emulated'
    >>> ps.kernels.resolve_backend("bf16_bf16_fp32", "native")
    'native'
    """
    spec = MatmulSpec.parse(spec)
    if backend not in BACKENDS:
        raise ValueError(
            f"backend is {shown(backend)}; allowed are {', '.join(map(repr, BACKENDS))}"
        )
    may_be_native = shapes is not None and isinstance(spec.order, FusedBlock)
    if backend in ("emulated", "reference"):
        return backend
    if backend == "auto" and not may_be_native:
        return "emulated"
    from precsim.products.native.refusal import native_refusal  # which loads JAX

    reason = native_refusal(spec, shapes)
    if reason is not None and backend == "native":
        raise ValueError(f"no native kernel computes '{spec}': {reason}")
    return "native" if reason is None else "emulated"
