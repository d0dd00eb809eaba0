"""Convolutions as matrix products over patches, forward and both gradients."""

import math
import operator
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array, ArrayLike, is_jax
from precsim._calls import compiled, in_numpy
from precsim.formats.arguments import shown
from precsim.formats.carrier import as_carrier
from precsim.products.backends import Specs
from precsim.products.operands import Noise, RandomBits, checked_bits
from precsim.products.product import run_product
from precsim.products.specs.spec import MatmulSpec

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv(
    x: ArrayLike,
    w: ArrayLike,
    spec: str | MatmulSpec,
    *,
    stride: int = 1,
    padding: str = "SAME",
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
    random_bits: RandomBits = None,
) -> Array:
    """Convolve images with filters (cross-correlation, as in deep learning).

    Parameters
    ----------
    x : array_like of float, shape (batch, height, width, channels)
        Images, float32 or float64.
    w : array_like of float, shape (rows, columns, channels, filters)
        Filters, of the same dtype.
    spec : str or MatmulSpec
        Formats and order: each output is a sum over (row, column, channel), in this order.
    stride : int
        Step between outputs, in both directions.
    padding : {"SAME", "VALID"}
        As in `jax.lax.conv_general_dilated`.
    dgrad, wgrad : str or MatmulSpec, optional
        Specs of the gradients of `x` and `w`; `spec` by default.
    backend : {"auto", "emulated", "native"}
        As in `matmul`.
    random_bits : array of int or mapping, optional
        For outputs in mode sr, as in `matmul`; shapes of the result, of `x` and of `w`.

    Returns
    -------
    ndarray or jax.Array, shape (batch, height', width', filters)
        The convolution, in the operands' dtype; jax if an operand is.

    Raises
    ------
    ValueError
        If shapes, stride or padding are not allowed.

    Notes
    -----
    Padding adds zeros, which take part in the sums: they change no finite sum, and beside an
    infinite or NaN weight they give NaN, as in `jax.lax.conv_general_dilated` on a CPU. The zeros
    that a stride above 1 puts between the cotangents, for the gradient of `x`, do the same. The
    gradient of `x` is itself a convolution of the (dilated) cotangent with the flipped filters, so
    each of its elements is one sum over (row, column, filter) in the order of `dgrad`; the gradient
    of `w` sums over (image, row, column). Error and cost as in `matmul`.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> x, w = jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1))
    >>> ps.conv(x, w, "bf16_bf16_fp32")[0, :, :, 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    specs = Specs.resolve(spec, dgrad, wgrad, backend)
    x, carrier = as_carrier(x)
    w, carrier_w = as_carrier(w, "w")
    if carrier is not carrier_w:
        raise TypeError(
            f"x has dtype {carrier.name}, w {carrier_w.name}; allowed is one dtype for both"
        )
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(
            f"shapes are {x.shape} and {w.shape}; allowed are (batch, height, width, channels) and "
            "(rows, columns, channels, filters)"
        )
    if isinstance(stride, bool) or not hasattr(stride, "__index__") or stride < 1:
        raise ValueError(
            f"stride is {shown(stride)}; allowed is one integer from 1 on, the step in both directions"
        )
    stride = operator.index(stride)
    if backend == "reference":
        raise ValueError(
            "backend is 'reference'; allowed for conv are 'auto', 'emulated', 'native'"
        )
    pads = _paddings(padding, x, w, stride)
    shapes = (_output_shape(x, w, stride, pads), x.shape, w.shape)
    bits = {}
    for key, (given, shape) in checked_bits(random_bits, specs.products, shapes, (x, w)).items():
        if given.shape != shape:
            raise ValueError(f"random_bits ({key}) has shape {given.shape}; allowed is {shape}")
        bits[key] = given
    noise = Noise(**bits)
    if any(map(is_jax, (x, w, *noise))):
        return _compiled(x, w, noise, specs, stride, pads)

    def run(x: Array, w: Array, *noise: Array | None) -> Array:
        return _compiled(x, w, Noise(*noise), specs, stride, pads)

    return in_numpy(run, x, w, *noise)


# Compiled outside the rule of differentiation, which makes a call from Python cheap.
@compiled(static_argnums=(3, 4, 5))
def _compiled(x: Array, w: Array, noise: Noise, specs: Specs, stride: int, pads: Padding) -> Array:
    return _conv(x, w, noise, specs, stride, pads)


def _padding(padding: str, size: int, window: int, stride: int) -> tuple[int, int]:
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        return total // 2, total - total // 2
    raise ValueError(f"padding is {shown(padding)}; allowed are 'SAME', 'VALID'")


def _paddings(padding: str, x: Array, w: Array, stride: int) -> Padding:
    rows, columns = (_padding(padding, x.shape[d], w.shape[d - 1], stride) for d in (1, 2))
    return rows, columns


def _count(size: int, window: int, stride: int) -> int:
    """Return the number of windows that lie inside."""
    return max((size - window) // stride + 1, 0)


def _output_shape(x: Array, w: Array, stride: int, pads: Padding) -> tuple[int, ...]:
    size = (_count(x.shape[d] + sum(pads[d - 1]), w.shape[d - 1], stride) for d in (1, 2))
    return (x.shape[0], *size, w.shape[3])


def _rows(x: Array) -> Array:
    """Return an array as a matrix: its last dimension, and all others."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def patches(x: Array, rows: int, columns: int, stride: int) -> Array:
    """Return the windows of images (B, H, W, C): (B, H', W', rows * columns * C), exact copies."""
    height, width = (_count(x.shape[1], rows, stride), _count(x.shape[2], columns, stride))
    if not height * width * rows * columns:
        return jnp.zeros((x.shape[0], height, width, rows * columns * x.shape[3]), x.dtype)
    windows = [
        x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
        for i in range(rows)
        for j in range(columns)
    ]
    return jnp.concatenate(windows, axis=-1)


