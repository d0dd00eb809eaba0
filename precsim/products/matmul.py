"""`matmul`: one function for every spec and backend."""

from collections.abc import Mapping
from typing import TypedDict, Unpack, overload

import numpy as np

from precsim._arrays import Array, ArrayLike, JaxArray, NumPyLike, is_traced, namespace
from precsim._calls import has_jax, require_jax
from precsim.products.backends import Specs
from precsim.products.operands import (
    Noise,
    Operands,
    RandomBits,
    as_operands,
    expanded,
    squeezed,
)
from precsim.products.reference import reference_matmul
from precsim.products.scaled.given import Given, GivenScales, as_given, of_product
from precsim.products.scaled.product import NO_SCALES
from precsim.products.specs.spec import MatmulSpec


class Options(TypedDict, total=False):
    """What `matmul` takes by name."""

    c: ArrayLike | None
    dgrad: str | MatmulSpec | None
    wgrad: str | MatmulSpec | None
    backend: str
    random_bits: RandomBits
    scales: GivenScales


@overload
def matmul(
    a: JaxArray, b: ArrayLike, spec: str | MatmulSpec, **options: Unpack[Options]
) -> JaxArray: ...
@overload
def matmul(
    a: ArrayLike, b: JaxArray, spec: str | MatmulSpec, **options: Unpack[Options]
) -> JaxArray: ...
@overload
def matmul(
    a: NumPyLike,
    b: NumPyLike,
    spec: str | MatmulSpec,
    *,
    c: NumPyLike | None = None,
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
    random_bits: NumPyLike | Mapping[str, NumPyLike] | None = None,
    scales: GivenScales = None,
) -> np.ndarray: ...
@overload
def matmul(
    a: ArrayLike, b: ArrayLike, spec: str | MatmulSpec, **options: Unpack[Options]
) -> Array: ...
def matmul(
    a: ArrayLike,
    b: ArrayLike,
    spec: str | MatmulSpec,
    *,
    c: ArrayLike | None = None,
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
    random_bits: RandomBits = None,
    scales: GivenScales = None,
) -> Array:
    """Return c + a @ b, with every rounding and the order of the sums as a spec says.

    Parameters
    ----------
    a : array_like of float, shape (..., M, K) or (K,)
        Left operand, float32 or float64; float32 alone for machines and other blocks of steps.
    b : array_like of float, shape (..., K, N) or (K,)
        Right operand, of the same dtype. Dimensions combine as in `jax.numpy.matmul`.
    spec : str or MatmulSpec
        Formats and order, for example "bf16_bf16_fp32" or "e4m3_e4m3_fp16->bf16".
    c : array_like of float, broadcastable to (..., M, N), optional
        First value of the accumulator, taken as it is; +0 by default.
    dgrad, wgrad : str or MatmulSpec, optional
        Specs of the gradients ``g @ b.T`` and ``a.T @ g`` of `a` and `b`; `spec` by default.
    backend : {"auto", "emulated", "native", "reference"}
        "reference": NumPy, the definition. "emulated": compiled, the same bits. "native": the
        platform's own kernel (narrow operands, float32 accumulation in an order of its own).
        "auto": native only where that is known to give the spec's bits, else emulated; see
        `resolve_backend`.
    random_bits : array of int, shape (..., M, N), or mapping, optional
        For an output in mode sr: its bits. For an accumulator in mode sr: one 32-bit seed per
        element, from which Threefry-2x32 derives the bits of step k (key: seed, counter: k).
        Elements with equal seeds have equal bits; of n random words about n**2 / 2**33 pairs are
        equal. A mapping with the keys "forward", "dgrad", "wgrad" serves the gradients too; its
        arrays have the shapes of the result, of `a` and of `b`.
    scales : mapping of str to Scale or number, optional
        Given scales of "a", "b" and the cotangent "g", for operands with one scale for the whole
        array ("int8", "e4m3:scale=tensor") in the product and its gradients; see `Scale`,
        `DelayedScale` and `calibrate`. Other scales follow from the operands.

    Returns
    -------
    ndarray or jax.Array, shape (..., M, N)
        The product; jax if an operand is, in the operands' dtype.

    Raises
    ------
    ValueError
        If shapes do not match, the backend is unknown or has no such formats, the carrier cannot
        hold a format, or random bits are missing.
    TypeError
        If the operands have dtypes that `round_to` does not take, or differ in carrier.

    Notes
    -----
    Each element is ``acc = fl(acc + a[k] * b[k])`` for ascending k, one rounding of the exact value
    per step (unless `product` or `adder` say otherwise). Special values: as in `fma`.

    Error: ``|result - exact| <= gamma(K, u) * |a| @ |b|`` for nearest rounding with the
    accumulator's unit roundoff u, without overflow, plus the rounding of operands and output (order
    "exact": one rounding of the exact product; the others: as in `accumulate`).

    Gradients: those of `a` and `b` are products with the specs `dgrad` and `wgrad`; that of `c` is
    the cotangent itself. Operand rounding is straight-through. Where batch dimensions broadcast,
    gradients are summed by JAX in its own order, but a 2-d `b` next to a batched `a` counts as one
    product with M * batch rows. With `scales` there are reverse-mode gradients only; what comes
    back for the scale of "g" is no derivative but the largest magnitude of the cotangent, which
    `DelayedScale` asks for; for other scales it is 0.

    Scaled operands (`MatmulSpec`): each is quantized along its contracted axis; a scale "tensor" is
    that of a whole operand, batch dimensions included, and of one example under `jax.vmap`.

    Tangents (forward mode): ``da @ b`` and ``a @ db`` by `spec`, added to that of `c` in the
    carrier. They are rounded to nearest where `spec` is stochastic. A gradient and the tangent are
    each other's transposes, so the second derivative of one is the other.

    Cost per product a[k] * b[k] (emulated, sequential): 2 operations for fp32 accumulators and
    operands of 12 bits, 6 to 12 with a float32 adder, 18 to 47 for narrow accumulators, 51 for fp32
    operands, 270 to 340 for everything else and for operands whose products leave float32's normal
    range, 470 for stochastic accumulators. Other orders: blocks 290, "pairwise" 380, "kahan" 1,040,
    "two_sum" 1,700, "exact" 60 (e4m3), 100 (fp16) or 400 (bf16, fp32), tensor cores 6 to 35 and a
    rounding per step.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> ones = np.ones((1, 4096), np.float32)
    >>> [ps.matmul(ones, ones.T, spec).item() for spec in ("fp16_fp16_fp16", "fp16_fp16_fp32")]
    [2048.0, 4096.0]
    """
    if backend in ("emulated", "native"):
        require_jax(f"backend '{backend}'")
    specs = Specs.resolve(spec, dgrad, wgrad, backend)
    operands = as_operands(a, b, c, random_bits, specs)
    given = None if scales is None else as_given(scales, specs)
    if backend == "reference" or (backend == "auto" and not has_jax()):
        return _reference(operands, specs, given)
    if given is not None:
        from precsim.products.scaled.differentiated import run_with_scales

        return run_with_scales(operands, given, specs)
    from precsim.products.product import run_matmul  # which loads JAX

    return run_matmul(operands, specs)


def _reference(operands: Operands, specs: Specs, given: Given | None) -> Array:
    arrays = *operands[:3], *operands.noise
    if any(map(is_traced, arrays)):
        raise ValueError(
            "backend is 'reference', which runs in NumPy; allowed under jax.jit and jax.grad are 'auto', "
            "'emulated', 'native'"
        )
    a, b = np.asarray(operands.a), np.asarray(operands.b)
    c, *noise = (None if x is None else np.asarray(x) for x in arrays[2:])
    there = expanded(Operands(a, b, c, Noise(*noise)))
    spec = specs.forward
    scales = NO_SCALES if given is None else of_product(given.a, given.b, spec)
    total = reference_matmul(there.a, there.b, there.c, spec, there.noise.forward, scales)
    return namespace(*arrays[:3]).asarray(squeezed(total, a, b))
