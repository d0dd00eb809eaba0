"""One function of hardware: a conversion or an operation, its columns, its cases, its results."""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol, TypeAlias

import numpy as np

import precsim as ps
from conformance.adapters.precsim_arrays import compute
from conformance.emission.codes import (
    ALL_CODES,
    ALL_POINTS,
    cast_codes,
    float_format,
    hard_codes,
    is_quiet,
    width,
)
from conformance.vector_file import OPERANDS, RULES, Task

Inputs: TypeAlias = tuple[int, ...]
"""Codes of one case, in the order of the columns."""
Results: TypeAlias = Sequence[tuple[int, int | None]]
"""Code and exceptions of each case; None where the definition gives no exceptions."""

CHUNK = 256
"""Cases that are computed and written at a time, and that one call of a kernel takes."""
TESTFLOAT_TYPES = {"fp16": "f16", "fp32": "f32", "fp64": "f64"}
TESTFLOAT_OPERATIONS = {"subtract": "sub", "multiply": "mul", "divide": "div", "fma": "mulAdd"}
FLAGS = {
    ps.oracle.Flags.INEXACT: 1,
    ps.oracle.Flags.UNDERFLOW: 2,
    ps.oracle.Flags.OVERFLOW: 4,
    ps.oracle.Flags.DIVIDE_BY_ZERO: 8,
    ps.oracle.Flags.INVALID: 16,
}
"""The bits of TestFloat's flags, which are also those of RISC-V's fflags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One or more words of a case, all codes of one format."""

    name: str
    format: ps.FloatFormat
    count: int = 1

    def __str__(self) -> str:
        """Return the column as headers name it, for example "a[16]:e4m3"."""
        return f"{self.name}{f'[{self.count}]' if self.count > 1 else ''}:{self.format}"


