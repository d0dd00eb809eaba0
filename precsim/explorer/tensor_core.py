"""A tensor core's steps: what is aligned, what is cut off, what is left."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from precsim.explorer import asked as read
from precsim.explorer.aligned import rows
from precsim.explorer.asked import Asked
from precsim.explorer.matrix_unit import facts, told_steps
from precsim.explorer.said import (
    Number,
    computed,
    error,
    is_finite,
    near,
    rounded,
    same,
    short,
    stored,
)
from precsim.formats.registry import get_format
from precsim.products.specs.core import Core
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.products.tensor_core.oracle import (
    Aligned,
    Product,
    align,
    fused_dot_by,
    multiply_scales,
    step_exact,
    total_format,
)
from precsim.products.tensor_core.oracle_schedule import CHAINED
from precsim.products.tensor_core.step_block_oracle import chain_sums
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import round_exact
from precsim.rounding.spec import RoundingSpec

MOST = 64
"""Products that are shown."""


def tensor_core(asked: Asked) -> dict[str, Any]:
    """Describe c + a . b as a machine computes it, step by step."""
    spec = MatmulSpec.parse(read.text(asked, "machine"))
    if not isinstance(spec.order, FusedBlock | StepBlock):
        raise ValueError(  # noqa: TRY004 (a name, not a type)
            f"machine is '{spec}'; allowed are tensor cores, for example h100:fp16"
        )
    _check(spec)
    given = [read.numbers(asked, name, MOST) for name in ("a", "b")]
    if len(given[0]) != len(given[1]):
        raise ValueError(
            f"a has {len(given[0])} numbers, b {len(given[1])}; allowed is one length for both"
        )
    of_a, of_b, of_c = _stored_as(spec)
    a, b = (
        [round_exact(x, rounding).value for x in side]
        for side, rounding in zip(given, (of_a, of_b), strict=True)
    )
    first = _first(asked, spec)
    c = round_exact(first, of_c).value
    done = _by_steps(a, b, c, spec) if isinstance(spec.order, StepBlock) else _fused(a, b, c, spec)
    value, fmt, steps = done.value, done.format, done.steps
    if spec.output is not None:
        value, fmt = computed(round_exact(value, spec.output).value), spec.output.format
        said = {"kind": "output", "left": short(done.value), "in": str(spec.output)}
        steps.append(said | {"result": short(value)})
    exact = _exact([*zip(a, b, strict=True), (c, 1.0)])
    stays = zip([*given[0], *given[1], first], [*a, *b, c], strict=True)
    return {
        "spec": str(spec),
        "facts": done.facts,
        "operands": [_operand(x, y) for x, y in zip(a, b, strict=True)],
        "c": near(c),
        "takes_c": not spec.scales_sums,
        "are_rounded": not all(same(x, y) for x, y in stays),
        "steps": steps,
        "scale": None if done.scale is None else short(done.scale),
        "result": stored(value, fmt),
        "exact": near(exact),
        "once": rounded(exact, spec.output or RoundingSpec(format=fmt))["short"],
        "errors": error(value, exact, fmt),
    }


class _Done(NamedTuple):
    """What a machine computed, and how."""

    value: float
    format: Any
    steps: list[dict[str, Any]]
    facts: list[list[str]]
    scale: float | None = None
    """Of whole arrays, by which the sums are multiplied."""


def _by_steps(a: list[float], b: list[float], c: float, spec: MatmulSpec) -> _Done:
    assert isinstance(spec.order, StepBlock)
    steps, value = told_steps(a, b, c, spec)
    is_total = isinstance(spec.order.schedule, CHAINED)
    fmt = get_format(chain_sums(spec)) if is_total else spec.accumulator.format
    return _Done(computed(value), fmt, steps, facts(spec))


def _fused(a: list[float], b: list[float], c: float, spec: MatmulSpec) -> _Done:
    core = spec.core
    told = _Told(core)
    total, scale = fused_dot_by(a, b, c, core, 0, step=told.step, add=told.add)
    value = computed(total if scale is None else multiply_scales(total, scale))
    fmt = total_format(core) if scale is None else get_format("fp32")
    return _Done(value, fmt, told.steps, _facts(core), scale)


def _check(spec: MatmulSpec) -> None:
    """Refuse what is more than the steps of a tensor core and a rounding of their result."""
    has_chance = spec.has_random_operands or (
        spec.output is not None and spec.output.mode is RoundingMode.STOCHASTIC
    )
    if spec.rotation is not None or spec.has_scales or has_chance:
        raise ValueError(
            f"machine is '{spec}'; allowed here are products without rht=, without operands that "
            "are scaled outside a tensor core, and without chance in operands and output"
        )


def _first(asked: Asked, spec: MatmulSpec) -> Number:
    """Return the accumulator's first value: +0 if none is given."""
    if asked.get("c") in (None, ""):
        return 0.0
    if spec.scales_sums:
        raise ValueError(
            f"c is given; allowed for '{spec}' is None, since its sums are multiplied by scales at "
            "the end"
        )
    return read.number(asked, "c")


