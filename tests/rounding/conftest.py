"""What the tests of rounding share: tables of values, grids of inputs, comparison of bits."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

import precsim as ps
from precsim.formats.carrier import FLOAT32, FLOAT64
from precsim.rounding.modes import (
    EvenRule,
    InfinityMode,
    NanMode,
    RoundingMode,
    StochasticVariant,
    SubnormalMode,
)

Format = ps.FloatFormat | ps.FixedPointFormat


def custom(name: str, p: int, w: int, **options: Any) -> ps.FloatFormat:
    return ps.FloatFormat(name=name, precision=p, exponent_bits=w, **options)


NAMED = "fp16 bf16 e4m3 e5m2fnuz e3m2 e8m0 tf32 fp32 fp64 float(e=9,p=3) float(e=1,p=3)".split()  # noqa: SIM905
FORMATS: list[Format] = [
    *map(ps.get_format, [*NAMED, "float(e=inf,p=7)", "float(e=inf,p=24)"]),
    *map(ps.get_format, ["q3.4", "uq0.8", "q-2.8", "q3.20", "q9.-3"]),
    *map(ps.get_format, ["binary6p1se", "binary8p3ue"]),
    custom("unsigned", 3, 4, specials="none", is_signed=False),
    custom("no_subnormals", 5, 8, has_subnormals=False),  # its smallest exponent is the carrier's
    custom("below_carrier", 2, 8, bias=140),  # smallest exponent -139, that of float32 is -126
    custom("one_zero", 4, 4, specials="fn", has_negative_zero=False),
]
PAIRS = [(f, c) for f in FORMATS for c in (FLOAT32, FLOAT64) if f.fits(c)]
NUM_RANDOM_BITS = (1, 3, 8, 17, 31, 32)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `fmt` and `carrier` with every pair of them."""
    if {"fmt", "carrier"} <= set(metafunc.fixturenames):
        ids = [f"{fmt.name}-{carrier.name}" for fmt, carrier in PAIRS]
        metafunc.parametrize(("fmt", "carrier"), PAIRS, ids=ids)


OVERFLOWS = {
    "float": ("infinity", "infinity_or_max", "saturate"),
    "fixed": ("saturate", "saturate_symmetric", "saturate_zero", "wrap"),
}


def nan_modes(fmt: Format) -> list[NanMode]:
    """Return the fates of NaN that a format allows."""
    if fmt.has_nan:
        return [NanMode.STAYS]
    return [mode for mode in NanMode if mode != "nan_to_negative_zero" or fmt.has_negative_zero]


def subnormal_modes(fmt: Format, mode: str) -> list[SubnormalMode]:
    """Return the treatments of subnormals that a format and a mode allow."""
    if isinstance(fmt, ps.FixedPointFormat):
        return [SubnormalMode.GRADUAL]
    has_chop = mode in ("rne", "rtp", "rtn", "rtz", "sr")
    has_chop = has_chop and fmt.precision >= 3 and fmt.has_subnormals and bool(fmt.width)
    return [m for m in SubnormalMode if has_chop or m != "flush_as_chop"]


