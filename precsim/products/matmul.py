"""`matmul`: one function for every spec and backend."""

from collections.abc import Mapping
from typing import Any, TypeAlias, TypedDict, Unpack, overload

import numpy as np

from precsim._arrays import (
    Array,
    ArrayLike,
    JaxArray,
    NumPyLike,
    as_integers,
    is_array,
    is_traced,
    namespace,
)
from precsim.formats.carrier import FLOAT32, as_carrier, exactly
from precsim.formats.scaled import scaled_format
from precsim.products.backends import resolve_backend
from precsim.products.reference import reference_matmul
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.kernel.limits import limits
from precsim.rounding.modes import RoundingMode
from precsim.rounding.random_bits import beside

RandomBits: TypeAlias = ArrayLike | Mapping[str, ArrayLike] | None
"""Of one result, or of a result and its gradients by name."""


class Options(TypedDict, total=False):
    """What `matmul` takes by name."""

    c: ArrayLike | None
    dgrad: str | MatmulSpec | None
    wgrad: str | MatmulSpec | None
    backend: str
    random_bits: RandomBits


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
) -> Array:
    """Return c + a @ b, with every rounding and the order of the sums as a spec says.

    Parameters
    ----------
    a : array_like of float, shape (..., M, K) or (K,)
        Left operand, float32 or float64.
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
    product with M * batch rows.

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
    forward = MatmulSpec.parse(spec)
    resolve_backend(forward, backend)
    a, b, c, is_vector = _operands(a, b, c)
    gradients = MatmulSpec.parse(dgrad or forward), MatmulSpec.parse(wgrad or forward)
    noise = _noise(random_bits, (forward, *gradients), a, b, is_vector)
    _check_formats(forward, a, noise.get("forward"))
    if c is not None and forward.has_tensor_scale:
        raise ValueError(
            f"c is given; allowed for '{forward}' is None, since its sums are multiplied by the scales of the "
            "arrays at the end"
        )
    if backend == "reference":
        if any(map(is_traced, (a, b, c, *noise.values()))):
            raise ValueError(
                "backend is 'reference', which runs in NumPy; allowed under jax.jit and jax.grad are 'auto', "
                "'emulated', 'native'"
            )
        first = None if c is None else np.asarray(c)
        total = reference_matmul(np.asarray(a), np.asarray(b), first, forward, noise.get("forward"))
        result = namespace(a, b, c).asarray(total)
    else:
        from precsim.products.product import Specs, run_matmul

        specs = Specs.resolve(forward, *gradients, backend)
        result = run_matmul(a, b, c, noise, specs)
    for axis in is_vector:
        result = result.squeeze(axis)
    return result


def _operands(
    a: ArrayLike, b: ArrayLike, c: ArrayLike | None
) -> tuple[Array, Array, Array | None, list[int]]:
    """Bring operands to two dimensions at least, and check their shapes and dtypes."""
    a, carrier = as_carrier(a, "a")
    b, carrier_b = as_carrier(b, "b")
    if carrier is not carrier_b:
        raise TypeError(
            f"a has dtype {carrier.name}, b {carrier_b.name}; allowed is one dtype for both"
        )
    if 0 in (a.ndim, b.ndim):
        raise ValueError(
            f"shapes are {a.shape} and {b.shape}; allowed are operands of 1 dimension or more"
        )
    is_vector = [-2] * (a.ndim == 1) + [-1] * (b.ndim == 1)
    shapes = a.shape, b.shape
    a = a[None, :] if a.ndim == 1 else a
    b = b[:, None] if b.ndim == 1 else b
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"shapes {shapes[0]} and {shapes[1]} do not match: K is {a.shape[-1]} in a, {b.shape[-2]} in b"
        )
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(
            f"batch dimensions of {shapes[0]} and {shapes[1]} do not broadcast"
        ) from None
    if c is not None:
        c = c if is_array(c) else exactly(c, carrier.float_dtype, "c")
        c, carrier_c = as_carrier(c, "c")
        if carrier_c is not carrier:
            raise TypeError(
                f"c has dtype {carrier_c.name}; allowed is that of a and b, {carrier.name}"
            )
        for axis in is_vector[::-1]:
            c = namespace(c).expand_dims(c, axis) if c.ndim else c
        shape = (*batch, a.shape[-2], b.shape[-1])
        try:
            c = namespace(c).broadcast_to(c, shape)
        except ValueError:
            raise ValueError(
                f"c has shape {c.shape}; allowed is what broadcasts to {shape}"
            ) from None
    return a, b, c, sorted(is_vector)


def _noise(
    random_bits: Any, specs: tuple[MatmulSpec, ...], a: Array, b: Array, is_vector: list[int]
) -> dict[str, Array]:
    """Check random bits and broadcast them to the results of the product and of its gradients."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shapes = (
        (*batch, a.shape[-2], b.shape[-1]),
        (*batch, *a.shape[-2:]),
        b.shape if b.ndim == 2 else (*batch, *b.shape[-2:]),
    )
    missing = {"forward": (-2, -1), "dgrad": (-2,), "wgrad": (-1,)}
    checked = {}
    for key, (given, shape) in checked_bits(random_bits, specs, shapes, (a, b)).items():
        axes = [axis for axis in is_vector[::-1] if axis in missing[key]] if given.ndim else []
        bits = namespace(given).expand_dims(given, axes) if axes else given
        try:
            checked[key] = namespace(bits).broadcast_to(bits, shape)
        except ValueError:
            raise ValueError(
                f"random_bits ({key}) has shape {given.shape}; allowed is what broadcasts to {shape}"
            ) from None
    return checked


def checked_bits(
    random_bits: Any,
    specs: tuple[MatmulSpec, ...],
    shapes: tuple[tuple[int, ...], ...],
    operands: tuple[Array, ...],
) -> dict[str, tuple[Array, tuple[int, ...]]]:
    """Return the random bits of the product and of both gradients, each with its result's shape."""
    noise = random_bits if isinstance(random_bits, Mapping) else {"forward": random_bits}
    results = dict(zip(("forward", "dgrad", "wgrad"), zip(specs, shapes, strict=True), strict=True))
    if unknown := set(noise) - set(results):
        raise ValueError(
            f"random_bits has keys {sorted(unknown)}; allowed are {', '.join(results)}"
        )
    checked = {}
    for key, (spec, shape) in results.items():
        if noise.get(key) is None:
            continue
        bits = as_integers(noise[key], f"random_bits ({key})")
        needed = 0 if spec.output is None else spec.output.num_random_bits
        if 8 * bits.dtype.itemsize < needed:
            raise ValueError(
                f"random_bits ({key}) has dtype {bits.dtype}; allowed are integers of at least the "
                f"{needed} bits that the output of '{spec}' uses"
            )
        checked[key] = beside(bits, operands, as_carrier(operands[0])[1]), shape
    return checked


def _check_formats(spec: MatmulSpec, a: Array, random_bits: Any) -> None:
    carrier = as_carrier(a)[1]
    if isinstance(spec.order, FusedBlock) and carrier is not FLOAT32:
        raise TypeError(f"a has dtype {carrier.name}; allowed for '{spec}' is float32")
    for part in (spec.lhs, spec.rhs, spec.product, spec.adder, spec.accumulator, spec.output):
        if part is not None and scaled_format(part.format) is None:
            limits(part, carrier)
    for name in ("output", "accumulator"):
        part = getattr(spec, name)
        is_random = part is not None and part.mode is RoundingMode.STOCHASTIC
        if is_random and random_bits is None:
            raise ValueError(
                f"random_bits is missing: the {name} of '{spec}' is rounded stochastically"
            )
