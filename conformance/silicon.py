"""Compare the models of tensor cores with this machine's own, one instruction at a time.

    python -m conformance.silicon                    # an NVIDIA GPU and nvcc; every kind
    python -m conformance.silicon fp16_fp16 --tiles 5000 --machine h100

`tensor_core.cu` is compiled on the spot; its instruction is `mma.sync`. Tiles are of four sorts:
random bit patterns (NaN, infinities, subnormals, zeros of both signs), numbers near one, numbers
whose sums round to zero, and sums that cancel. Prints one row a kind: results, those that differ,
zeros of either sign. NaN counts as equal to NaN. Exit status 1 if a result differs.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from conformance.command_line import CommandLine

SOURCE = Path(__file__).with_name("tensor_core.cu")
KINDS = ("fp16_fp16", "fp16_fp32", "bf16_fp32", "e4m3_fp16", "e4m3_fp32", "e5m2_fp16", "e5m2_fp32")
WIDTHS = {"fp32": 32, "fp16": 16, "bf16": 16, "e4m3": 8, "e5m2": 8}
SMALLEST: dict[str, float] = {
    "fp32": 2.0**-149,
    "fp16": 2.0**-24,
    "bf16": 2.0**-133,
    "e4m3": 2.0**-9,
    "e5m2": 2.0**-16,
}
SORTS = ("random bits", "near one", "near zero", "cancelling")


def main(argv: list[str]) -> int:
    """Compile, run, compare."""
    parser = CommandLine("conformance.silicon", __doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "--machine", default="h100", help="the model to compare with (default: h100)"
    )
    parser.add_argument("--arch", default="sm_90a", help="what nvcc compiles for (default: sm_90a)")
    parser.add_argument(
        "--examples", type=int, default=0, help="differing results to print (default: 0)"
    )
    parser.add_argument("--tiles", type=int, default=2000, help="of each sort (default: 2000)")
    args = parser.read(argv, examples=0, tiles=1)
    parser.check("kind", args.kinds, KINDS)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "tensor_core"
        command = ["nvcc", "-O2", f"-arch={args.arch}", "-o", str(program), str(SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
            differing = [compare(kind, program, args) for kind in args.kinds or KINDS]
        except FileNotFoundError:
            print("error: nvcc is not installed; it compiles tensor_core.cu", file=sys.stderr)
            return 2
        except subprocess.CalledProcessError as problem:
            print(f"error: {problem.stderr.strip()[:300]}", file=sys.stderr)
            return 2
    return 1 if any(differing) else 0


def spec_of(kind: str, machine: str) -> str:
    """Return the model of a kind: on Hopper, `mma.sync` of 8-bit operands is a schedule apart."""
    operand, accumulator = kind.split("_")
    is_apart = machine in ("h100", "h200") and operand in ("e4m3", "e5m2")
    ending = ":acc=fp16" if accumulator == "fp16" else ""
    return f"{machine}:{operand}{ending}{':mma' * is_apart}"


def compare(kind: str, program: Path, args: argparse.Namespace) -> int:
    """Print one row for a kind; return how many results differ."""
    import precsim as ps

    spec = spec_of(kind, args.machine)
    operand, accumulator = kind.split("_")
    depth = 16 if operand in ("fp16", "bf16") else 32
    wrong, zeros, examples = 0, [0, 0], []
    for n, sort in enumerate(SORTS):
        rng = np.random.default_rng([KINDS.index(kind), n])
        a, b, c = tiles(sort, operand, accumulator, depth, args.tiles, rng)
        parts = [x.reshape(args.tiles, -1).view(np.uint8) for x in (a, b, c)]
        sent = np.concatenate(parts, axis=1).tobytes()
        done = subprocess.run(
            [program, kind, str(args.tiles)], input=sent, capture_output=True, check=True
        )
        found = values(np.frombuffer(done.stdout, c.dtype).reshape(c.shape), accumulator)
        x, y, z = values(a, operand), values(b, operand).mT, values(c, accumulator)
        expected = np.asarray(ps.matmul(x, y, spec, c=z, backend="emulated"))
        is_equal = (found.view(np.uint32) == expected.view(np.uint32)) | (
            np.isnan(found) & np.isnan(expected)
        )
        wrong += int((~is_equal).sum())
        zeros[0] += int(((found == 0) & ~np.signbit(found)).sum())
        zeros[1] += int(((found == 0) & np.signbit(found)).sum())
        for t, i, j in np.argwhere(~is_equal)[:2]:
            terms = [f"{p!r}*{q!r}" for p, q in zip(x[t, i], y[t, :, j], strict=True) if p * q]
            examples.append(
                f"  {sort}: {' + '.join(terms)[:200]} + {z[t, i, j]!r}: silicon {found[t, i, j]!r}, "
                f"model {expected[t, i, j]!r}"
            )
    total = len(SORTS) * args.tiles * 128
    print(f"{kind:10} {spec:24} {total} results, {wrong} differ; +0: {zeros[0]}, -0: {zeros[1]}")
    if examples and args.examples:
        print(*examples[: args.examples], sep="\n", flush=True)
    return wrong


def tiles(
    sort: str, operand: str, accumulator: str, depth: int, count: int, rng: np.random.Generator
) -> tuple[Any, Any, Any]:
    """Return codes of (a, b as columns, c): shapes (count, 16 | 8 | 16, K | K | 8)."""
    import precsim as ps

    shapes = ((count, 16, depth), (count, 8, depth), (count, 16, 8))
    formats = (operand, operand, accumulator)
    if sort == "random bits":
        made = []
        for shape, fmt in zip(shapes, formats, strict=True):
            bits = WIDTHS[fmt]
            made.append(rng.integers(0, 2**bits, shape).astype(f"u{bits // 8}"))
        return made[0], made[1], made[2]
    a, b, c = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    if sort == "near zero":  # products about the smallest values of the accumulator, c often zero
        smallest = SMALLEST[accumulator]
        scale = max(smallest**0.5, SMALLEST[operand])
        a, b = a * np.float32(scale), b * np.float32(scale)
        a *= rng.random(a.shape) < 0.1
        c = np.where(rng.random(c.shape) < 0.5, np.copysign(0, c), c * np.float32(smallest))
    if sort == "cancelling":
        a[..., 1::2], b[..., 1::2] = a[..., ::2], -b[..., ::2]
        c *= np.float32(2.0**-10)
    rounded = (
        ps.round_to(x.astype(np.float32), f) for x, f in zip((a, b, c), formats, strict=True)
    )
    coded = [np.asarray(ps.encode(x, f)) for x, f in zip(rounded, formats, strict=True)]
    return coded[0], coded[1], coded[2]


def values(codes: Any, fmt: str) -> Any:
    """Return the float32 numbers of codes."""
    import precsim as ps

    return np.asarray(ps.decode(codes, fmt))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
