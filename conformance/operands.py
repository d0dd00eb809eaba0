"""Operands: special values in all pairs, and finite values of every kind of behaviour."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

import precsim as ps

Result: TypeAlias = tuple[float, ps.oracle.Flags]

SEED = 754
DRAWN = 1200
"""Operands drawn at random; a kind of behaviour that was seen often enough is dropped."""
KEPT = {1: 12, 2: 4, 3: 8}
"""By the number of operands."""
KIND_MODES = ("rne", "rna", "rtp", "rtn")


def operand_codes(
    operation: str, count: int, name: str, modes: Sequence[str]
) -> tuple[list[tuple[int, ...]], dict[str, list[Result]]]:
    """Return operands as codes of the format, and the results in every mode."""
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    assert fmt.width is not None
    specs = {mode: ps.RoundingSpec.parse(f"{name}:{mode}") for mode in modes}
    values = ps.decode(np.arange(1 << fmt.width, dtype=np.uint32), fmt).astype(float).tolist()
    kept: dict[tuple[int, ...], list[Result]] = {}
    seen: Counter[object] = Counter()
    for codes, is_special in _candidates(count, fmt):
        operands = [values[code] for code in codes]
        kind = _kind(
            [
                ps.oracle.compute_exact(operation, *operands, spec=specs[mode])
                for mode in KIND_MODES
            ],
            fmt,
        )
        if codes not in kept and (is_special or seen[kind] < KEPT[count]):
            seen[kind] += not is_special
            kept[codes] = [
                ps.oracle.compute_exact(operation, *operands, spec=spec) for spec in specs.values()
            ]
    columns = zip(*kept.values(), strict=True)
    return list(kept), {m: list(column) for m, column in zip(modes, columns, strict=True)}


def _kind(results: Sequence[Result], fmt: ps.FloatFormat) -> object:
    """Return what tells cases apart: which modes agree, exceptions, sign, range, parity."""
    first = results[0][0]
    pattern = tuple(repr(value) == repr(first) for value, _ in results)
    size = abs(first)
    place = (size < fmt.min_normal, size in (fmt.min_normal, fmt.max_finite, fmt.min_subnormal))
    return pattern, tuple(flags for _, flags in results), np.signbit(first), place


def _candidates(count: int, fmt: ps.FloatFormat) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Yield operands, and whether to keep them in any case: one or a pair of special values."""
    rng = random.Random(SEED)
    inf = [np.inf] if fmt.has_infinity else []
    special = [0.0, fmt.min_subnormal, fmt.min_normal, 1.0, fmt.max_finite, *inf]
    signed = [*special, *(-x for x in special), np.nan]
    codes = ps.encode(np.array(signed), fmt).tolist()
    combined = list(itertools.product(codes, repeat=count))
    rng.shuffle(combined)
    yield from ((operands, count < 3) for operands in combined)
    for _ in range(DRAWN):
        yield tuple(_related(count, rng, fmt)), False


def _related(count: int, rng: random.Random, fmt: ps.FloatFormat) -> list[int]:
    """Draw codes with any exponents, near ones, or exponents whose product is near a third's."""
    assert fmt.width is not None
    step = 1 << (fmt.precision - 1)
    sign = 1 << (fmt.width - 1)
    last = int(ps.encode(fmt.max_finite, fmt))
    one = int(ps.encode(1.0, fmt))
    x = rng.randrange(last + 1)
    spread = rng.choice((2, fmt.precision + 2, 1 << fmt.width))
    near = [x, 2 * one - x, last + one - x, one]  # like x; like 1/x; like the largest/x; like 1
    others = [
        rng.choice(near) + rng.randint(-spread, spread) * step + rng.randrange(step) for _ in "yz"
    ]
    if count == 3 and rng.random() < 0.5:
        others[1] = x + others[0] - one + rng.randint(-spread, spread) * step + rng.randrange(-2, 3)
    drawn = [x, *(min(max(code, 0), last) for code in others)][:count]
    if rng.random() < 0.25:  # few significant bits: exact results and ties
        drawn = [code & ~(step // 2 - 1) for code in drawn]
    return [code | (sign if rng.random() < 0.4 else 0) for code in drawn]
