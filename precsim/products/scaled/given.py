"""Scales that a caller gives to a product: which operands of it and of its gradients take them."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from precsim._arrays import ArrayLike
from precsim.formats.block import BlockFormat
from precsim.products.backends import Specs
from precsim.products.scaled.product import Scales
from precsim.products.specs.scaling import Scaling, scaling_of
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.scaled.scale import Scale
from precsim.rounding.spec import RoundingSpec

GivenScales: TypeAlias = Mapping[str, Scale | ArrayLike] | None


class Given(NamedTuple):
    """Scales of a, of b and of the cotangent g; None where they follow from the data."""

    a: Scale | None = None
    b: Scale | None = None
    g: Scale | None = None


def as_given(scales: Mapping[str, Any], specs: Specs) -> Given:
    """Return the scales of a mapping, after all that can be refused has been."""
    forward, dgrad, wgrad = specs.products
    takers = {
        "a": (forward.lhs, wgrad.lhs),
        "b": (forward.rhs, dgrad.rhs),
        "g": (dgrad.lhs, wgrad.rhs),
    }
    if unknown := set(scales) - set(takers):
        raise ValueError(f"scales has keys {sorted(unknown)}; allowed are {', '.join(takers)}")
    for name in scales:
        if not any(_takes(operand, name) for operand in takers[name]):
            raise ValueError(
                f"scales has key '{name}'; no operand of '{forward}' or its gradients takes it"
            )
    if _is_stochastic(forward):
        raise ValueError(
            f"scales are given; '{forward}' rounds stochastically, which is allowed without them only"
        )
    return Given(**{k: x if isinstance(x, Scale) else Scale(scale=x) for k, x in scales.items()})


def of_product(left: Scale | None, right: Scale | None, spec: MatmulSpec) -> Scales:
    """Return the scales of a product's operands, None for those that have none."""
    return (
        left if _takes(spec.lhs, "lhs") else None,
        right if _takes(spec.rhs, "rhs") else None,
    )


def _takes(operand: RoundingSpec | None, name: str) -> bool:
    """Return whether an operand has one scale for the whole array; refuse one with several."""
    scaling = scaling_of(operand)
    if scaling is None or operand is None:
        return False
    if scaling != Scaling(None, None) or isinstance(operand.format, BlockFormat):
        raise ValueError(
            f"scale of '{name}' is given; '{operand}' has several, and allowed are formats with one "
            "for the whole array, for example 'int8', 'e4m3:scale=tensor'"
        )
    return True


def _is_stochastic(spec: MatmulSpec) -> bool:
    parts = spec.lhs, spec.rhs, spec.accumulator, spec.output
    return any(part is not None and part.mode is RoundingMode.STOCHASTIC for part in parts)
