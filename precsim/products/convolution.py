"""Convolutions as matrix products over patches, forward and both gradients."""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precsim._arrays import Array, ArrayLike, is_jax
from precsim._calls import compiled, in_numpy
from precsim._linear import linear_map, tangent_sum
from precsim.formats.arguments import integer, shown
from precsim.formats.carrier import as_carrier
from precsim.products.backends import Specs
from precsim.products.native.convolution import native_convolution
from precsim.products.operands import Noise, RandomBits, check_formats, checked_bits
from precsim.products.product import run_product
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.windows import (
    Shape,
    Windows,
    as_rows,
    flipped,
    join_last,
    patches,
    split_last,
)


class Groups(NamedTuple):
    """How many convolutions there are side by side, each of a share of the filters."""

    features: int = 1
    """Each takes its share of the channels."""
    batch: int = 1
    """Each takes its share of the images."""

    def fit(self, images: Shape, filters: Shape) -> bool:
        """Return whether shapes with the channels last match, and divide into the groups."""
        return (
            len(images) == len(filters)
            and images[-1] == filters[-2] * self.features
            and images[0] % self.batch == 0
            and filters[-1] % (self.features * self.batch) == 0
        )

    def __str__(self) -> str:
        """Return what an error about shapes says at its end."""
        if self == (1, 1):
            return ""
        return f"; feature_group_count is {self.features}, batch_group_count {self.batch}"


NO_GROUPS = Groups()


def checked_groups(features: Any, batch: Any) -> Groups:
    """Return the groups; refuse both kinds at once."""
    groups = Groups(
        integer(features, "feature_group_count", 1), integer(batch, "batch_group_count", 1)
    )
    if groups.features > 1 and groups.batch > 1:
        raise ValueError(
            f"feature_group_count is {groups.features}, batch_group_count {groups.batch}; allowed "
            "is one of them above 1"
        )
    return groups