class Function(Protocol):
    """What is emitted as one file."""

    @property
    def name(self) -> str:
        """The name of the file, without its ending."""

    @property
    def facts(self) -> dict[str, str]:
        """What the header says of the arithmetic."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The inputs."""

    @property
    def result(self) -> ps.FloatFormat:
        """The format of the result."""

    @property
    def has_flags(self) -> bool:
        """Whether the definition says which exceptions are signalled."""

    def hard_cases(self) -> Iterator[Inputs]:
        """Yield the hard cases by a stated rule, the hardest first, none twice."""

    def random_cases(self, rng: random.Random) -> Iterator[Inputs]:
        """Yield random cases without end."""

    def expected(self, cases: Sequence[Inputs]) -> Results:
        """Return the results by the exact definition."""

    def differing(self, cases: Sequence[Inputs], results: Results) -> list[int]:
        """Return the places at which the compiled kernel has other results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """A conversion or an operation, rounded once."""

    task: Task
    source: ps.FloatFormat
    """Format of the operands."""

    @property
    def name(self) -> str:
        """Return for example "bf16_to_e4m3.rne.saturate" or "f16_mulAdd.rtz.infinity"."""
        source, target = (type_name(str(x)) for x in (self.source, self.task.format))
        operation = self.task.operation
        kind = f"_to_{target}" if operation == "round" else f"_{operation_name(operation)}"
        return f"{source}{kind}.{self.task.mode}.{self.task.rule}"

    @property
    def facts(self) -> dict[str, str]:
        """Return operation, formats, rounding and what happens on overflow."""
        words = RULES[self.task.rule].strip(":").replace(":", ", infinity: ")
        return {
            "operation": "convert" if self.task.operation == "round" else self.task.operation,
            "format": self.task.format,
            "source": self.result.source,
            "rounding": self.task.mode,
            "rule": f"{self.task.rule} (overflow: {words})",
        }

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return x, y, z as far as the operation has them."""
        return tuple(
            Column(name=name, format=self.source) for name in "xyz"[: OPERANDS[self.task.operation]]
        )

    @property
    def result(self) -> ps.FloatFormat:
        """Return the target."""
        return float_format(self.task.format)

    @property
    def has_flags(self) -> bool:
        """Return True: IEEE 754 defines them."""
        return True

    def hard_cases(self) -> Iterator[Inputs]:
        """Yield hard codes, pairs or triples; all of them where the format is narrow."""
        seen: set[Inputs] = set()
        for case in self._hard_cases():
            if case not in seen and self._is_defined(case):
                seen.add(case)
                yield case

    def _hard_cases(self) -> Iterator[Inputs]:
        count = OPERANDS[self.task.operation]
        if self.task.operation == "round":
            yield from ((code,) for code in cast_codes(self.source, self.result))
            return
        parts = [
            itertools.product(hard_codes(self.source), repeat=count),
            _made_ties(self.task.operation, self.source),
        ]
        yield from itertools.chain(*(parts if count < 3 else reversed(parts)))
        if count * width(self.source) <= 2 * ALL_CODES:
            yield from itertools.product(range(1 << width(self.source)), repeat=count)

    def random_cases(self, rng: random.Random) -> Iterator[Inputs]:
        """Yield random codes."""
        count, end = OPERANDS[self.task.operation], 1 << width(self.source)
        while True:
            case = tuple(rng.randrange(end) for _ in range(count))
            if self._is_defined(case):
                yield case

    def _is_defined(self, case: Inputs) -> bool:
        """Leave out signalling NaN, and what the format's document does not define."""
        if not all(is_quiet(code, self.source) for code in case):
            return False
        if self.result.has_nan and self.result.has_zero:
            return True
        values = [ps.oracle.decode_exact(code, self.source) for code in case]
        if not self.result.has_zero and not all(x > 0 or math.isnan(x) for x in values):
            return False
        value = self._exact(values)[0]
        return self.result.has_nan or not math.isnan(value)

    def expected(self, cases: Sequence[Inputs]) -> Results:
        """Return codes and exceptions by `ps.oracle`."""
        decode = partial(decoded, fmt=self.source)
        found = [self._exact([decode(code) for code in case]) for case in cases]
        return [(code_of(value, self.result), flag_bits(flags)) for value, flags in found]

    def _exact(self, values: Sequence[float]) -> tuple[float, ps.oracle.Flags]:
        if self.task.operation == "round":
            return ps.oracle.round_exact(values[0], self.task.spec)
        return ps.oracle.compute_exact(self.task.operation, *values, spec=self.task.spec)

    def differing(self, cases: Sequence[Inputs], results: Results) -> list[int]:
        """Compare with the kernel under `jax.jit`; any NaN equals any NaN."""
        padded = [*cases, *[cases[0]] * (-len(cases) % CHUNK)]  # one shape, so one compilation
        columns = np.array(padded, np.uint64).T
        arrays = [np.asarray(ps.decode(codes, self.source)) for codes in columns]
        found = np.asarray(kernel(self.task)(*arrays), np.float64)[: len(cases)]
        return wrong_places(found, results, self.result)


def type_name(fmt: str) -> str:
    """Return the name of a type: TestFloat's where it has the type, else precsim's."""
    return TESTFLOAT_TYPES.get(fmt, fmt)


def operation_name(operation: str) -> str:
    """Return TestFloat's name of an operation."""
    return TESTFLOAT_OPERATIONS.get(operation, operation)


def roundings(operation: str, sources: Sequence[str], tasks: Sequence[Task]) -> list[Rounding]:
    """Return a function per task and source; an operation's source is its own format."""
    if operation != "round":
        return [Rounding(task=task, source=float_format(task.format)) for task in tasks]
    return [
        Rounding(task=task, source=float_format(source))
        for source in sources
        for task in tasks
        if source != task.format
    ]


@lru_cache(maxsize=1 << 17)
def decoded(code: int, fmt: ps.FloatFormat) -> float:
    """Return the value of a code."""
    return ps.oracle.decode_exact(code, fmt)


def code_of(x: float, fmt: ps.FloatFormat) -> int:
    """Return the code of a value of a format."""
    return _code(x, math.copysign(1.0, x), fmt)


@lru_cache(maxsize=1 << 17)
def _code(x: float, sign: float, fmt: ps.FloatFormat) -> int:
    """Return the code; the sign is for the cache, which takes -0 for 0."""
    return ps.oracle.encode_exact(x, fmt)


