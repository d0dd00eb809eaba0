"""Compare the models of AMD's matrix units with MMA-Sim (`pip install mmasim torch`).

    python -m conformance.mmasim                     # every machine, a million results each
    python -m conformance.mmasim mi100:fp16 --rows 100000

Dot products of two steps and a first value, of four sorts: random bit patterns (NaN, infinities,
subnormals, zeros of both signs), numbers near one, numbers whose products are tiny, and numbers of
very different sizes. Prints one row a machine: results, those that differ, and those where MMA-Sim
loses a NaN or an infinity: it drops an accumulator that is small beside FP8 products by an exponent
that such a value does not have. NaN counts as equal to NaN. Exit status 1 if a result differs.
"""

import sys
from typing import Any

import numpy as np

from conformance.command_line import CommandLine

KINDS = {
    "mi100:fp16": ("exact", 4),
    "mi100:bf16": ("exact", 2),
    "mi250:fp16": ("pairs", 4),
    "mi250:bf16": ("pairs", 4),
    "mi300x:fp16": ("floored", 8),
    "mi300x:bf16": ("floored", 8),
    "mi300x:xf32": ("floored", 4),
    "mi300x:e4m3fnuz": ("parts", 16),
    "mi300x:e5m2fnuz": ("parts", 16),
}
"""Machine and operand -> MMA-Sim's rule and the products of a step, as in its `amd/sim.py`."""
SORTS = ("random bits", "near one", "near zero", "mixed")
_ROWS = 1_000_000
_CHUNK = 1 << 16
_CODES = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_FORMATS = {"xf32": "fp32"}


def main(argv: list[str] | None = None) -> int:
    """Compare and print; 2 if MMA-Sim is missing."""
    parser = CommandLine("conformance.mmasim", __doc__)
    parser.add_argument("kinds", nargs="*", metavar="MACHINE:OPERAND", help=", ".join(KINDS))
    parser.add_argument(
        "--rows", type=int, default=_ROWS, help="results of each machine (default: 10^6)"
    )
    args = parser.read(argv, rows=1)
    parser.check("kind", args.kinds, KINDS)
    try:
        rules = _rules()
    except ImportError as problem:
        print(f"error: {problem.name} is not installed; MMA-Sim needs it", file=sys.stderr)
        return 2
    print("machine, results, differing, lost by MMA-Sim")
    found = [compare(kind, args.rows, rules) for kind in args.kinds or KINDS]
    return 1 if any(found) else 0


def compare(kind: str, rows: int, rules: dict[str, Any]) -> int:
    """Print one row for a kind; return how many results differ."""
    import precsim as ps

    rule, length = KINDS[kind]
    wrong = lost = done = 0
    rng = np.random.default_rng(list(KINDS).index(kind))
    while done < rows:
        sort = SORTS[done // _CHUNK % len(SORTS)]
        a, b, c = drawn(sort, kind.partition(":")[2], 2 * length, _CHUNK, rng)
        count = min(rows - done, _CHUNK)
        x, y = a[:, None, :], b[:, :, None]
        ours = np.asarray(ps.matmul(x, y, kind, c=c[:, None, None], backend="emulated"))
        ours, theirs = ours[:count, 0, 0], rules[rule](length, kind, a, b, c)[:count]
        differs = (ours.view(np.uint32) != theirs.view(np.uint32)) & ~(
            np.isnan(ours) & np.isnan(theirs)
        )
        is_lost = differs & ~np.isfinite(ours) & np.isfinite(theirs) & (rule == "parts")
        wrong += int((differs & ~is_lost).sum())
        lost += int(is_lost.sum())
        done += count
        for row in np.flatnonzero(differs & ~is_lost)[:1]:
            print(f"  {sort}: {a[row]} {b[row]} {c[row]}: {ours[row]!r}, MMA-Sim {theirs[row]!r}")
    print(f"{kind}, {done}, {wrong}, {lost}", flush=True)
    return wrong


def drawn(
    sort: str, operand: str, length: int, rows: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return operands and first values, float32 numbers of the formats."""
    import precsim as ps

    fmt = ps.get_format(_FORMATS.get(operand, operand))
    shapes = (rows, length), (rows, length), (rows,)
    if sort == "random bits":
        parts = zip(shapes, (fmt, fmt, ps.get_format("fp32")), strict=True)
        return tuple(_random_codes(shape, each, rng) for shape, each in parts)  # type: ignore[return-value]
    assert isinstance(fmt, ps.FloatFormat)
    low = max(fmt.emin, -64) if sort == "near zero" else 0
    spread = 8 if sort == "mixed" else 1
    made = []
    for shape in shapes:
        scale = low * (2 if shape == (rows,) else 1) + rng.integers(-spread, spread, shape)
        numbers = np.ldexp(rng.normal(size=shape), scale).astype(np.float32)
        numbers[rng.random(shape) < 0.1] = 0
        made.append(numbers)
    a, b = (np.asarray(ps.round_to(x, fmt, overflow="saturate")) for x in made[:2])
    return a, b, made[2]


def _random_codes(shape: tuple[int, ...], fmt: Any, rng: np.random.Generator) -> np.ndarray:
    import precsim as ps

    codes = rng.integers(0, 1 << fmt.width, shape, dtype=np.uint32)
    return np.asarray(ps.decode(codes.astype(_CODES[fmt.width // 8]), fmt)).astype(np.float32)


def _rules() -> dict[str, Any]:
    """Return MMA-Sim's dot products; its package of machines needs a C++ compiler, these do not."""
    import torch
    from mmasim.arithmetic import fdpa, ftz_mul_add  # type: ignore[import-not-found]

    floored = {"F": 24, "F2": 31, "rho": "RNE-FP32"}
    rules = {
        "exact": fdpa.MMA_E_FDPA,
        "pairs": ftz_mul_add.MMA_FTZ_MUL_ADD,
        "floored": lambda length: fdpa.MMA_TR_FDPA(**floored, L_max=length),
        "parts": lambda length: fdpa.MMA_GTR_FDPA(**floored, L_max=length),
    }
    types = {
        "fp16": torch.float16,
        "bf16": torch.bfloat16,
        "xf32": torch.float32,
        "e4m3fnuz": torch.float8_e4m3fnuz,
        "e5m2fnuz": torch.float8_e5m2fnuz,
    }

    def dot(rule: Any, length: int, kind: str, *arrays: np.ndarray) -> np.ndarray:
        operand = types[kind.partition(":")[2]]
        a, b, c = map(torch.from_numpy, arrays)
        result: np.ndarray = rule(length).dpa(a.to(operand), b.to(operand), c.clone()).numpy()
        return result

    return {name: lambda *given, rule=rule: dot(rule, *given) for name, rule in rules.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
