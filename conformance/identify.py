"""`identify`, blind: random specs that it has to recover, and the kernels of this machine.

    python -m conformance.identify --specs 100 --seed 0 --jobs 16 --limit 600
    python -m conformance.identify --specs 1 --seed 0 --first 17    # one of them again
    python -m conformance.identify --specs 20 --cpus                # orders of x86 and Arm
    python -m conformance.identify --kernels                        # NumPy, XLA here (and its GPU)
    python -m conformance.identify --kernels int8                   # those with int8 in their name

Spec number i of a seed is drawn from all families and options that `identify` searches. Only a
function of two arrays is handed over. A spec counts as recovered if the one that is found is the
same, or has equal bits on 10**5 fresh results; one that takes longer than the limit does not count.
Exit status 1 if one is not recovered.
"""

import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

import precsim as ps
from conformance.command_line import CommandLine
from conformance.fuzzing import limits
from conformance.fuzzing.limits import TooLongError
from conformance.kernels import SHAPE, kernels, report

SIDE = 317
"""Rows and columns of the product with 10**5 results on which two specs are compared."""
MODES = ("rne", "rtz", "rna", "rto", "rtp", "rtn", "raz", "rnz", "rno", "rnp", "rnn")
USUAL = MODES[:3]
OPERANDS = ("fp16", "bf16", "e4m3", "e5m2", "fp32")
ROUNDED = ("tf32", "bf16", "fp16")
SUMS = ("fp32", "fp32", "fp16", "bf16", "float(e=8,p=14)", "tf32")
OUTPUTS = ("bf16", "fp16", "e5m2", "e4m3")
FAMILIES = (
    "sequential",
    "pairwise",
    "blocked",
    "kahan",
    "two_sum",
    "exact",
    "fused",
    "exactL",
    "pairs",
    "floored",
)
CPUS = ("descending", "evenodd", "dot2")
FLUSHES = ("flush_after_rounding", "flush_tiny", "flush_before_rounding")


class Drawn(NamedTuple):
    """A product to identify."""

    formats: tuple[str, str]
    spec: ps.MatmulSpec


def draw(seed: int, number: int, families: tuple[str, ...] = FAMILIES) -> Drawn:
    """Draw a spec of some families and the formats of its operands' values."""
    rng = np.random.default_rng((seed, number))
    while True:
        try:
            return _drawn(rng, families)
        except ValueError:
            continue  # a combination that no spec can say


def _drawn(rng: np.random.Generator, families: tuple[str, ...]) -> Drawn:
    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    def pick(options: Any) -> str:
        return str(options[rng.integers(len(options))])

    family = pick(families)
    formats = (pick(OPERANDS),) * 2 if chance(0.8) else (pick(OPERANDS), pick(OPERANDS))
    kinds = FLUSHES if families == CPUS else FLUSHES[:1]
    flush = f":{kinds[rng.integers(len(kinds))]}" if chance(0.1 * len(kinds)) else ""
    narrows = chance(0.5) or family in ("fused", "floored")
    operands = [
        f"{pick(ROUNDED)}:{pick(USUAL)}{flush}" if name == "fp32" and narrows else f"{name}{flush}"
        for name in formats
    ]
    is_floored = family == "floored"
    sums = ("fp32",) if family == "dot2" else SUMS
    accumulator = "fp32" if is_floored else f"{pick(sums)}:{pick(MODES)}{flush}"
    fields: dict[str, Any] = {}
    if chance(0.25) and family not in ("fused", "floored"):
        fields["product"] = f"{pick(('fp32', 'bf16', 'fp16'))}:{pick(USUAL)}"
    if chance(0.15) and family in FAMILIES[:5]:
        fields["adder"] = "fp32"
    if chance(0.3):
        fields["output"] = f"{pick(OUTPUTS)}:{pick(USUAL)}" + (":saturate" if chance(0.2) else "")
    fields |= {"lhs": operands[0], "rhs": operands[1], "accumulator": accumulator}
    spec = ps.MatmulSpec(order=_order(rng, family), **fields)
    wide, narrow, adder = map(_numbers, (spec.accumulator, spec.output, spec.adder))
    assert wide is not None
    if narrow is not None and (narrow.precision >= wide.precision or narrow.emax > wide.emax):
        raise ValueError("an output wider than the sums rounds nothing")
    if adder is not None and adder.precision <= wide.precision:
        raise ValueError("an adder no wider than the accumulator rounds nothing")
    return Drawn(formats, spec)


def _numbers(rounding: ps.RoundingSpec | None) -> ps.FloatFormat | None:
    fmt = None if rounding is None else rounding.format
    return fmt if isinstance(fmt, ps.FloatFormat) else None


def _order(rng: np.random.Generator, family: str) -> Any:
    is_long = family in ("fused", "pairs", "exactL", "evenodd")
    length = 2 if family == "dot2" else int(2 ** rng.integers(1, 7 if is_long else 5))
    schedule = ("", f":promote{length * rng.integers(1, 5)}", f":residue{length * 2}")[
        rng.choice(3, p=[0.6, 0.25, 0.15])
    ]
    if rng.random() < 0.1:
        schedule = f":splitk{rng.integers(2, 5)}x{length}"
    match family:
        case "blocked":
            return f"blocked{rng.integers(2, 65)}"
        case "fused":
            if rng.random() < 0.1 and length <= 16:
                schedule = ":mma"
            zero = f"@{-rng.integers(127, 140)}" if rng.random() < 0.5 else ""
            sticky = "+sticky" if rng.random() < 0.15 else ""
            order = f"fused{length}x{rng.integers(8, 36)}{zero}{sticky}"
        case "exactL":
            order = f"exact{length}"
        case "pairs" | "descending" | "evenodd":
            order = f"{family}{length}"
        case "dot2":
            order = family
        case "floored":
            order = f"floored{length}x{rng.integers(16, 25)}{('', 'p2')[rng.integers(2)]}"
        case _:
            return family
    # A spec is parsed from its string, schedules with it.
    parsed = ps.MatmulSpec.parse(f"bf16_bf16_fp32:{order}{schedule}")
    return parsed.order