def flag_bits(flags: ps.oracle.Flags) -> int:
    """Return exceptions as TestFloat writes them."""
    return sum(bit for flag, bit in FLAGS.items() if flag in flags)


def wrong_places(found: np.ndarray, results: Results, fmt: ps.FloatFormat) -> list[int]:
    """Return where values are not those of the results; any NaN equals any NaN."""
    wanted = np.array([code for code, _ in results], np.uint64)
    values = np.asarray(ps.decode(wanted, fmt), np.float64)
    is_same = (found == values) & (np.signbit(found) == np.signbit(values))
    is_same |= np.isnan(found) & np.isnan(values)
    return np.flatnonzero(~is_same).tolist()


@lru_cache(maxsize=8)
def kernel(task: Task) -> Callable[..., Any]:
    """Return the jitted kernel of a task."""
    import jax

    jitted = jax.jit(lambda columns: compute(task, columns))

    def run(*arrays: np.ndarray) -> Any:
        with jax.enable_x64(True):
            return jitted(dict(zip("xyz", arrays, strict=False)))

    return run


def _made_ties(operation: str, fmt: ps.FloatFormat) -> Iterator[Inputs]:
    """Yield operands whose exact result is a midpoint, and those just above and below it."""
    last, step = int(ps.encode(fmt.max_finite, fmt)), 1 << (fmt.precision - 1)
    bases = [c for k in range(step, last, step) for c in (k, k + 1, k + step - 1) if c < last]
    if width(fmt) > ALL_POINTS:
        bases = bases[:: max(1, len(bases) // 300)]
    stride = max(2, step // 512)
    made: Iterator[tuple[float, ...]]
    match operation:
        case "add" | "subtract":
            made = ((x, part) for x in _values(bases, fmt) for part in _halves(x, fmt))
        case "fma":
            least = fmt.min_subnormal if fmt.has_subnormals else fmt.min_normal
            near_ties = (  # the product is a tie, which the third operand decides from afar
                (1.5, x, z)
                for x in _values([code | 1 for code in bases], fmt)
                for z in (least, 2.0 ** (np.frexp(x)[1] - 2 * fmt.precision - 4))
            )
            sums = (
                (2.0**power, part / 2.0**power, x)
                for x in _values(bases, fmt)
                for part in _halves(x, fmt)
                for power in {0, int(np.frexp(part)[1]) // 2}
            )
            made = itertools.chain(near_ties, sums)
        case "multiply":
            odd = _values([c | 1 for c in [*range(0, step, stride), *bases]], fmt)
            made = ((factor, x) for x in odd for factor in (1.5, 0.5, 0.75, 1.25))
        case "divide":
            odd = _values(range(1, step, stride), fmt)
            made = ((x, factor) for x in odd for factor in (2.0, 4.0))
        case _:
            return
    for values in made:
        yield from _signed_codes(values, fmt)


def _values(codes: Iterable[int], fmt: ps.FloatFormat) -> list[float]:
    return [decoded(code, fmt) for code in codes]


def _halves(x: float, fmt: ps.FloatFormat) -> list[float]:
    """Return half an ulp of a number, and what is one place more and less."""
    half = float(ps.ulp(x, fmt)) / 2
    return [half, half * (1 + 2.0 ** (1 - fmt.precision)), half * (1 - 2.0**-fmt.precision)]


def _signed_codes(values: Sequence[float], fmt: ps.FloatFormat) -> Iterator[Inputs]:
    """Yield the codes of numbers with every sign; nothing if the format lacks one of them."""
    try:
        codes = [ps.oracle.encode_exact(value, fmt) for value in values]
    except ValueError:
        return
    sign = 1 << (width(fmt) - 1) if fmt.is_signed else 0
    for signs in itertools.product((0, sign) if sign else (0,), repeat=len(codes)):
        if all(code or fmt.has_negative_zero for code in codes):
            yield tuple(code | s for code, s in zip(codes, signs, strict=True))
