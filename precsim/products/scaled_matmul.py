"""FP8 products whose blocks along K have float32 scales, applied at every promotion (DeepGEMM)."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from precsim._arrays import Array, ArrayLike, is_jax, namespace
from precsim._calls import compiled, in_numpy, with_automatic_axes
from precsim.formats.arguments import shown
from precsim.formats.carrier import FLOAT32, as_carrier
from precsim.products.emulated import emulated_matmul
from precsim.products.reference import reference_matmul
from precsim.products.scaled.product import add_stretches
from precsim.products.specs.fused_block import FLAT, FusedBlock, Promote
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.round_to import round_to


def scaled_matmul(
    a: ArrayLike,
    b: ArrayLike,
    spec: str | MatmulSpec,
    *,
    a_scales: ArrayLike,
    b_scales: ArrayLike,
    contracts: bool = True,
    backend: str = "emulated",
) -> Array:
    """Return the sum over blocks of K of ``a_scales * b_scales * (a @ b)``.

    Parameters
    ----------
    a : array_like of float32, shape (M, K)
        Left operand, already divided by its scales.
    b : array_like of float32, shape (K, N)
        Right operand, already divided by its scales.
    spec : str or MatmulSpec
        A tensor core's product with promotion, for example "h100:e4m3:promote128": the blocks have
        that length.
    a_scales : array_like of float32, shape (M, blocks)
        Scale of each row's block; broadcast from (1, blocks).
    b_scales : array_like of float32, shape (blocks, N)
        Scale of each column's block; broadcast from (blocks, 1). For blocks of 128 x 128, repeat
        along N.
    contracts : bool
        Whether the scaled block is added by one fused multiply-add. If not, the block times its
        scale is rounded before it is added.
    backend : {"emulated", "reference"}
        Compiled, or NumPy: the same bits.

    Returns
    -------
    ndarray or jax.Array of float32, shape (M, N)
        ``total = fl32(total + fl32(a_scales * b_scales) * chain)`` over ascending blocks, from +0,
        then rounded to the output of the spec.

    Raises
    ------
    ValueError
        If shapes do not fit, the spec's schedule is not a promotion, or the backend is unknown.
    TypeError
        If an array is not float32, or a gradient is asked for: none is defined.

    Notes
    -----
    DeepGEMM's FP8 kernels compute this on Hopper. Their compiler may contract the addition or not;
    `contracts` says which. Special values and error as in `matmul` with promotion. Cost: as there,
    and 300 operations per block and output.

    Source: deepseek-ai/DeepGEMM, sm90_fp8_gemm_1d2d.cuh.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> ones = np.ones((1, 256), np.float32)
    >>> scales = np.array([[0.5, 2.0]], np.float32)
    >>> spec = "h100:e4m3:promote128"
    >>> ps.scaled_matmul(ones, ones.T, spec, a_scales=scales, b_scales=scales.T).item()
    544.0
    """
    spec = MatmulSpec.parse(spec)
    interval, _ = _block(spec)
    if backend not in ("emulated", "reference"):
        raise ValueError(f"backend is {shown(backend)}; allowed are 'emulated', 'reference'")
    named = {"a": a, "b": b, "a_scales": a_scales, "b_scales": b_scales}
    arrays = {name: as_carrier(x, name) for name, x in named.items()}
    for name, (x, carrier) in arrays.items():
        if carrier is not FLOAT32:
            raise TypeError(f"{name} has dtype {carrier.name}; allowed is float32")
        if x.ndim != 2:
            raise ValueError(f"{name} has shape {x.shape}; allowed are two dimensions")
    a, b, a_scales, b_scales = (x for x, _ in arrays.values())
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not match: K differs")
    blocks = -(-a.shape[1] // interval)
    for name, x, shape in (
        ("a_scales", a_scales, (a.shape[0], blocks)),
        ("b_scales", b_scales, (blocks, b.shape[1])),
    ):
        axis = 1 if name == "a_scales" else 0
        if x.shape[axis] != blocks or x.shape[1 - axis] not in (1, shape[1 - axis]):
            raise ValueError(
                f"{name} has shape {x.shape}; allowed is {shape}, or 1 instead of {shape[1 - axis]}"
            )
    if backend == "reference":
        x, y, s, t = map(np.asarray, (a, b, a_scales, b_scales))
        result = _promoted(x, y, s, t, spec, contracts)
        return namespace(a, b, a_scales, b_scales).asarray(result)
    run = partial(_compiled, spec, contracts)
    operands = a, b, a_scales, b_scales
    return run(*operands) if any(map(is_jax, operands)) else in_numpy(run, *operands)


@lru_cache(maxsize=1024)
def _block(spec: MatmulSpec) -> tuple[int, MatmulSpec]:
    """Return the length of a block and the spec of its product; refuse specs without promotion."""
    match spec.order:
        case FusedBlock(schedule=Promote(interval=interval)) as order:
            return interval, replace(spec, order=replace(order, schedule=FLAT), output=None)
        case _:
            raise ValueError(
                f"spec is '{spec}'; allowed are tensor cores with promotion, for example 'h100:e4m3:promote128'"
            )


def _promoted(
    a: Array, b: Array, a_scales: Array, b_scales: Array, spec: MatmulSpec, contracts: bool
) -> Array:
    """Add the scaled blocks, one after the other."""
    interval, part_of = _block(spec)
    run = reference_matmul if namespace(a, b) is np else emulated_matmul

    def multiply_block(a: Array, b: Array) -> Array:
        return run(a, b, None, part_of)

    if a.shape[-1]:
        total = add_stretches(
            a, b, a_scales, b_scales, stretch=interval, run=multiply_block, contracts=contracts
        )
    else:
        total = multiply_block(a, b)
    return total if spec.output is None else round_to(total, spec.output)


# Compiled outside the rule of differentiation, which makes a call from Python cheap.
@compiled(static_argnums=(0, 1))
def _compiled(
    spec: MatmulSpec, contracts: bool, a: Array, b: Array, a_scales: Array, b_scales: Array
) -> Array:
    return _without_gradient(a, b, a_scales, b_scales, spec, contracts)


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _without_gradient(
    a: Array, b: Array, a_scales: Array, b_scales: Array, spec: MatmulSpec, contracts: bool
) -> Array:
    run = partial(_promoted, spec=spec, contracts=contracts)
    return with_automatic_axes(run, a, b, a_scales, b_scales, contracted=(-1, -2))


@_without_gradient.defjvp
def _no_gradient(spec: MatmulSpec, contracts: bool, primals: Any, tangents: Any) -> Any:
    raise TypeError(
        "scaled_matmul has no gradient: say in a custom_vjp which scaled products the gradients are"
    )