def _stored_as(spec: MatmulSpec) -> list[RoundingSpec]:
    """Return how numbers become operands, and the first value; blocks take float32."""
    if isinstance(spec.order, StepBlock):
        return [part for part in (spec.lhs, spec.rhs, spec.accumulator) if part is not None]
    core = spec.core
    sides = [
        side.rounding if side.blocks is None else RoundingSpec.parse("fp32")
        for side in (core.lhs, core.rhs)
    ]
    return [*sides, RoundingSpec(format=get_format("fp16" if core.sums.emin == -14 else "fp32"))]


def _exact(pairs: Sequence[tuple[float, float]]) -> Number:
    if all(is_finite(x) and is_finite(y) for x, y in pairs):
        return sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0)) or 0.0
    return computed(sum(x * y for x, y in pairs))


def _operand(x: float, y: float) -> dict[str, str]:
    return {"a": near(x), "b": near(y)}


def _facts(core: Core) -> list[list[str]]:
    block, accumulator = core.block, core.accumulator
    mode = "toward zero" if accumulator.mode is RoundingMode.TOWARD_ZERO else str(accumulator.mode)
    return [
        ["products of a step", str(block.length)],
        ["fraction bits kept", str(block.fraction_bits)],
        ["accumulator", f"{core.sums.name}, {core.sums.precision} bits, rounded {mode}"],
    ]


@dataclass
class _Told:
    """Does the work of a tensor core, and tells it."""

    core: Core
    steps: list[dict[str, Any]] = field(default_factory=list)

    def step(self, total: float, products: Sequence[Product], core: Core, draw: int) -> float:
        """Compute a step by its definition, and tell its terms."""
        value = computed(step_exact(total, products, core, draw))
        found = align(total, products, core)
        texts = [_text(products[k : k + core.block.group]) for k in self._starts(products)]
        said: dict[str, Any] = {"kind": "step", "result": short(value)}
        if isinstance(found, Aligned):
            said |= rows(found, [*texts, f"accumulator {near(total)}"], value)
        self.steps.append(said)
        return value

    def _starts(self, products: Sequence[Product]) -> range:
        return range(0, len(products), self.core.block.group)

    def add(self, fmt: str, x: float, y: float) -> float:
        """Add two chains with one rounding, and tell it."""
        exact = _exact([(x, 1.0), (y, 1.0)])
        value = computed(round_exact(exact, fmt).value + 0.0)
        self.steps.append(
            {"kind": "add", "left": short(x), "right": short(y), "in": fmt, "result": short(value)}
        )
        return value


def _text(products: Sequence[Product]) -> str:
    first = products[0]
    text = f"{near(first.x)} * {near(first.y)}"
    return text if len(products) == 1 else f"{len(products)} products from {text}"