def black_box(spec: ps.MatmulSpec) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of two arrays that has the bits of a spec."""
    return lambda a, b: ps.matmul(a, b, spec, backend="reference")


def has_equal_bits(drawn: Drawn, found: ps.MatmulSpec, seed: int) -> bool:
    """Return whether two specs agree on 10**5 fresh results."""
    if found == drawn.spec:
        return True
    rng = np.random.default_rng((seed, 1))
    k = SHAPE[2]
    sides = []
    for name in drawn.formats:
        spread = rng.integers(0, 8, (SIDE, 1))
        exponents = rng.integers(-spread, spread + 1, (SIDE, k)).astype(np.float32)
        values = rng.standard_normal((SIDE, k), np.float32) * np.exp2(exponents)
        sides.append(ps.round_to(values, name, overflow="saturate"))
    a, b = sides[0], np.ascontiguousarray(sides[1].T)
    both = [ps.matmul(a, b, spec, backend="reference") for spec in (drawn.spec, found)]
    is_nan = np.isnan(both[0]) & np.isnan(both[1])
    return bool((is_nan | (both[0].view(np.uint32) == both[1].view(np.uint32))).all())


class Attempt(NamedTuple):
    """What became of one spec."""

    line: str
    is_recovered: bool
    queries: int


def attempt(seed: int, families: tuple[str, ...], limit: int | None, number: int) -> Attempt:
    """Identify one spec, in at most so many seconds of the processor."""
    drawn, start = draw(seed, number, families), time.process_time()
    try:
        with _limited(limit):
            answer = ps.kernels.identify(black_box(drawn.spec), formats=drawn.formats, shape=SHAPE)
    except TooLongError:
        line = f"{number:3} LATE  given up after {limit} s: {drawn.spec}"
        return Attempt(line, is_recovered=False, queries=0)
    seconds = time.process_time() - start
    if answer.spec is None:
        word = "none"
    elif answer.spec == drawn.spec:
        word = "same"
    else:
        word = "equal" if has_equal_bits(drawn, answer.spec, seed) else "OTHER"
    line = (
        f"{number:3} {word:5} {answer.queries:3} queries {seconds:5.1f} s "
        f"{drawn.spec}  ->  {answer.spec or f'nearest {answer.nearest}'}"
    )
    return Attempt(line, word in ("same", "equal"), answer.queries)


@contextmanager
def _limited(seconds: int | None) -> Iterator[None]:
    """Raise `TooLongError` after some seconds of the processor."""
    if seconds is None:
        yield
        return
    limits.begin()
    # Once more each second: it may be raised where nobody hears it, as in a finalizer.
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main(arguments: list[str] | None = None) -> int:
    """Run; return 1 if a spec is not recovered."""
    parser = CommandLine("conformance.identify", __doc__)
    parser.add_argument("--specs", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default: 0)")
    parser.add_argument(
        "--cpus", action="store_true", help="orders of x86 and Arm alone (default: all others)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="specs side by side (default: 1)")
    parser.add_argument(
        "--limit", type=int, metavar="SECONDS", help="of the processor for a spec (default: none)"
    )
    parser.add_argument(
        "--kernels",
        nargs="?",
        const="",
        metavar="WORD",
        help="instead this machine's kernels, those with a word in their name (default: none)",
    )
    options = parser.read(arguments, specs=1, seed=0, first=0, jobs=1, limit=1)
    if options.kernels is not None:
        for kernel in kernels():
            if options.kernels in kernel.name:
                print(f"## {kernel.name}\n{report(kernel)}\n", flush=True)
        return 0
    numbers = range(options.first, options.first + options.specs)
    families = CPUS if options.cpus else FAMILIES
    work = partial(attempt, options.seed, families, options.limit)
    with closing(_attempts(work, numbers, options.jobs)) as attempts:
        return _blind(attempts)


def _attempts(
    work: Callable[[int], Attempt], numbers: range, jobs: int
) -> Generator[Attempt, None, None]:
    """Yield the attempts as they end, in as many processes as are asked for."""
    if jobs == 1:
        yield from map(work, numbers)
        return
    pool = ProcessPoolExecutor(min(jobs, len(numbers)), get_context("spawn"))
    try:
        for done in as_completed([pool.submit(work, number) for number in numbers]):
            yield done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _blind(attempts: Iterable[Attempt]) -> int:
    """Print each attempt as it comes, and how many were recovered; return 1 if one was not."""
    done = []
    for each in attempts:
        print(each.line, flush=True)
        done.append(each)
    recovered = sum(each.is_recovered for each in done)
    queries = [each.queries for each in done if each.queries]
    average = sum(queries) / max(1, len(queries))
    print(f"{recovered} of {len(done)} recovered, {average:.1f} queries each")
    return int(recovered < len(done))


if __name__ == "__main__":
    sys.exit(main())
