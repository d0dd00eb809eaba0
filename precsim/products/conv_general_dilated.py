"""A drop-in for `jax.lax.conv_general_dilated`, for the injection points of Flax and others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array, ArrayLike, JaxArray
from precsim._calls import compiled
from precsim.formats.arguments import integer, shown
from precsim.formats.carrier import as_carrier
from precsim.products.backends import Specs
from precsim.products.convolution import Groups, checked_groups, run_convolution
from precsim.products.drop_in import specs_of, widened
from precsim.products.operands import NO_NOISE, Noise, check_formats
from precsim.products.specs.spec import MatmulSpec
from precsim.products.windows import Shape, Windows


def conv_general_dilated(
    spec: str | MatmulSpec,
    *,
    dgrad: str | MatmulSpec | None = None,
    wgrad: str | MatmulSpec | None = None,
    backend: str = "auto",
) -> Callable[..., JaxArray]:
    """Return a function with the signature of `jax.lax.conv_general_dilated`, by a spec.

    Parameters
    ----------
    spec : str or MatmulSpec
        Formats and order of the sums.
    dgrad, wgrad : str or MatmulSpec, optional
        Specs of the gradients of the images and of the filters; `spec` by default.
    backend : {"auto", "emulated", "native"}
        As in `conv`.

    Returns
    -------
    callable
        ``f(lhs, rhs, window_strides, padding, lhs_dilation=None, rhs_dilation=None,
        dimension_numbers=None, feature_group_count=1, batch_group_count=1, precision=None,
        preferred_element_type=None, **ignored)``. Everything up to the groups means what it means
        there, for images of any number of dimensions. Operands, result and equality as in
        `dot_general`.

    Raises
    ------
    ValueError
        If the backend has no kernel for the spec.

    See Also
    --------
    conv : The same sums, with their order, gradients and tangents.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> f = ps.conv_general_dilated("fp16_fp16_fp16")
    >>> images, filters = jnp.ones((1, 4096, 1)), jnp.ones((1, 4096, 1))
    >>> f(images, filters, window_strides=(1,), padding="VALID").item()
    2048.0
    """
    return ConvGeneralDilated(specs_of("conv_general_dilated", spec, dgrad, wgrad, backend))


@dataclass(frozen=True, slots=True)
class ConvGeneralDilated:
    """A function with the signature of `jax.lax.conv_general_dilated`, equal for equal specs."""

    specs: Specs

    def __call__(
        self,
        lhs: ArrayLike,
        rhs: ArrayLike,
        window_strides: Sequence[int],
        padding: str | Sequence[tuple[int, int]],
        lhs_dilation: Sequence[int] | None = None,
        rhs_dilation: Sequence[int] | None = None,
        dimension_numbers: Any = None,
        feature_group_count: int = 1,
        batch_group_count: int = 1,
        precision: Any = None,
        preferred_element_type: Any = None,
        random_bits: Mapping[str, Array] | None = None,
        **ignored: Any,
    ) -> JaxArray:
        """Compute a convolution, whose dimensions are numbered as in `jax.lax`.

        `random_bits` is as in `conv`, its arrays in the order of the dimensions here.
        """
        x, w, dtype = widened(lhs, rhs, preferred_element_type)
        if x.dtype != w.dtype:
            raise TypeError(
                f"lhs has dtype {x.dtype}, rhs {w.dtype}; allowed is one dtype for both"
            )
        if x.ndim != w.ndim or x.ndim < 2:
            raise ValueError(
                f"shapes are {x.shape} and {w.shape}; allowed are two of as many dimensions, 2 or more"
            )
        numbers = lax.conv_dimension_numbers(x.shape, w.shape, dimension_numbers)
        of_images, of_filters, of_results = (_channels_last(spec) for spec in numbers)
        of_filters = (*of_filters[1:], of_filters[0])
        groups = checked_groups(feature_group_count, batch_group_count)
        images = tuple(x.shape[d] for d in of_images)
        filters = tuple(w.shape[d] for d in of_filters)
        if not groups.fit(images, filters):
            raise ValueError(
                f"shapes are {x.shape} and {w.shape}; allowed are (batch, *image, channels) and "
                f"(*window, channels, filters) in the order of dimension_numbers{groups}"
            )
        image, window = images[1:-1], filters[:-2]
        steps = (
            _steps(value, name, len(image))
            for name, value in (
                ("window_strides", window_strides),
                ("lhs_dilation", lhs_dilation),
                ("rhs_dilation", rhs_dilation),
            )
        )
        name = padding.upper() if isinstance(padding, str) else padding
        windows = Windows.over(image, window, name, *steps)
        axes = of_images, of_filters, tuple(int(n) for n in np.argsort(of_results))
        noise = NO_NOISE if random_bits is None else Noise(**random_bits)
        check_formats(self.specs, as_carrier(x)[1], "lhs", noise)
        return _compiled(x, w, noise, self.specs, windows, groups, axes, dtype)


def _channels_last(dimensions: Sequence[int]) -> Shape:
    """Return the axes of (batch, channels, *image) as (batch, *image, channels)."""
    first, channels, *image = dimensions
    return (first, *image, channels)


def _steps(value: Sequence[int] | None, argument: str, rank: int) -> Shape:
    if value is None:
        return (1,) * rank
    steps = tuple(integer(n, argument, 1) for n in value)
    if len(steps) != rank:
        raise ValueError(f"{argument} is {shown(value)}; allowed are {rank} integers from 1 on")
    return steps


@compiled(static_argnums=(3, 4, 5, 6, 7))
def _compiled(
    x: Array,
    w: Array,
    noise: Noise,
    specs: Specs,
    windows: Windows,
    groups: Groups,
    axes: tuple[Shape, Shape, Shape],
    dtype: Any,
) -> JaxArray:
    images, filters = x.transpose(axes[0]), w.transpose(axes[1])
    # Of the result, of the images and of the filters, each brought to its own order.
    orders = tuple(int(n) for n in np.argsort(axes[2])), axes[0], axes[1]
    pairs = zip(noise, orders, strict=True)
    noise = Noise(*(None if bits is None else bits.transpose(order) for bits, order in pairs))
    y = run_convolution(images, filters, noise, specs, windows, groups)
    return jnp.asarray(y.transpose(axes[2]), dtype)