def conv(
    x: ArrayLike,
    w: ArrayLike,
    spec: str | MatmulSpec,
    *,
    stride: int | Sequence[int] = 1,
    padding: str | Sequence[tuple[int, int]] = "SAME",
    lhs_dilation: int | Sequence[int] = 1,
    rhs_dilation: int | Sequence[int] = 1,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
    random_bits: RandomBits = None,
) -> Array:
    """Convolve images with filters (cross-correlation, as in deep learning).

    Parameters
    ----------
    x : array_like of float, shape ``(batch, *image, channels)``
        Images of 1 to 3 dimensions, float32 or float64.
    w : array_like of float, shape ``(*window, channels / feature_group_count, filters)``
        Filters, of the same dtype.
    spec : str or MatmulSpec
        Formats and order: each output is a sum over the places of the window, row-major, and for
        each place over the channels.
    stride : int or sequence of int
        Step between outputs, in every dimension of the image or for each of them.
    padding : {"SAME", "VALID", "SAME_LOWER"} or sequence of pairs of int
        As in `jax.lax.conv_general_dilated`; negative numbers cut from the image.
    lhs_dilation, rhs_dilation : int or sequence of int
        Steps between the pixels of the image, with zeros in between, and of the window.
    feature_group_count, batch_group_count : int
        The number of groups of filters, each of which takes its share of the channels (as many
        groups as channels: depthwise), or of the images. One of the two is 1.
    dgrad, wgrad : str or MatmulSpec, optional
        Specs of the gradients of `x` and `w`; `spec` by default.
    backend : {"auto", "emulated", "native"}
        As in `matmul`. "native" is XLA's own convolution of the rounded operands, with float32
        accumulation; its gradients are such convolutions too.
    random_bits : array of int or mapping, optional
        For outputs in mode sr, as in `matmul`; shapes of the result, of `x` and of `w`.

    Returns
    -------
    ndarray or jax.Array, shape ``(batch / batch_group_count, *image', filters)``
        The convolution, in the operands' dtype; jax if an operand is.

    Raises
    ------
    ValueError
        If shapes, steps, groups or padding are not allowed, or random bits are missing.
    TypeError
        If a spec takes float32 only, as tensor cores and scales of whole arrays do.

    Notes
    -----
    Padding and dilation add zeros, which take part in the sums: they change no finite sum, and
    beside an infinite or NaN weight they give NaN, as in `jax.lax.conv_general_dilated` on a CPU.
    The zeros that a stride above 1 puts between the cotangents, for the gradient of `x`, do the
    same.

    Gradients: that of `x` is itself a convolution of the (dilated) cotangent with the flipped
    filters, so each of its elements is one sum over (place, filter) in the order of `dgrad`; that
    of `w` sums over (image, place of the result). Tangents are convolutions by `spec`, as in
    `matmul`. Error and cost as in `matmul`, too.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> x, w = jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1))
    >>> ps.conv(x, w, "bf16_bf16_fp32")[0, :, :, 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]

    One filter for each of two channels, of images of one dimension:

    >>> x, w = jnp.asarray([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]]), jnp.ones((2, 1, 2))
    >>> ps.conv(x, w, "bf16_bf16_fp32", padding="VALID", feature_group_count=2)[0].tolist()
    [[3.0, 30.0], [5.0, 50.0]]
    """
    specs = Specs.resolve(spec, dgrad, wgrad, backend)
    x, carrier = as_carrier(x)
    w, carrier_w = as_carrier(w, "w")
    if carrier is not carrier_w:
        raise TypeError(
            f"x has dtype {carrier.name}, w {carrier_w.name}; allowed is one dtype for both"
        )
    groups = checked_groups(feature_group_count, batch_group_count)
    rank = x.ndim - 2
    if not 1 <= rank <= 3 or not groups.fit(x.shape, w.shape):
        raise ValueError(
            f"shapes are {x.shape} and {w.shape}; allowed are (batch, *image, channels) and "
            f"(*window, channels, filters), images of 1 to 3 dimensions{groups}"
        )
    stride, lhs_dilation, rhs_dilation = (
        _steps(value, name, rank)
        for name, value in (
            ("stride", stride),
            ("lhs_dilation", lhs_dilation),
            ("rhs_dilation", rhs_dilation),
        )
    )
    if backend == "reference":
        raise ValueError(
            "backend is 'reference'; allowed for conv are 'auto', 'emulated', 'native'"
        )
    image, window = x.shape[1:-1], w.shape[:-2]
    windows = Windows.over(image, window, padding, stride, lhs_dilation, rhs_dilation)
    shape = (x.shape[0] // groups.batch, *windows.counts(image, window), w.shape[-1])
    bits = {}
    checked = checked_bits(random_bits, specs.products, (shape, x.shape, w.shape), (x, w))
    for key, (given, allowed) in checked.items():
        if given.shape != allowed:
            raise ValueError(f"random_bits ({key}) has shape {given.shape}; allowed is {allowed}")
        bits[key] = given
    noise = Noise(**bits)
    check_formats(specs, carrier, "x", noise)
    if any(map(is_jax, (x, w, *noise))):
        return run_convolution(x, w, noise, specs, windows, groups)

    def run(x: Array, w: Array, *noise: Array | None) -> Array:
        return run_convolution(x, w, Noise(*noise), specs, windows, groups)

    return in_numpy(run, x, w, *noise)


def _steps(value: Any, argument: str, rank: int) -> Shape:
    """Return one step for each dimension of the image."""
    steps = tuple(value) if isinstance(value, (list, tuple)) else (value,) * rank
    allowed = [not isinstance(n, bool) and hasattr(n, "__index__") and n >= 1 for n in steps]
    if len(steps) != rank or not all(allowed):
        raise ValueError(
            f"{argument} is {shown(value)}; allowed is one integer from 1 on, or {rank} of them, one "
            "for each dimension of the image"
        )
    return tuple(map(operator.index, steps))


# Compiled outside the rule of differentiation, which makes a call from Python cheap.
@compiled(static_argnums=(3, 4, 5))
def run_convolution(
    x: Array, w: Array, noise: Noise, specs: Specs, windows: Windows, groups: Groups
) -> Array:
    """Run a checked convolution of JAX arrays, of images with the channels last."""
    if groups == NO_GROUPS:
        return _convolve(x, w, noise, specs, windows)
    count = groups.features * groups.batch
    by_features = partial(split_last, groups=count)

    def by_batch(x: Array) -> Array:
        return x.reshape(count, x.shape[0] // count, *x.shape[1:])

    of_images = by_features if groups.features > 1 else by_batch
    ways = by_features, of_images, by_features
    noise = Noise(*(None if n is None else f(n) for f, n in zip(ways, noise, strict=True)))
    return join_last(_convolve(of_images(x), by_features(w), noise, specs, windows))


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _convolve(x: Array, w: Array, noise: Noise, specs: Specs, windows: Windows) -> Array:
    """Convolve images ([groups], batch, *image, C) with filters ([groups], *window, C, F)."""
    spec, bits = specs.forward, noise.forward
    image, window, lead = _sizes(x, w, windows)
    shape = (*x.shape[: lead + 1], *windows.counts(image, window), w.shape[-1])
    if _is_native(specs.backend, spec, x, w):
        return native_convolution(x, w, spec, windows, bits)
    rows = as_rows(patches(x, window, windows), lead)
    bits = None if bits is None else as_rows(bits, lead)
    y = run_product(rows, as_rows(w, lead), None, spec, bits, backend=specs.backend)
    return y.reshape(shape)


@partial(_convolve.defjvp, symbolic_zeros=True)
def _tangent(
    specs: Specs, windows: Windows, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    x, w, noise = primals
    dx, dw, _ = tangents
    y = _convolve(x, w, noise, specs, windows)
    image, window, _ = _sizes(x, w, windows)
    of_x = partial(_of_images, specs, windows), partial(_to_images, specs, windows, image)
    of_w = partial(_of_filters, specs, windows), partial(_to_filters, specs, windows, window)
    return y, tangent_sum(
        y,
        [
            (dx, lambda dx: linear_map(*of_x, (w, noise.dgrad), dx, like=y)),
            (dw, lambda dw: linear_map(*of_w, (x, noise.wgrad), dw, like=y)),
        ],
    )


Factor = tuple[Array, Array | None]
"""The other operand of a convolution, and the random bits of a gradient."""


def _of_images(specs: Specs, windows: Windows, factor: Factor, x: Array) -> Array:
    return _again(x, factor[0], None, specs.tangent, specs, windows)


def _of_filters(specs: Specs, windows: Windows, factor: Factor, w: Array) -> Array:
    return _again(factor[0], w, None, specs.tangent, specs, windows)


def _to_images(specs: Specs, windows: Windows, image: Shape, factor: Factor, g: Array) -> Array:
    """Return the gradient of the images: a convolution with the flipped filters."""
    w, bits = factor
    rank = len(image)
    back = windows.of_cotangents(image, w.shape[-2 - rank : -2])
    return _again(g, flipped(w, rank), bits, specs.dgrad, specs, back)


def _to_filters(specs: Specs, windows: Windows, window: Shape, factor: Factor, g: Array) -> Array:
    """Return the gradient of the filters: sums over images and places, in this order."""
    x, bits = factor
    lead = x.ndim - 2 - len(window)
    if _is_native(specs.backend, specs.wgrad, x, g):
        back = windows.of_filters(x.shape[lead + 1 : -1], window)
        bits = None if bits is None else jnp.moveaxis(bits, -2, lead)
        pixels, weights = x.swapaxes(lead, -1), jnp.moveaxis(g, lead, -2)
        dw = _again(pixels, weights, bits, specs.wgrad, specs, back)
        return jnp.moveaxis(dw, lead, -2)
    rows = as_rows(patches(x, window, windows), lead)
    bits = None if bits is None else as_rows(bits, lead)
    dw = run_product(rows.mT, as_rows(g, lead), None, specs.wgrad, bits, backend=specs.backend)
    return dw.reshape(*x.shape[:lead], *window, x.shape[-1], g.shape[-1])


def _again(
    x: Array, w: Array, bits: Array | None, spec: MatmulSpec, specs: Specs, windows: Windows
) -> Array:
    """Convolve by one spec, gradients too."""
    return _convolve(x, w, Noise(bits), Specs(spec, spec, spec, specs.backend), windows)


def _sizes(x: Array, w: Array, windows: Windows) -> tuple[Shape, Shape, int]:
    """Return the sizes of image and window, and the number of dimensions before the batch."""
    lead = x.ndim - 2 - len(windows.strides)
    return x.shape[lead + 1 : -1], w.shape[lead:-2], lead


def _is_native(backend: str, spec: MatmulSpec, x: Array, w: Array) -> bool:
    """Return whether one of the platform's convolutions runs, else a product over patches."""
    return backend == "native" and not isinstance(spec.order, FusedBlock) and bool(x.size * w.size)
