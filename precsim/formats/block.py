"""Block-scaled formats: narrow elements that share a scale (OCP MX, NVFP4)."""

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar

from precsim.formats.arguments import integer, member
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import FloatFormat
from precsim.formats.layout import Layout
from precsim.formats.notebook import InNotebooks
from precsim.formats.numbers import Format, number_format

LARGEST_WIDTH = 16
"""Codes of elements and scales have at most this many bits."""


class ScaleRule(enum.StrEnum):
    """How the scale of a block follows from its largest magnitude, amax.

    Below, max is the largest element value and emax its exponent. The scale saturates: at the
    largest value of its format, and at the smallest if the format has no zero.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.get_format("mxfp4").scale_rule is ps.ScaleRule.FLOOR
    True
    """

    FLOOR = "floor"
    """2**(floor(log2(amax)) - emax) (OCP MX 1.0, 6.3): elements beyond max * scale saturate."""
    CEIL = "ceil"
    """2**(ceil(log2(amax)) - emax)."""
    EVEN = "even"
    """As floor, from amax rounded to the precision of the elements (torchao)."""
    RCEIL = "rceil"
    """amax / max rounded up: no element saturates (cuBLAS, JAX)."""
    NEAREST = "nearest"
    """amax / max rounded to nearest, a tie in E8M0 up: elements may saturate."""
    MAX_ABS = "max_abs"
    """The largest finite magnitude itself, rounded to nearest (P3109 v4.0, 5.2)."""
    TORCHAO = "torchao"
    """NVFP4 in the float32 operations of torchao."""
    TRANSFORMER_ENGINE = "transformer_engine"
    """NVFP4 in the float32 operations of NVIDIA's TransformerEngine."""
    FOUR_OVER_SIX = "four_over_six"
    """NVFP4 with the better scale of two, amax / 6 and amax / 4 (fouroversix, arXiv 2512.02010)."""

    @property
    def gives_powers_of_two(self) -> bool:
        """Whether the rule is about exponents only."""
        return self in (ScaleRule.FLOOR, ScaleRule.CEIL, ScaleRule.EVEN)

    @property
    def has_tensor_scale(self) -> bool:
        """Whether the rule chooses a scale of the whole array, too."""
        return self in (
            ScaleRule.TORCHAO,
            ScaleRule.TRANSFORMER_ENGINE,
            ScaleRule.FOUR_OVER_SIX,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFormat(InNotebooks):
    """Blocks of elements that stand for ``element * scale``, or ``element * scale * tensor_scale``.

    Parameters
    ----------
    name : str
        Label, for example "mxfp4". Not compared.
    element : str, FloatFormat or FixedPointFormat
        The format of the elements: signed, at most 16 bits.
    scale : str or FloatFormat
        The format of the scales, one per block. It has a NaN and at most 16 bits. A sign bit stays
        0.
    block_size : int
        Number of elements of a block along the axis of the blocks, the contracted one of a product.
    tensor_scale : str or FloatFormat, optional
        The format of the scale of the whole array, float32. The rules of NVFP4 have one, the others
        have none.
    scale_rule : ScaleRule or str
        How the scales are chosen.
    across : int
        Number of neighbouring vectors, with `block_size` elements of each, that are one block. With
        16 x 16 a matrix and its transpose have the same blocks.
    source : str
        The document that defines the format. Not compared.

    Raises
    ------
    ValueError
        If the fields contradict each other; the message names the field.

    Examples
    --------
    >>> import precsim as ps
    >>> mx = ps.get_format("mxfp4")
    >>> mx.element.name, mx.scale.name, mx.block_size, mx.bits_per_element
    ('e2m1', 'e8m0', 32, 4.25)
    >>> from dataclasses import replace
    >>> replace(mx, name="mine", scale_rule="rceil") == ps.get_format("mxfp4_rceil")
    True
    >>> ps.BlockFormat(name="mine", element="e2m1", scale="e8m0", block_size=32) == mx
    True
    >>> ps.get_format("nvfp4_16x16") == replace(ps.get_format("nvfp4"), across=16)
    True
    """

    name: str = field(compare=False)
    element: Format | Any
    scale: FloatFormat | Any
    block_size: int
    tensor_scale: FloatFormat | Any = None
    scale_rule: ScaleRule | Any = ScaleRule.FLOOR
    across: int = 1
    source: str = field(default="", compare=False)
    _further: ClassVar = ("bits_per_element", "source")

    def __post_init__(self) -> None:
        """Check the fields."""
        fill = object.__setattr__
        fill(self, "scale_rule", member(ScaleRule, self.scale_rule, "scale_rule"))
        for name in ("block_size", "across"):
            fill(self, name, integer(getattr(self, name), name, 1))
        rule = self.scale_rule
        for name in ("element", "scale", "tensor_scale"):
            given = getattr(self, name)
            if name == "tensor_scale" and given is None:
                continue
            fill(self, name, number_format(given, name))
            if name != "element" and not isinstance(getattr(self, name), FloatFormat):
                raise ValueError(f"{name} is {given}; allowed are floating-point formats")
        if not self.element.is_signed or not 0 < (self.element.width or 0) <= LARGEST_WIDTH:
            raise ValueError(
                f"element is {self.element}; allowed are signed formats of up to {LARGEST_WIDTH} bits"
            )
        if not self.scale.has_nan or not 0 < (self.scale.width or 0) <= LARGEST_WIDTH:
            raise ValueError(
                f"scale is {self.scale}; allowed are formats with NaN of up to {LARGEST_WIDTH} bits"
            )
        if rule.gives_powers_of_two and self.scale.precision != 1:
            raise ValueError(
                f"scale is {self.scale}; scale_rule {rule.value!r} gives powers of two, so allowed are "
                "formats of precision 1, for example e8m0"
            )
        if rule.has_tensor_scale and not self._is_nvfp4:
            raise ValueError(
                f"scale_rule {rule.value!r} is an order of float32 operations; allowed are floating-point "
                "elements, scales with zero, and tensor_scale fp32"
            )
        if rule is ScaleRule.FOUR_OVER_SIX and (
            (self.element.width, self.emax, self.scale.max_finite) != (4, 2, 448)
        ):
            raise ValueError(
                f"element is {self.element}, scale {self.scale}; scale_rule {rule.value!r} is about the "
                "values 4 and 6 of e2m1, so allowed are e2m1 and e4m3"
            )
        if self.tensor_scale is not None and not rule.has_tensor_scale:
            raise ValueError(
                f"tensor_scale is {self.tensor_scale}; scale_rule {rule.value!r} chooses none, so allowed "
                "is None"
            )

    @property
    def _is_nvfp4(self) -> bool:
        tensor = self.tensor_scale
        is_float32 = tensor is not None and (tensor.precision, tensor.exponent_bits) == (24, 8)
        return is_float32 and isinstance(self.element, FloatFormat) and self.scale.has_zero

    @property
    def emax(self) -> int:
        """Exponent of the largest element value."""
        if isinstance(self.element, FixedPointFormat):
            return self.element.integer_bits - 1
        return self.element.emax

    @property
    def element_precision(self) -> int:
        """Significand bits of the largest element values."""
        if isinstance(self.element, FixedPointFormat):
            return self.element.integer_bits + self.element.fraction_bits
        return self.element.precision

    @property
    def bits_per_element(self) -> float:
        """Storage: element width + its part of the block's scale; the tensor's does not count."""
        return (self.element.width or 0) + (self.scale.width or 0) / (self.across * self.block_size)

    def fits(self, carrier: Layout) -> bool:
        """Return whether the carrier has all elements and scales; float32 rules need float32."""
        has_all = self.element.fits(carrier) and self.scale.fits(carrier)
        return has_all and (carrier.precision == 24 or not self.scale_rule.has_tensor_scale)

    def __str__(self) -> str:
        """Return the name."""
        return self.name
