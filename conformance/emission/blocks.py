"""Conversions to MX formats: the scale of a block, and an element by its scale."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

import precsim as ps
from conformance.emission.codes import cast_codes, float_format, width
from conformance.emission.functions import (
    CHUNK,
    Column,
    Function,
    Inputs,
    Results,
    code_of,
    decoded,
    flag_bits,
    kernel,
    type_name,
    wrong_places,
)
from conformance.vector_file import Task

SOURCE = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockScale:
    """The scale of a block by OCP MX 1.0, 6.3: the power of two of the largest magnitude."""

    format: ps.BlockFormat

    @property
    def name(self) -> str:
        """Return for example "f32_to_mxfp4.scale"."""
        return f"{type_name(SOURCE)}_to_{self.format}.scale"

    @property
    def facts(self) -> dict[str, str]:
        """Return the rule."""
        return {
            "operation": "scale of a block",
            "format": str(self.format),
            "source": self.format.source,
            "rounding": "2**(floor(log2(largest magnitude)) - the largest exponent of an element)",
        }

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the numbers of a block."""
        return (Column(name="x", format=float_format(SOURCE), count=self.format.block_size),)

    @property
    def result(self) -> ps.FloatFormat:
        """Return the format of scales."""
        return self.format.scale

    @property
    def has_flags(self) -> bool:
        """Return False: MX defines none."""
        return False

    def hard_cases(self) -> Iterator[Inputs]:
        """Yield blocks of one number at each end, and of numbers below it, in every binade."""
        size, source = self.format.block_size, float_format(SOURCE)
        alone = list(dict.fromkeys(cast_codes(source, self.format.scale)))
        special = [code for code in (0, 1 << 31) if code not in alone]
        for code in special + alone:
            for place in (0, size - 1):
                yield tuple(code if k == place else 0 for k in range(size))
        for code in alone:  # the largest magnitude is negative, or its neighbours are just below
            if 1 < code < 0x7F800000:
                yield tuple(
                    code | 1 << 31 if k == size // 2 else code - 1 - k % 2 for k in range(size)
                )

    def random_cases(self, rng: random.Random) -> Iterator[Inputs]:
        """Yield blocks around a random exponent; a few with any codes."""
        while True:
            if rng.random() < 0.1:
                yield tuple(rng.randrange(1 << 32) for _ in range(self.format.block_size))
                continue
            exponent = rng.randrange(255)
            yield tuple(
                (rng.randrange(512) & 0x100 | max(0, exponent - rng.randrange(4))) << 23
                | rng.randrange(1 << 23)
                for _ in range(self.format.block_size)
            )

    def expected(self, cases: Sequence[Inputs]) -> Results:
        """Return the largest magnitude over a power of two, rounded down to a scale."""
        source, found = float_format(SOURCE), []
        power = Fraction(2) ** (math.frexp(self._element.max_finite)[1] - 1)
        for case in cases:
            values = [decoded(code, source) for code in case]
            scale = math.nan  # of a block with a NaN or an infinity
            if all(map(math.isfinite, values)):
                largest = max(abs(Fraction(x)) for x in values)
                lowest = Fraction(self.result.min_normal)
                down = ps.RoundingSpec.parse(f"{self.result}:rtz:saturate")
                scale = ps.oracle.round_exact(max(largest / power, lowest), down).value
            found.append((code_of(scale, self.result), None))
        return found

    @property
    def _element(self) -> ps.FloatFormat:
        return float_format(str(self.format.element))

    def differing(self, cases: Sequence[Inputs], results: Results) -> list[int]:
        """Compare with `ps.quantize` under `jax.jit`."""
        padded = [*cases, *[cases[0]] * (-len(cases) % CHUNK)]
        scales = _scales(str(self.format))(np.array(padded, np.uint32).view(np.float32))
        found = np.asarray(scales)[: len(cases), 0]
        return np.flatnonzero(found != [code for code, _ in results]).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockElement:
    """An element: a finite number over the scale of its block, rounded once."""

    format: ps.BlockFormat
    mode: str

    @property
    def name(self) -> str:
        """Return for example "f32_to_mxfp4.element.rne"."""
        return f"{type_name(SOURCE)}_to_{self.format}.element.{self.mode}"

    @property
    def facts(self) -> dict[str, str]:
        """Return rounding and overflow."""
        return {
            "operation": "element of a block: x / scale",
            "format": str(self.format),
            "source": self.format.source,
            "rounding": self.mode,
            "rule": "saturate",
        }

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return a number and a scale."""
        return (
            Column(name="x", format=float_format(SOURCE)),
            Column(name="scale", format=self.format.scale),
        )

    @property
    def result(self) -> ps.FloatFormat:
        """Return the format of elements."""
        return float_format(str(self.format.element))

    @property
    def has_flags(self) -> bool:
        """Return True: those of a division."""
        return True

    @property
    def _task(self) -> Task:
        return Task(operation="divide", format=str(self.result), rule="saturate", mode=self.mode)

    def hard_cases(self) -> Iterator[Inputs]:
        """Yield the hard numbers of the elements' format, by scales of 1, 2, 1/2 and the ends."""
        one = code_of(1.0, self.format.scale)
        last = code_of(self.format.scale.max_finite, self.format.scale)
        source, hard = float_format(SOURCE), cast_codes(float_format(SOURCE), self.result)
        for scale in (one, one + 1, one - 1, 0, 1, last - 1, last):
            factor = decoded(scale, self.format.scale)
            for code in hard:
                scaled = decoded(code, source) * factor
                if abs(scaled) <= source.max_finite and float(np.float32(scaled)) == scaled:
                    yield code_of(scaled, source), scale

    def random_cases(self, rng: random.Random) -> Iterator[Inputs]:
        """Yield finite numbers with scales that bring them near the elements' range."""
        while True:
            code, shift = rng.randrange(1 << 32), rng.randrange(-4, 12)
            scale = (code >> 23 & 0xFF) + shift - math.frexp(self.result.max_finite)[1]
            if code >> 23 & 0xFF != 0xFF and 0 <= scale < (1 << width(self.format.scale)) - 1:
                yield code, scale

    def expected(self, cases: Sequence[Inputs]) -> Results:
        """Return codes and exceptions of the exact quotient."""
        formats = [column.format for column in self.columns]
        found = [
            ps.oracle.compute_exact("divide", *map(decoded, case, formats), spec=self._task.spec)
            for case in cases
        ]
        return [(code_of(value, self.result), flag_bits(flags)) for value, flags in found]

    def differing(self, cases: Sequence[Inputs], results: Results) -> list[int]:
        """Compare with the kernel of the division under `jax.jit`."""
        padded = [*cases, *[cases[0]] * (-len(cases) % CHUNK)]
        codes = zip(zip(*padded, strict=True), self.columns, strict=True)
        arrays = [np.asarray(ps.decode(np.array(c, np.uint32), col.format)) for c, col in codes]
        found = np.asarray(kernel(self._task)(*(x.astype(np.float32) for x in arrays)))
        return wrong_places(found[: len(cases)], results, self.result)


def block_functions(fmt: ps.BlockFormat, modes: Sequence[str]) -> list[Function]:
    """Return the functions of an MX format; refuse other block formats."""
    if not is_mx(fmt):
        raise ValueError(
            f"format is {fmt}; allowed are MX formats of floats with the scale rule of OCP; of NVFP4, "
            "whose scales software chooses, its elements e2m1 and its scales e4m3"
        )
    elements: list[Function] = [BlockElement(format=fmt, mode=mode) for mode in modes]
    return [BlockScale(format=fmt), *elements]


def is_mx(fmt: object) -> bool:
    """Return whether a format is an MX format of floats, with the scale rule of OCP."""
    return (
        isinstance(fmt, ps.BlockFormat)
        and isinstance(fmt.element, ps.FloatFormat)
        and str(fmt.scale) == "e8m0"
        and fmt.scale_rule is ps.ScaleRule.FLOOR
    )


@lru_cache(maxsize=2)
def _scales(fmt: str) -> Any:
    import jax

    return jax.jit(lambda x: ps.quantize(x, fmt, axis=1).scales)
