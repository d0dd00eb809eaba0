"""Native matrix products of this GPU against precsim's model of its tensor cores, bit for bit.

    export XLA_FLAGS="--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_cublaslt=true"
    python -m conformance.tensor_cores [--golden FILE.npz] [--spec SPEC ...]

The script prints a line per operand type, result type and shape. The line names the kernel that
ran and the schedule that `precsim.kernels.find_schedule` finds. It also gives the share of outputs
with the model's bits under that schedule (one chain where the schedule is unknown). `--golden`
records outputs for the tests.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

import precsim as ps
from conformance.command_line import CommandLine
from conformance.training import check_new_files

DTYPES: dict[str, Any] = {
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "tf32": np.float32,
}
SPECS = [
    "h100:bf16", "h100:fp16", "h100:tf32", "h100:e4m3", "h100:e5m2_e4m3", "h100:bf16->bf16", "h100:fp16->fp16",
    "h100:e4m3->bf16", "h100:e4m3->fp16",
]  # fmt: skip
UNEVEN = [
    (16, 16, 512), (16, 16, 16384), (32, 10, 784), (64, 64, 1000), (64, 64, 16384), (100, 100, 100), (128, 64, 784),
    (128, 256, 784), (192, 320, 1000),
]  # fmt: skip
"""Shapes whose tf32 kernels in cuBLASLt split K unevenly, or take left-over products first."""
KINDS = ("bits", "finite", "tiny", "normal")
CORNER = 16
"""Rows and columns of results that are compared and recorded."""


class Case(NamedTuple):
    """One product."""

    spec: str
    m: int
    n: int
    k: int
    kind: str
    seed: int


def golden_cases() -> Iterator[Case]:
    """Yield the golden file's cases: every type, K from one step to 4096, uneven parts of K."""
    specs = ("bf16", "fp16", "tf32", "e4m3", "e5m2_e4m3", "e4m3_e5m2")
    seed = 0
    for spec in specs:
        for k in (16, 32, 64, 96, 256, 1024, 4096):
            for kind in KINDS:
                if kind == "bits" and k > 64:
                    continue  # nearly all results would be NaN
                seed += 1
                yield Case(f"h100:{spec}", 16, 16, k, kind, seed)
    for m, n, k in UNEVEN:
        yield Case("h100:tf32", m, n, k, "normal", m + n + k)