def forward_patches(x: Array, w: Array, stride: int = 1, pads: Padding | None = None) -> Array:
    """Return the rows of the product ``patches @ filters`` that is the convolution.

    The padding is "SAME" by default.
    """
    rows, columns = w.shape[:2]
    pads = pads or _paddings("SAME", x, w, stride)
    windows = patches(jnp.pad(x, ((0, 0), *pads, (0, 0))), rows, columns, stride)
    return _rows(windows)


def backward_patches(
    g: Array, x: Array, w: Array, stride: int = 1, pads: Padding | None = None
) -> tuple[Array, Array]:
    """Return both factors of the product that is the gradient of `x`.

    They are patches of `g` and flipped filters. Zeros stand between the cotangents for the stride;
    then it is a full convolution.
    """
    rows, columns, channels, filters = w.shape
    pads = pads or _paddings("SAME", x, w, stride)
    if not g.shape[1] * g.shape[2]:
        nothing = jnp.zeros((math.prod(x.shape[:3]), rows * columns * filters), g.dtype)
        return nothing, w.transpose(0, 1, 3, 2).reshape(rows * columns * filters, channels)
    height, width = (x.shape[d] + sum(pads[d - 1]) for d in (1, 2))
    beyond = (
        size - (count - 1) * stride - 1
        for size, count in zip((height - rows + 1, width - columns + 1), g.shape[1:3], strict=True)
    )
    spread = [(0, rest, stride - 1) for rest in beyond]
    dilated = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    edge = ((0, 0), (rows - 1, rows - 1), (columns - 1, columns - 1), (0, 0))
    windows = patches(jnp.pad(dilated, edge), rows, columns, 1)
    top, left = pads[0][0], pads[1][0]
    around = windows[:, top : top + x.shape[1], left : left + x.shape[2]]
    flipped = w[::-1, ::-1].transpose(0, 1, 3, 2).reshape(rows * columns * filters, channels)
    return around.reshape(math.prod(x.shape[:3]), rows * columns * filters), flipped


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _conv(x: Array, w: Array, noise: Noise, specs: Specs, stride: int, pads: Padding) -> Array:
    bits = None if noise.forward is None else _rows(noise.forward)
    flat = forward_patches(x, w, stride, pads)
    y = run_product(flat, _rows(w), None, specs.forward, bits, backend=specs.backend)
    return y.reshape(_output_shape(x, w, stride, pads))


def _conv_forward(
    x: Array, w: Array, noise: Noise, specs: Specs, stride: int, pads: Padding
) -> tuple[Array, tuple[Array, Array, Noise]]:
    return _conv(x, w, noise, specs, stride, pads), (x, w, noise)


def _conv_backward(
    specs: Specs, stride: int, pads: Padding, residuals: tuple[Array, Array, Noise], g: Array
) -> tuple[Array, Array, None]:
    x, w, noise = residuals
    bits = None if noise.wgrad is None else _rows(noise.wgrad)
    flat = forward_patches(x, w, stride, pads)
    dw = run_product(flat.T, _rows(g), None, specs.wgrad, bits, backend=specs.backend)
    bits = None if noise.dgrad is None else _rows(noise.dgrad)
    around, flipped = backward_patches(g, x, w, stride, pads)
    dx = run_product(around, flipped, None, specs.dgrad, bits, backend=specs.backend)
    return dx.reshape(x.shape), dw.reshape(w.shape), None


_conv.defvjp(_conv_forward, _conv_backward)