@pytest.fixture(scope="session")
def specs() -> Callable[..., Iterator[ps.RoundingSpec]]:
    """Return the function that yields every mode with every overflow."""

    def every(fmt: Format, *, all_subnormals: bool = False) -> Iterator[ps.RoundingSpec]:
        """Every subnormal policy with each mode and with each overflow, on request with each pair.

        Infinities, fates of NaN, rules of parity and numbers of random bits take turns; mode sr
        comes in its three variants.
        """
        is_fixed = isinstance(fmt, ps.FixedPointFormat)
        overflows = OVERFLOWS["fixed" if is_fixed else "float"]
        ways = [(mode, "a") for mode in RoundingMode if mode != "sr"]
        ways += [(RoundingMode.STOCHASTIC, variant) for variant in StochasticVariant]
        k = 0
        for w, (mode, variant) in enumerate(ways):
            policies = subnormal_modes(fmt, mode)
            for o, overflow in enumerate(overflows):
                chosen = policies if all_subnormals else [policies[(w + o) % len(policies)]]
                for subnormals in chosen:
                    k += 1
                    yield ps.RoundingSpec(
                        format=fmt,
                        mode=mode,
                        overflow=overflow,
                        subnormals=subnormals,
                        infinities=list(InfinityMode)[k % 3],
                        nans=nan_modes(fmt)[k % len(nan_modes(fmt))],
                        even=list(EvenRule)[k // 3 % 2],
                        num_random_bits=NUM_RANDOM_BITS[k // 2 % 6] if mode == "sr" else 0,
                        stochastic_variant=StochasticVariant(variant),
                    )

    return every


@pytest.fixture(scope="session")
def draws() -> Callable[[int, int], np.ndarray]:
    """Return the function that makes random words, many of them at the ends of their range."""

    def make(count: int, seed: int) -> np.ndarray:
        made = np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint32)
        made[::5], made[1::5] = 0xFFFFFFFF, 0
        return made

    return make


@pytest.fixture(scope="session")
def oracle() -> Callable[..., np.ndarray]:
    """Return the rounding of an array, one by one, with the oracle."""

    def rounded(x: np.ndarray, r: np.ndarray, spec: ps.RoundingSpec) -> np.ndarray:
        carrier = "fp32" if x.dtype == np.float32 else "fp64"
        values = [
            ps.oracle.round_exact(float(v), spec, random_bits=int(n), carrier=carrier).value
            for v, n in zip(x, r, strict=True)
        ]
        return np.array(values).astype(x.dtype)

    return rounded


class ValueTable(NamedTuple):
    """The non-negative finite values of a float format, from its codes, and one value beyond."""

    magnitudes: list[Fraction]
    """Sorted and distinct. The last one is the first value that an unlimited range would add."""
    odd: list[bool]
    """Whether the last significand bit is set."""


@pytest.fixture(scope="session")
def value_table() -> Callable[[str], ValueTable]:
    """Return the function from the name of a float format to its table."""

    @cache
    def table(name: str) -> ValueTable:
        fmt = ps.get_format(name)
        assert isinstance(fmt, ps.FloatFormat)
        assert fmt.width is not None
        decoded = ps.decode(np.arange(1 << (fmt.width - fmt.is_signed), dtype=np.uint32), fmt)
        values = [Fraction(float(v)) for v in decoded if np.isfinite(v)]
        gap = Fraction(2) ** (max(fmt.emax, fmt.emin) - fmt.precision + 1)
        values.append(values[-1] + gap)
        # With one bit of precision, every significand but that of zero is 1.
        odd = [c % 2 == 1 if fmt.precision > 1 else v > 0 for c, v in enumerate(values)]
        return ValueTable(values, odd)

    return table


@pytest.fixture(scope="session")
def grid() -> Callable[[Format, Any], np.ndarray]:
    """Return the function that makes inputs where a rounding changes, and their neighbours."""

    def make(fmt: Format, dtype: Any) -> np.ndarray:
        rng = np.random.default_rng(1)
        coded = fmt if fmt.width else ps.get_format(f"float(e=8,p={fmt.precision})")  # type: ignore[union-attr]
        width = coded.width
        assert width is not None
        half = 1 << (width - coded.is_signed)
        first_normal = 1 << getattr(coded, "precision", 1) - 1
        near = [0, 1, 2, first_normal, half // 2, half // 8 * 7, half - 1]
        codes = [c + d for c in near for d in (-2, -1, 0, 1)]
        codes += rng.integers(0, half, 6, dtype=np.uint64).tolist()
        kept = np.array([c for c in codes if 0 <= c < half - 1], np.uint64)
        low = ps.decode(kept, coded).astype(np.float64)
        high = ps.decode(kept + np.uint64(1), coded).astype(np.float64)
        both = np.isfinite(low) & np.isfinite(high)
        low, high = low[both], high[both]
        top, step = high.max(), high.max() - np.sort(high)[-2:].min()
        fractions = [low + (high - low) * f for f in (0, 0.25, 0.375, 0.5, 0.75)]
        info = np.finfo(dtype)
        extra = [0, top, top + step / 2, top + step, top * 3, 1.0, 3.0, info.max, info.tiny]
        with np.errstate(over="ignore", under="ignore"):
            points = np.unique(np.concatenate([*fractions, extra]).astype(dtype))
        unsigned = points.view(f"u{points.dtype.itemsize}")
        one = unsigned.dtype.type(1)
        patterns = np.concatenate([unsigned, unsigned + one, unsigned - (unsigned > 0)])
        special = np.array([np.inf, np.nan, info.smallest_subnormal, info.tiny / 2], dtype)
        patterns = np.unique(np.concatenate([patterns, special.view(unsigned.dtype)]))
        made = patterns.view(dtype)
        return rng.permutation(np.concatenate([made, -made]))

    return make


def bits(x: Any) -> Any:
    """Return the patterns of float32 or float64 numbers, the same one for every NaN."""
    x = np.asarray(x)
    return np.where(np.isnan(x), np.full_like(x, np.nan), x).view(f"u{x.dtype.itemsize}")


@pytest.fixture(scope="session")
def assert_same_bits() -> Callable[..., None]:
    """Return the comparison of two arrays bit for bit; a NaN equals any NaN."""

    def compare(actual: Any, expected: Any, *, inputs: Any = None, what: Any = "") -> None:
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        wrong = bits(actual) != bits(expected)
        if wrong.any():
            k = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            given = "" if inputs is None else f" for {float(np.asarray(inputs)[k]).hex()}"
            raise AssertionError(
                f"{what}: {int(wrong.sum())} of {wrong.size} differ, the first{given}: "
                f"{float(actual[k])!r}, expected {float(expected[k])!r}"
            )

    return compare
