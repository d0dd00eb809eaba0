"""The windows of a convolution: where they lie, and what they hold, in all dimensions of an image.

An image has shape (..., *image, channels) and filters (..., *window, channels, filters), with equal
dimensions before those.
"""

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim.formats.arguments import shown

Shape = tuple[int, ...]

_SLICES = 128
"""The most pixels of a window that are slices of their own, which XLA joins with the product."""

_NAMES = ("SAME", "VALID", "SAME_LOWER")
_PADDINGS = ", ".join(map(repr, _NAMES)) + ", and a pair of integers (low, high) for each dimension"


@dataclass(frozen=True, slots=True)
class Windows:
    """The numbers of a convolution, one for each dimension of the image; static under jit.

    Parameters
    ----------
    strides : tuple of int
        Steps between windows.
    padding : tuple of pairs of int
        Zeros before and after the image; negative numbers cut from it.
    lhs_dilation, rhs_dilation : tuple of int
        Steps between the pixels of the image, with zeros in between, and between those of a window.
    """

    strides: Shape
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: Shape
    rhs_dilation: Shape

    @classmethod
    def over(
        cls,
        image: Shape,
        window: Shape,
        padding: Any = "SAME",
        strides: Shape = (),
        lhs_dilation: Shape = (),
        rhs_dilation: Shape = (),
    ) -> "Windows":
        """Return the windows over images of this size; steps are 1 by default.

        Padding is "SAME", "SAME_LOWER", "VALID" or a pair of integers for each dimension.
        """
        ones = (1,) * len(image)
        strides, spread, reach = strides or ones, lhs_dilation or ones, rhs_dilation or ones
        if isinstance(padding, str):
            if spread != ones:
                raise ValueError(
                    f"padding is {shown(padding)} beside a dilated image; allowed is a pair of "
                    "integers (low, high) for each dimension"
                )
            pads = _named_padding(padding, image, map(dilated, window, reach), strides)
        else:
            pads = _pairs(padding, len(image))
        windows = cls(strides, pads, spread, reach)
        if min(windows.padded(image), default=0) < 0:
            raise ValueError(
                f"padding is {shown(padding)}, which cuts more from the image {image} than there is"
            )
        return windows

    def padded(self, image: Shape) -> Shape:
        """Return the size of the image with all its zeros, without which it may be negative."""
        spread = map(dilated, image, self.lhs_dilation)
        return tuple(size + sum(pad) for size, pad in zip(spread, self.padding, strict=True))

    def counts(self, image: Shape, window: Shape) -> Shape:
        """Return the numbers of windows that lie inside."""
        reach = map(dilated, window, self.rhs_dilation)
        inside = zip(self.padded(image), reach, self.strides, strict=True)
        return tuple(max((max(size, 0) - r) // step + 1, 0) for size, r, step in inside)

    def times(self, image: Shape, window: Shape) -> np.ndarray:
        """Return how often each pixel of an image is in a window, int32 of shape (*image, 1)."""
        times = np.ones(1, np.int32)
        for n, count in reversed(list(enumerate(self.counts(image, window)))):
            starts = np.arange(count)[:, None] * self.strides[n] - self.padding[n][0]
            places = starts + np.arange(window[n]) * self.rhs_dilation[n]
            pixels = np.arange(image[n]) * self.lhs_dilation[n]
            of_line = (places.reshape(-1, 1) == pixels).sum(0, dtype=np.int32)
            times = of_line.reshape(-1, *[1] * times.ndim) * times
        return times

    def of_cotangents(self, image: Shape, window: Shape) -> "Windows":
        """Return the windows over the cotangents, of which the gradient of the image is the sums.

        The strides become zeros between the cotangents, and the filters are flipped.
        """
        pads = []
        for n, count in enumerate(self.counts(image, window)):
            reach = dilated(window[n], self.rhs_dilation[n])
            size = dilated(image[n], self.lhs_dilation[n]) + reach - 1
            before = reach - 1 - self.padding[n][0]
            pads.append((before, size - dilated(count, self.strides[n]) - before))
        return Windows(self.lhs_dilation, tuple(pads), self.strides, self.rhs_dilation)

    def of_filters(self, image: Shape, window: Shape) -> "Windows":
        """Return the windows, as large as the result, of which the gradient of filters is the sums.

        The cotangents are the filters; they reach as far as the strides take them.
        """
        pads = []
        for n, count in enumerate(self.counts(image, window)):
            before = self.padding[n][0]
            size = dilated(window[n], self.rhs_dilation[n]) + dilated(count, self.strides[n]) - 1
            pads.append((before, size - dilated(image[n], self.lhs_dilation[n]) - before))
        return Windows(self.rhs_dilation, tuple(pads), self.lhs_dilation, self.strides)


def _named_padding(
    padding: str, image: Shape, reach: Iterable[int], strides: Shape
) -> tuple[tuple[int, int], ...]:
    if padding not in _NAMES:
        raise ValueError(f"padding is {shown(padding)}; allowed are {_PADDINGS}")
    if padding == "VALID":
        return ((0, 0),) * len(image)
    steps = zip(image, reach, strides, strict=True)
    totals = [max((-(-size // s) - 1) * s + r - size, 0) for size, r, s in steps]
    less = [(total // 2, total - total // 2) for total in totals]
    return tuple(less) if padding == "SAME" else tuple((high, low) for low, high in less)


def _pairs(padding: Any, rank: int) -> tuple[tuple[int, int], ...]:
    try:
        pads = tuple((operator.index(low), operator.index(high)) for low, high in padding)
    except (TypeError, ValueError):
        pads = ((0, 0),) * (rank + 1)
    if len(pads) != rank:
        raise ValueError(f"padding is {shown(padding)}; allowed are {_PADDINGS}")
    return pads


def dilated(size: int, step: int) -> int:
    """Return the length of so many elements, this step apart."""
    return (size - 1) * step + 1 if size else 0


def patches(x: Array, window: Shape, windows: Windows) -> Array:
    """Return the windows of images, (..., *counts, pixels * channels): exact copies and zeros."""
    rank = len(window)
    first = x.ndim - 1 - rank
    counts = windows.counts(x.shape[first:-1], window)
    lead, channels = x.shape[:first], x.shape[-1]
    if not math.prod(counts) * math.prod(window):
        return jnp.zeros((*lead, *counts, math.prod(window) * channels), x.dtype)
    zeros = [(*pad, d - 1) for pad, d in zip(windows.padding, windows.lhs_dilation, strict=True)]
    if any(map(any, zeros)):
        whole = [(0, 0, 0)]
        x = lax.pad(x, jnp.zeros((), x.dtype), [*whole * first, *zeros, *whole])
    if math.prod(window) > _SLICES:
        return _taken(x, counts, window, windows).reshape(*lead, *counts, -1)
    # Dimension by dimension: 6 slices for windows of 3 x 3, not 9, each of them a kernel.
    for n in reversed(range(rank)):
        step, axis = windows.strides[n], first + n
        length = (counts[n] - 1) * step + 1
        starts = [place * windows.rhs_dilation[n] for place in range(window[n])]
        lines = [lax.slice_in_dim(x, start, start + length, step, axis) for start in starts]
        x = jnp.concatenate(lines, axis=-1)
    return x


def _taken(x: Array, counts: Shape, window: Shape, windows: Windows) -> Array:
    """Take the pixels of windows that are so large that slices would make a long program."""
    rank = len(window)
    first = x.ndim - 1 - rank
    for n in reversed(range(rank)):
        starts = np.arange(counts[n]) * windows.strides[n]
        places = starts[:, None] + np.arange(window[n]) * windows.rhs_dilation[n]
        x = jnp.take(x, places, axis=first + n, mode="clip")
    of_counts = [first + 2 * n for n in range(rank)]
    of_places = [axis + 1 for axis in of_counts]
    return x.transpose(*range(first), *of_counts, *of_places, x.ndim - 1)


def flipped(w: Array, rank: int) -> Array:
    """Return filters in reverse, with channels and filters exchanged."""
    axes = tuple(range(w.ndim - 2 - rank, w.ndim - 2))
    return jnp.flip(w, axes).swapaxes(-1, -2)


def as_rows(x: Array, lead: int = 0) -> Array:
    """Return an array as matrices: its last dimension, and all others after the first `lead`."""
    return x.reshape(*x.shape[:lead], math.prod(x.shape[lead:-1]), x.shape[-1])


def split_last(x: Array, groups: int) -> Array:
    """Divide the last dimension into groups, which become the first dimension."""
    x = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return jnp.moveaxis(x, -2, 0)


def join_last(x: Array) -> Array:
    """Undo `split_last`."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
