r"""Compare the models of CPUs' dot products with this processor's own instructions.

    python -m conformance.processor                    # every instruction that the processor has
    python -m conformance.processor vdpbf16ps --patterns 10000000 --seed 7
    python -m conformance.processor bfdot bfmmla --run "qemu-aarch64 -cpu max" \
        --compiler "aarch64-linux-gnu-gcc -static"

`processor.c` is compiled on the spot. Operands and first values are of eight sorts: random bit
patterns (NaN, infinities, subnormals), special values, numbers near one, near the smallest normal
and near the largest value, sums just below the smallest normal value, numbers that cancel, and
ties. Prints one row an instruction: results,
those that differ, those that are NaN, zeros of either sign, and a SHA-256 of the processor's
results. NaN counts as equal to NaN, whatever its payload. An instruction that cannot be run gets a
line that says why. Exit status 1 if a result differs, 2 if nothing could be run.
"""

import argparse
import hashlib
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conformance.command_line import CommandLine
from conformance.silicon import values

SOURCE = Path(__file__).with_name("processor.c")
LACKING, UNKNOWN = 3, 4
_CHUNK = 1 << 16
"""Results that are computed at once, about."""


class Instruction(NamedTuple):
    """What an instruction computes."""

    model: str
    operand: str
    accumulator: str
    shape: tuple[int, int, int]
    """M, N and K of one block."""


_PAIR, _TILE, _ARM = (1, 1, 2), (16, 16, 32), (2, 2, 4)
INSTRUCTIONS = {
    "vdpbf16ps": Instruction("avx512:bf16", "bf16", "fp32", _PAIR),
    "tdpbf16ps": Instruction("amx:bf16", "bf16", "fp32", _TILE),
    "tdpfp16ps": Instruction("amx:fp16", "fp16", "fp32", _TILE),
    "vfmaddph": Instruction("fp16_fp16_fp16", "fp16", "fp16", (1, 1, 1)),
    "bfdot": Instruction("arm:bf16", "bf16", "fp32", _PAIR),
    "bfmmla": Instruction("arm:bf16", "bf16", "fp32", _ARM),
    "bfdot_ebf": Instruction("arm_ebf16:bf16", "bf16", "fp32", _PAIR),
    "bfmmla_ebf": Instruction("arm_ebf16:bf16", "bf16", "fp32", _ARM),
}
SMALLEST, TINY, LARGEST = "near the smallest normal", "just tiny", "near the largest"
SORTS = {
    "random bits": None,
    "special values": None,
    "near one": (-4, 5),
    SMALLEST: (0, 4),
    TINY: (0, 1),
    LARGEST: (-2, 1),
    "cancelling": (-4, 5),
    "ties": (-4, 5),
}
"""Sort of number -> exponents of the first values, from 0, the smallest or the largest one."""


class Layout(NamedTuple):
    """The bits of a format's codes."""

    exponent_bits: int
    trailing: int

    @property
    def dtype(self) -> Any:
        """The type of a code."""
        return np.uint32 if self.exponent_bits + self.trailing > 15 else np.uint16

    @property
    def bias(self) -> int:
        """What is added to an exponent."""
        return (1 << (self.exponent_bits - 1)) - 1


LAYOUTS = {"fp32": Layout(8, 23), "bf16": Layout(8, 7), "fp16": Layout(5, 10)}


def main(argv: list[str] | None = None) -> int:
    """Compile, run, compare."""
    parser = CommandLine("conformance.processor", __doc__)
    names = ", ".join(INSTRUCTIONS)
    parser.add_argument("instructions", nargs="*", metavar="INSTRUCTION", help=names)
    parser.add_argument("--patterns", type=int, default=1_000_000, help="results (default: 10^6)")
    parser.add_argument("--seed", type=int, default=0, help="of the numbers (default: 0)")
    parser.add_argument("--compiler", default="gcc", help="a C compiler (default: gcc)")
    parser.add_argument("--run", default="", help="what runs the program (default: nothing)")
    parser.add_argument("--examples", type=int, default=0, help="differing ones (default: 0)")
    args = parser.read(argv, patterns=1, seed=0, examples=0)
    parser.check("instruction", args.instructions, INSTRUCTIONS)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "processor"
        compiler = shlex.split(args.compiler) or ["gcc"]
        try:
            version = subprocess.run(
                [compiler[0], "--version"], check=False, capture_output=True, text=True
            )
            command = [*compiler, "-O2", "-o", str(program), str(SOURCE)]
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError:
            print(f"error: {compiler[0]} cannot be run; it compiles processor.c", file=sys.stderr)
            return 2
        except subprocess.CalledProcessError as problem:
            print(f"error: {problem.stderr.strip()[:300]}", file=sys.stderr)
            return 2
        print(f"{args.run or processor()}; {version.stdout.partition(chr(10))[0] or compiler[0]}")
        call = [*shlex.split(args.run), str(program)]
        try:
            found = [compare(name, call, args) for name in args.instructions or INSTRUCTIONS]
        except OSError:
            print(f"error: {call[0]} cannot be run", file=sys.stderr)
            return 2
    if all(wrong is None for wrong in found):
        return 2
    return 1 if any(found) else 0