def operands(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return the float32 operands of a case, from raw words of PCG64, whose stream is fixed."""
    spec = ps.MatmulSpec.parse(case.spec)
    words = np.random.PCG64(case.seed)
    made = []
    for part, shape in ((spec.lhs, (case.m, case.k)), (spec.rhs, (case.k, case.n))):
        assert part is not None
        fmt = part.format
        assert isinstance(fmt, ps.FloatFormat)
        assert fmt.width is not None
        count = shape[0] * shape[1]
        codes = (words.random_raw(count) >> np.uint64(11)).astype(np.uint32)
        if case.kind in ("bits", "finite", "tiny"):
            values = np.asarray(ps.decode(codes & np.uint32((1 << fmt.width) - 1), fmt))
            if case.kind == "tiny":  # subnormals and small numbers only
                shrunk = codes & np.uint32((1 << (fmt.precision + 1)) - 1)
                negative = np.where(codes >> np.uint32(31), np.float32(-1), np.float32(1))
                values = np.asarray(ps.decode(shrunk, fmt)) * negative
            if case.kind != "bits":
                values = np.where(np.isfinite(values), values, np.float32(1))
        else:
            # Random signs and significands; exponents around 0, spread in a bell over some 5
            # binades.
            exponent = np.bitwise_count(codes & np.uint32(0xFFFF)) + np.uint32(119)
            pattern = (codes & np.uint32(0x807FFFFF)) | (
                exponent.astype(np.uint32) << np.uint32(23)
            )
            values = (pattern ^ ((codes << np.uint32(9)) & np.uint32(0x7FFE00))).view(np.float32)
        values = np.asarray(ps.round_to(values.astype(np.float32), fmt, overflow="saturate"))
        made.append(values.reshape(shape))
    return made[0], made[1]


def native(spec: str) -> Callable[[Any, Any], Any]:
    """Return the platform's own product for a spec of a machine, of operands in their own dtypes.

    Results are float32, or what the spec's output names ("h100:bf16->bf16").
    """
    algorithm = lax.DotAlgorithmPreset.TF32_TF32_F32 if "tf32" in spec else None
    output = ps.MatmulSpec.parse(spec).output
    dtype = jnp.float32 if output is None else DTYPES[output.format.name]

    def product(a: Any, b: Any) -> Any:
        return lax.dot_general(
            a, b, (((1,), (0,)), ((), ())), precision=algorithm, preferred_element_type=dtype
        )

    return product


def narrow(spec: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert operands exactly to their dtypes, on the host: XLA's e5m2 cast loses infinities."""
    parsed = ps.MatmulSpec.parse(spec)
    assert parsed.lhs is not None
    assert parsed.rhs is not None
    return a.astype(DTYPES[parsed.lhs.format.name]), b.astype(DTYPES[parsed.rhs.format.name])


def bits(x: Any) -> np.ndarray:
    """Return float32 patterns."""
    return np.asarray(x, np.float32).view(np.uint32)


def explain(spec: str, m: int, n: int, k: int, product: Callable[[Any, Any], Any]) -> str | None:
    """Return the schedule of a product as it follows the spec; None if it is not found.

    It is ":splitk3x64", say, or "" for one chain.
    """
    found = ps.kernels.find_schedule(
        spec, m, n, k, product=lambda a, b: product(*narrow(spec, a, b))
    )
    if found.schedule is None:
        return None
    return "" if str(found.schedule) == "flat" else f":{found.schedule}"


def share_explained(
    case: Case, a: np.ndarray, b: np.ndarray, got: np.ndarray, schedule: str | None
) -> float:
    """Return the percentage of a corner's outputs that are the model's.

    The model has one chain where the schedule is unknown.
    """
    model = ps.matmul(a[:CORNER], b[:, :CORNER], case.spec + (schedule or ""), backend="reference")
    return 100 * float(np.mean(bits(model) == got[:CORNER, :CORNER]))


def record(path: Path) -> None:
    """Run the golden cases and write their outputs, each with the schedule that explains it."""
    check_new_files(path.parent, [path.name])
    outputs: dict[str, Any] = {}
    explained = cache(explain)
    products = {spec: jax.jit(native(spec)) for spec in {case.spec for case in golden_cases()}}
    for case in golden_cases():
        a, b = operands(case)
        product = products[case.spec]
        got = bits(product(*narrow(case.spec, a, b)))
        schedule = explained(case.spec, case.m, case.n, case.k, product)
        share = share_explained(case, a, b, got, schedule)
        if share < 100:
            print(f"{case}: {share:.2f} % with {schedule}")
        outputs["|".join(map(str, (*case, schedule or "")))] = got[:CORNER, :CORNER]
    device = jax.devices()[0].device_kind
    origin = f"{device}, jax {jax.__version__}, XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}"
    with path.open("xb") as file:
        np.savez_compressed(file, origin=np.array(origin), **outputs)
    print(f"wrote {len(outputs)} products of {device} to {path}")


SHAPES = [
    (1, 64, 128), (64, 1, 128), (1, 1, 256), (4, 64, 128), (8, 8, 16), (8, 8, 64), (10, 10, 100), (16, 16, 512),
    (16, 16, 2048), (16, 16, 4096), (16, 16, 16384), (32, 10, 784), (32, 32, 8192), (64, 64, 64), (64, 64, 1000),
    (64, 64, 16384), (100, 100, 100), (128, 64, 784), (128, 128, 2048), (128, 128, 8192), (128, 256, 784),
    (192, 320, 1000), (256, 256, 256), (256, 256, 4096), (256, 10, 1024), (512, 512, 512), (512, 512, 4096),
    (1000, 1000, 1000), (1024, 1024, 1024), (1437, 128, 64), (2048, 2048, 2048), (4096, 4096, 128), (4096, 16, 4096),
    (4096, 4096, 4096),
]  # fmt: skip


def survey(specs: list[str]) -> None:
    """Print the kernel of each shape, and the share of a corner's outputs that equal the model."""
    print(
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}"
    )
    for spec in specs:
        product = jax.jit(native(spec))
        for m, n, k in SHAPES:
            case = Case(spec, m, n, k, "normal", m + n + k)
            a, b = operands(case)
            try:
                small = narrow(spec, a, b)
                kernels = ps.kernels.which_kernel(native(spec), *small)
                got = bits(product(*small))
            except Exception as error:  # noqa: BLE001
                print(
                    f"{spec:15s} {m:5d} {n:5d} {k:6d}  refused: {str(error).splitlines()[0][:60]}"
                )
                continue
            schedule = explain(spec, m, n, k, product)
            share = share_explained(case, a, b, got, schedule)
            kinds = "+".join(x.kind for x in kernels)
            name = "unknown" if schedule is None else schedule[1:] or "flat"
            line = f"{spec:15s} {m:5d} {n:5d} {k:6d}  {kinds:10s} {name:20s} {share:6.2f} %"
            print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = CommandLine("conformance.tensor_cores", __doc__)
    parser.add_argument(
        "--golden", type=Path, metavar="FILE.npz", help="record the golden outputs in this file"
    )
    parser.add_argument(
        "--spec",
        nargs="+",
        default=SPECS,
        help="for example h100:bf16, or h100:bf16->bf16 for results in bf16",
    )
    options = parser.parse_args(arguments)
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError):  # JAX_PLATFORMS names what is not here
        found = "nothing"
    if found != "gpu":
        print(f"no GPU: JAX runs on {found}", file=sys.stderr)
        return 2
    if not options.golden:
        survey(options.spec)
        return 0
    try:
        record(options.golden)
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