def processor() -> str:
    """Return the name, family and model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    known = [f"{key} {facts[key]}" for key in ("cpu family", "model", "stepping") if key in facts]
    return ", ".join([facts.get("model name", platform.machine()), *known])


def compare(name: str, call: list[str], args: argparse.Namespace) -> int | None:
    """Print one row for an instruction; return how many results differ, None if it was not run."""
    instruction = INSTRUCTIONS[name]
    status = subprocess.run([*call, name, "0"], check=False, capture_output=True).returncode
    if status:
        reasons = {LACKING: "the processor lacks it", UNKNOWN: "not compiled for this processor"}
        print(f"{name:10} not run: {reasons.get(status, f'the program ended with {status}')}")
        return None
    wrong, seen, digest, examples = 0, np.zeros(3, int), hashlib.sha256(), []
    total = 0
    for sort, (a, b, c) in blocks(instruction, args.patterns, args.seed):
        found = values(through(name, call, a, b, c), instruction.accumulator)
        expected = modelled(instruction, a, b, c)
        is_equal = (found.view(np.uint32) == expected.view(np.uint32)) | (
            np.isnan(found) & np.isnan(expected)
        )
        wrong, total = wrong + int((~is_equal).sum()), total + found.size
        is_zero, is_negative = found == 0, np.signbit(found)
        kinds = np.isnan(found), is_zero & ~is_negative, is_zero & is_negative
        seen += [int(kind.sum()) for kind in kinds]
        digest.update(canonical(found))
        for t, i, j in np.argwhere(~is_equal)[:2]:
            x, y = (values(v, instruction.operand) for v in (a[t, i], b[t, j]))
            first = values(c, instruction.accumulator)[t, i, j]
            examples.append(
                f"  {sort}: {x.tolist()} . {y.tolist()} + {first!r}: processor "
                f"{found[t, i, j]!r}, model {expected[t, i, j]!r}"
            )
    print(
        f"{name:10} {instruction.model:15} {total} results, {wrong} differ; NaN: {seen[0]}, "
        f"+0: {seen[1]}, -0: {seen[2]}; sha256 {digest.hexdigest()[:16]}",
        flush=True,
    )
    if examples and args.examples:
        print(*examples[: args.examples], sep="\n", flush=True)
    return wrong


def blocks(instruction: Instruction, patterns: int, seed: int) -> Any:
    """Yield sorts and blocks of codes until there are `patterns` results or a few more."""
    m, n, _ = instruction.shape
    count = -(-min(_CHUNK, -(-patterns // len(SORTS))) // (m * n))
    done, part = 0, 0
    while done < patterns:
        for k, sort in enumerate(SORTS):
            yield sort, drawn(sort, instruction, count, np.random.default_rng([seed, k, part]))
            done += count * m * n
        part += 1


def modelled(instruction: Instruction, a: Any, b: Any, c: Any) -> Any:
    """Return what precsim computes, float32 numbers."""
    import precsim as ps

    x, y = values(a, instruction.operand), values(b, instruction.operand).mT
    first = values(c, instruction.accumulator)
    return np.asarray(ps.matmul(x, y, instruction.model, c=first, backend="emulated"))


def canonical(x: Any) -> bytes:
    """Return the bytes of float32 numbers, with one NaN."""
    patterns = np.where(np.isnan(x), np.uint32(0x7FC00000), x.view(np.uint32))
    return bytes(patterns.astype("<u4").tobytes())


def through(name: str, call: list[str], a: Any, b: Any, c: Any) -> Any:
    """Return the codes that the instruction makes of blocks."""
    parts = [x.reshape(len(a), -1).view(np.uint8) for x in (a, b, c)]
    sent = np.concatenate(parts, axis=1).tobytes()
    done = subprocess.run([*call, name, str(len(a))], input=sent, capture_output=True, check=True)
    return np.frombuffer(done.stdout, c.dtype).reshape(c.shape)


def drawn(
    sort: str, instruction: Instruction, count: int, rng: np.random.Generator
) -> tuple[Any, Any, Any]:
    """Return codes of a (count, M, K), b as columns (count, N, K) and c (count, M, N)."""
    m, n, depth = instruction.shape
    shapes = (count, m, depth), (count, n, depth), (count, m, n)
    operand, accumulator = LAYOUTS[instruction.operand], LAYOUTS[instruction.accumulator]
    layouts = operand, operand, accumulator
    span = SORTS[sort]
    if span is None:
        draw = random_codes if sort == "random bits" else special_codes
        a, b, c = (draw(shape, of, rng) for shape, of in zip(shapes, layouts, strict=True))
        return a, b, c
    smallest, last = 1 - accumulator.bias, -accumulator.trailing
    origins = {SMALLEST: smallest, TINY: smallest, LARGEST: accumulator.bias}
    # One exponent for the first values of a block; products from just above it to far below.
    base = origins.get(sort, 0) + rng.integers(*span, (count, 1, 1))
    reach = (last - 3, last) if sort == TINY else (last - 8, 3)
    of_product = base + rng.integers(*reach, (count, 1, depth))
    half = of_product // 2 + rng.integers(-3, 4, (count, 1, depth))
    a = codes(np.broadcast_to(half, shapes[0]), operand, rng)
    b = codes(np.broadcast_to(of_product - half, shapes[1]), operand, rng)
    c = codes(base + rng.integers(-2, 2, shapes[2]) * (sort != TINY), accumulator, rng)
    if sort == TINY:  # powers of two, or the number after one
        c &= ~accumulator.dtype((1 << accumulator.trailing) - 1)
        c |= rng.integers(0, 2, shapes[2]).astype(accumulator.dtype)
    minus = operand.dtype(1 << (operand.exponent_bits + operand.trailing))
    if sort == "cancelling":
        a[..., 1::2], b[..., 1::2] = (
            a[..., : depth // 2 * 2 : 2],
            b[..., : depth // 2 * 2 : 2] ^ minus,
        )
        c[rng.random(c.shape) < 0.5] = 0
    if sort == "ties":  # one bit in each factor, and an odd first value
        leading = ~operand.dtype((1 << operand.trailing) - 1)
        a, b, c = a & leading, b & leading, c | accumulator.dtype(1)
    return a, b, c


def random_codes(shape: Any, of: Layout, rng: np.random.Generator) -> Any:
    """Return codes, all equally likely."""
    return rng.integers(0, 1 << (1 + of.exponent_bits + of.trailing), shape).astype(of.dtype)


def special_codes(shape: Any, of: Layout, rng: np.random.Generator) -> Any:
    """Return zeros, the ends of subnormals and normal values, one, infinities and NaN."""
    normal, top = 1 << of.trailing, ((1 << of.exponent_bits) - 1) << of.trailing
    one = of.bias << of.trailing
    found = [
        0,
        1,
        normal - 1,
        normal,
        normal + 1,
        one,
        one + 1,
        top - 1,
        top,
        top + 1,
        top + normal - 1,
    ]
    codes_of = np.array(found, of.dtype)[rng.integers(0, len(found), shape)]
    sign = rng.integers(0, 2, shape).astype(of.dtype) << of.dtype(of.exponent_bits + of.trailing)
    return codes_of | sign


def codes(exponent: Any, of: Layout, rng: np.random.Generator) -> Any:
    """Return codes of numbers with these exponents, of few bits as often as of many."""
    field = np.clip(exponent + of.bias, 0, (1 << of.exponent_bits) - 2)
    fraction = rng.integers(0, 1 << of.trailing, exponent.shape)
    fraction = fraction >> (zeros := rng.integers(0, of.trailing + 1, exponent.shape)) << zeros
    sign = rng.integers(0, 2, exponent.shape) << (of.exponent_bits + of.trailing)
    return (sign | (field << of.trailing) | fraction).astype(of.dtype)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
