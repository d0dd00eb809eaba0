"""Vectors for hardware: complete, unchanged, right, and able to catch known mistakes."""

import hashlib
import itertools
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from conformance.__main__ import main
from conformance.adapters import ADAPTERS
from conformance.emission import command, functions
from conformance.emission.blocks import block_functions
from conformance.emission.codes import cast_codes, float_format, nan_codes, width
from conformance.emission.command import rows
from conformance.emission.dots import DotProduct, dot_product
from conformance.emission.functions import Function, Rounding, roundings
from conformance.emission.layouts import CHECKER, Row, lines
from conformance.vector_file import Task

EXAMPLE = CHECKER.with_name("example.h")
FLOATS = [name for name in ps.list_formats(kind="float") if name != "fp64"]
Mutant = Callable[..., float]


def rounding(name: str) -> Rounding:
    """Return the function of "bf16 round e4m3 rne saturate" or "e4m3 add e4m3 rne infinity"."""
    source, operation, fmt, mode, rule = name.split()
    task = Task(operation=operation, format=fmt, rule=rule, mode=mode)
    return roundings(operation, [source], [task])[0]


def function_of(name: str) -> Function:
    """Return a rounding, the scale or element of "mxfp4 scale" or "mxfp4 rne", or a dot product."""
    words = name.split()
    if len(words) == 2:
        found = {f.name.rpartition(".")[2]: f for f in block_functions(mx(words[0]), ["rne"])}
        return found[words[1]]
    return rounding(name) if len(words) > 2 else dot_product(name)


def mx(name: str) -> ps.BlockFormat:
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.BlockFormat)
    return fmt


def emitted(name: str, count: int = 0) -> Iterator[Row]:
    """Yield the cases of a function."""
    return rows(function_of(name), count, 754)


@pytest.mark.parametrize("name", FLOATS)
def test_nan_codes(name: str) -> None:
    fmt, nan = float_format(name), nan_codes(float_format(name))
    bits = width(fmt)
    codes = np.arange(1 << min(bits, 16), dtype=np.uint64) << np.uint64(max(bits - 16, 0))
    found = (nan.first <= (codes & nan.mask)) & ((codes & nan.mask) <= nan.last)
    assert np.array_equal(found, np.isnan(np.asarray(ps.decode(codes, fmt))))


@pytest.mark.parametrize("target", ["e4m3", "e5m2", "e2m1", "e5m2fnuz", "binary8p4se"])
def test_casts_have_every_tie_and_every_neighbour(target: str) -> None:
    """Of all 65,536 codes of bf16, by their values alone."""
    source, fmt = float_format("bf16"), float_format(target)
    given = set(cast_codes(source, fmt))
    values = np.asarray(ps.decode(np.arange(1 << 15), source), np.float64)
    values = values[np.isfinite(values)]  # in ascending order of codes
    grid = np.unique(np.abs(np.asarray(ps.decode(np.arange(1 << width(fmt)), fmt), np.float64)))
    grid = grid[np.isfinite(grid)]
    beyond = 2 * grid[-1] - grid[-2]
    for point in (*grid, *(grid[1:] + grid[:-1]) / 2, (grid[-1] + beyond) / 2, beyond):
        below, above = np.searchsorted(values, point, "right") - 1, np.searchsorted(values, point)
        wanted = {below, above} | ({below - 1, above + 1} if below == above else set())
        wanted &= set(range(len(values)))
        assert wanted <= given, point
        assert {code | 0x8000 for code in wanted} <= given
    assert {0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC0} <= given


@pytest.mark.parametrize("name", ["e2m1", "e3m2", "e4m3fnuz"])
def test_narrow_formats_are_complete(name: str) -> None:
    size = 1 << width(float_format(name))
    casts = rounding(f"{name} round fp32 rne infinity").hard_cases()
    assert sorted(casts) == [(code,) for code in range(size)]
    pairs = list(rounding(f"{name} add {name} rne saturate").hard_cases())
    assert sorted(pairs) == sorted(itertools.product(range(size), repeat=2))
    assert len(set(pairs)) == len(pairs)


@pytest.mark.long
def test_ties_of_operations_are_ties() -> None:
    """Where modes differ only in what they do with ties, many results of the first cases differ."""
    for operation, least in {"add": 100, "multiply": 100, "divide": 1, "fma": 100}.items():
        name = f"fp16 {operation} fp16 {{}} infinity"
        even, away = (
            list(itertools.islice(rows(rounding(name.format(mode)), 0, 1), 6_000))
            for mode in ("rne", "rna")
        )
        differing = sum(x != y for x, y in zip(even, away, strict=True))
        assert differing > least, operation


@pytest.mark.parametrize("name", ["bf16 round e2m1 rne saturate", "fp32 round e8m0 rtp infinity"])
def test_what_no_document_defines_is_left_out(name: str) -> None:
    function = rounding(name)
    for inputs, _, _ in emitted(name, 200):
        x = ps.oracle.decode_exact(inputs[0], function.source)
        assert not (math.isnan(x) and not function.result.has_nan)
        assert not (x <= 0 and not function.result.has_zero)


DIGESTS = {
    # Layout and function, and the start of the SHA-256 of the file with 100 random cases.
    ("hex", "bf16 round e4m3 rne saturate"): "eae5b6e56ff2cdaa",
    ("testfloat", "fp32 round e5m2 rtz infinity"): "ca159db820fb92eb",
    ("c", "e2m1 fma e2m1 rne saturate"): "64587db7e5d75353",
    ("hex", "binary4p2sf multiply binary4p2sf rne satnone"): "6b0e9fa370e19a04",
    ("testfloat", "fp16 sqrt fp16 rtp infinity"): "43d06ae3dbbf1345",
    # Layout and function, and the start of the SHA-256 of the file with 100 random cases.
    ("testfloat", "mxfp4 rne"): "e0a7bf2120e622fe",
    ("hex", "mxfp8_e4m3 scale"): "7a523324e3e67b05",
    ("hex", "mi300x:fp16"): "a2f0c274c0c56271",
    ("c", "b200:nvfp4"): "13f5dba7221b26d1",
}


def digest(layout: str, name: str) -> str:
    function = function_of(name)
    text = "".join(f"{line}\n" for line in lines(layout, function, emitted(name, 100)))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        pytest.param(*key, marks=pytest.mark.slow if "b200" in key[1] else pytest.mark.long)
        for key in DIGESTS
    ],
)
def test_files_do_not_change(layout: str, name: str) -> None:
    assert digest(layout, name) == DIGESTS[layout, name]


def test_a_kernel_with_other_results_stops_the_emission(monkeypatch: pytest.MonkeyPatch) -> None:
    functions.kernel.cache_clear()
    monkeypatch.setattr(functions, "compute", lambda task, columns: columns["x"] * 0.5)
    function = rounding("e2m1 round fp32 rne infinity")
    with pytest.raises(AssertionError, match=r"e2m1_to_f32.rne.infinity: .* differ at 1$"):
        list(rows(function, 0, 0))
    functions.kernel.cache_clear()


def first_wrong(name: str, mutant: Mutant) -> int:
    """Return the number of the first case, from 1, that tells a mutant; fail if there is none.

    A mutant is a function of the values of the inputs; any NaN equals any NaN.
    """
    function = function_of(name)
    formats = [c.format for c in function.columns for _ in range(c.count)]
    for number, (inputs, result, _) in enumerate(emitted(name), 1):
        values = [ps.oracle.decode_exact(x, f) for x, f in zip(inputs, formats, strict=True)]
        got, wanted = mutant(*values), ps.oracle.decode_exact(result, function.result)
        is_same = got == wanted and math.copysign(1, got) == math.copysign(1, wanted)
        if not (is_same or (math.isnan(got) and math.isnan(wanted))):
            return number
    pytest.fail(f"{name} does not catch the mutant")


def exact(x: float, spec: str) -> float:
    return ps.oracle.round_exact(x, spec).value


def nan_beyond_three_bits(x: float) -> float:
    """Saturn-vectors #101, first: special means at least 512 in E5M3, and a fraction there NaN."""
    wide = exact(x, "float(e=5,p=4)")
    fraction = math.frexp(abs(wide))[0] * 2 - 1 if math.isfinite(wide) and wide else 0.0
    is_nan = math.isfinite(wide) and abs(wide) >= 512 and fraction != 0
    return math.nan if is_nan else exact(x, "e4m3:saturate")


def overflow_without_a_mode(x: float) -> float:
    """Saturn-vectors #101, second: overflow gives NaN also where the mode points inward."""
    y = exact(x, "e4m3:rtz")
    return math.nan if exact(x, "float(e=8,p=4):rtz") not in (y, 0.0) and abs(y) == 448 else y


def flushed(x: float) -> float:
    y = exact(x, "e5m2")
    return math.copysign(0.0, y) if abs(y) < 2.0**-14 else y


def read_as_ocp(x: float) -> float:
    """Decode a code of E4M3FNUZ as one of OCP's E4M3."""
    return ps.oracle.decode_exact(ps.oracle.encode_exact(x, "e4m3fnuz"), "e4m3")


def without_high_codes(x: float) -> float:
    """Read the top exponent of E4M3 as IEEE 754 would: infinity and NaN."""
    return x if abs(x) < 256 else math.copysign(math.inf, x) if abs(x) == 256 else math.nan


def compute(operation: str, spec: str) -> Mutant:
    return lambda *x: ps.oracle.compute_exact(operation, *x, spec=spec).value


def through(operation: str, middle: str, spec: str) -> Mutant:
    return lambda *x: exact(compute(operation, middle)(*x), spec)


def scale_of(*x: float, offset: int = 8) -> float:
    """Return the scale of a block of MXFP8 E4M3, by another rule than that of OCP."""
    if not all(map(math.isfinite, x)):
        return math.nan
    exponent = math.frexp(max(map(abs, x)) or 2.0**-200)[1]
    return 2.0 ** min(max(exponent - 1 - offset, -127), 127)


MUTANTS: dict[str, tuple[str, Mutant, int]] = {
    "nan_beyond_three_bits": ("bf16 round e4m3 rne saturate", nan_beyond_three_bits, 100),
    "overflow_without_a_mode": ("bf16 round e4m3 rtz infinity", overflow_without_a_mode, 100),
    "saturates_instead_of_nan": (
        "fp32 round e4m3 rne infinity",
        lambda x: exact(x, "e4m3:saturate"),
        100,
    ),
    "infinity_saturates": (
        "fp32 round e4m3 rne saturate",
        lambda x: exact(x, "e4m3:saturate:saturate_infinity"),
        100,
    ),
    "threshold_is_the_largest": (
        "bf16 round e4m3 rne infinity",
        lambda x: math.nan if abs(x) > 448 else exact(x, "e4m3"),
        100,
    ),
    "twice_rounded_cast": (
        "fp32 round e5m2 rne infinity",
        lambda x: exact(exact(x, "fp16"), "e5m2"),
        100,
    ),
    "ties_away": ("bf16 round e4m3 rne infinity", lambda x: exact(x, "e4m3:rna"), 100),
    "truncates": ("bf16 round e2m1 rne saturate", lambda x: exact(x, "e2m1:rtz:saturate"), 100),
    "minus_zero_lost": ("bf16 round e5m2 rne infinity", lambda x: exact(x, "e5m2") + 0.0, 100),
    "minus_zero_kept": (
        "bf16 round e4m3fnuz rne infinity",
        lambda x: exact(x, "e4m3fnuz") if x else x,
        100,
    ),
    "flushes": ("bf16 round e5m2 rne infinity", flushed, 100),
    "fnuz_read_as_ocp": ("e4m3fnuz round fp32 rne infinity", read_as_ocp, 100),
    "top_exponent_is_special": ("e4m3 round fp32 rne infinity", without_high_codes, 256),
    "odd_codes_are_significands": (
        "fp32 round binary5p1uf rne satnone",
        lambda x: exact(x, "binary5p1uf:rna:infinity_or_max"),
        300,
    ),
    "multiplies_through_tf32": (
        "bf16 multiply bf16 rne infinity",
        through("multiply", "tf32", "bf16"),
        300,
    ),
    "fma_rounds_the_product": (
        "e4m3 fma e4m3 rne infinity",
        lambda x, y, z: compute("add", "e4m3")(compute("multiply", "e4m3")(x, y), z),
        100,
    ),
    "fma_through_bf16": ("e4m3 fma e4m3 rne infinity", through("fma", "bf16", "e4m3"), 100),
    "bf16_fma_through_fp32": ("bf16 fma bf16 rne infinity", through("fma", "fp32", "bf16"), 400),
    "scale_without_emax": ("mxfp8_e4m3 scale", partial(scale_of, offset=0), 100),
    "scale_rounds_up": (
        "mxfp8_e4m3 scale",
        lambda *x: scale_of(*(v * 1.75 for v in x)),
        100,
    ),
    "scale_of_signed_numbers": (
        "mxfp8_e4m3 scale",
        lambda *x: scale_of(*(max(v, 0.0) for v in x)),
        100,
    ),
    "scale_ignores_nan": (
        "mxfp8_e4m3 scale",
        lambda *x: scale_of(*(v if math.isfinite(v) else 0.0 for v in x)),
        100,
    ),
    "element_is_not_clamped": (
        "mxfp8_e4m3 rne",
        compute("divide", "e4m3"),
        100,
    ),
    "sum_is_minus_zero": (
        "e4m3 add e4m3 rtn infinity",
        lambda x, y: compute("add", "e4m3:rtn")(x, y) + 0.0,
        100,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_roundings_are_caught_early(mutant: str) -> None:
    name, compute_wrongly, most = MUTANTS[mutant]
    number = first_wrong(name, compute_wrongly)
    print(mutant, number)  # noqa: T201
    assert number <= most


def of_dot(machine: str, compute_wrongly: Callable[..., float]) -> Mutant:
    """Return a mutant of a, b and c."""
    k = dot_product(machine).columns[0].count
    return lambda *x: compute_wrongly(x[:k], x[k : 2 * k], *x[2 * k :])


def fma_chain(a: Sequence[float], b: Sequence[float], c: float) -> float:
    """gem5 #2478: one fused multiply-add after the other, each rounded to float32."""
    for x, y in zip(a, b, strict=True):
        c = ps.oracle.compute_exact("fma", x, y, c, spec="fp32").value
    return c


def another(machine: str) -> Callable[..., float]:
    return lambda a, b, c: ps.oracle.fused_dot_exact(a, b, c, machine)


def without_c(machine: str) -> Callable[..., float]:
    return lambda a, b, c: ps.oracle.fused_dot_exact(a, b, c if abs(c) > 1e-6 else 0.0, machine)


DOT_MUTANTS: dict[str, tuple[str, Callable[..., float], int]] = {
    "fma_chain_fp16": ("mi300x:fp16", fma_chain, 100),
    "fma_chain_bf16": ("mi300x:bf16", fma_chain, 100),
    "fma_chain_fp8": ("mi300x:e4m3fnuz", fma_chain, 100),
    "one_bit_less": ("h100:fp16", another("a100:fp16"), 400),
    "ieee_sum": ("h100:e4m3", fma_chain, 100),
    "rounds_to_nearest": ("h100:bf16", another("mi300x:bf16"), 400),
    "no_flush": ("mi250:fp16", another("mi100:fp16"), 400),
    "c_lost": ("a100:bf16", without_c("a100:bf16"), 100),
}


@pytest.mark.long
@pytest.mark.parametrize("mutant", DOT_MUTANTS)
def test_mutants_of_dot_products_are_caught_early(mutant: str) -> None:
    machine, compute_wrongly, most = DOT_MUTANTS[mutant]
    number = first_wrong(machine, of_dot(machine, compute_wrongly))
    print(mutant, number)  # noqa: T201
    assert number <= most


@pytest.mark.slow
def test_mutants_of_scales_are_caught() -> None:
    """Scales of NaN that are ignored; scales of blocks that are exchanged."""
    shape = dot_product("b200:mxfp8_e4m3").shape

    def ignored(a: Sequence[float], b: Sequence[float], *more: float) -> float:
        scales = [1.0 if math.isnan(x) else x for x in more[:-1]]
        return scaled(a, b, scales, more[-1])

    def scaled(a: Sequence[float], b: Sequence[float], scales: Sequence[float], c: float) -> float:
        n = len(shape.ones[0])
        spec, a_scales, b_scales = "b200:mxfp8_e4m3", scales[:n], scales[n:]
        return ps.oracle.fused_dot_exact(a, b, c, spec, a_scales=a_scales, b_scales=b_scales)

    def exchanged(a: Sequence[float], b: Sequence[float], *more: float) -> float:
        return scaled(a, b, [more[1], more[0], *more[2:-1]], more[-1])

    numbers = {
        mutant.__name__: first_wrong("b200:mxfp8_e4m3", of_dot("b200:mxfp8_e4m3", mutant))
        for mutant in (ignored, exchanged)
    }
    print(numbers)  # noqa: T201
    assert max(numbers.values()) <= 1000


ML_DTYPES = {
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e4m3b11fnuz": "float8_e4m3b11fnuz",
    "ieee_e4m3": "float8_e4m3",
    "ieee_e3m4": "float8_e3m4",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
    "bf16": "bfloat16",
}


@pytest.mark.parametrize("name", ML_DTYPES)
def test_casts_agree_with_ml_dtypes(name: str) -> None:
    """From float32, to nearest, as that library does it: no saturation where there is NaN."""
    rule = "saturate" if name in ("e3m2", "e2m3", "e2m1") else "infinity"
    cases = list(itertools.islice(emitted(f"fp32 round {name} rne {rule}"), 10_000))
    x = np.array([inputs[0] for inputs, _, _ in cases], np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        theirs = x.astype(getattr(ml_dtypes, ML_DTYPES[name])).astype(np.float64)
    ours = np.asarray(ps.decode(np.array([r for _, r, _ in cases]), name), np.float64)
    np.testing.assert_array_equal(theirs, ours)
    assert np.array_equal(np.signbit(theirs[~np.isnan(ours)]), np.signbit(ours[~np.isnan(ours)]))


@pytest.mark.long
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e3m2", "e2m3", "e2m1"])
def test_casts_agree_with_gfloat(name: str) -> None:
    """In five modes, with and without saturation; gfloat shares no code with precsim."""
    pytest.importorskip("gfloat")
    peer, compared = ADAPTERS["gfloat_numpy"], 0
    for mode, rule in itertools.product(command.CAST_MODES, ("infinity", "satfinite", "saturate")):
        function = rounding(f"bf16 round {name} {mode} {rule}")
        if not peer.supports(function.task):
            continue
        cases = list(rows(function, 0, 0))
        x = np.asarray(ps.decode(np.array([row[0][0] for row in cases]), "bf16"), np.float64)
        theirs = peer.compute(function.task, {"x": x})
        wanted = ps.decode(np.array([row[1] for row in cases]), name)
        np.testing.assert_array_equal(
            np.asarray(theirs, np.float64), np.asarray(wanted, np.float64)
        )
        compared += len(cases)
    assert compared > 5000


def compiled(folder: Path, *options: str) -> str:
    """Compile the checker with the example's functions; return the program."""
    shutil.copy(CHECKER, folder)
    shutil.copy(EXAMPLE, folder)
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", *options]
    subprocess.run([*command, "checker.c", "-o", "checker"], cwd=folder, check=True)
    return str(folder / "checker")


def emit(folder: Path, *options: str) -> Path:
    """Run the command; return the folder that it made."""
    arguments = ["--out", str(folder / "vectors"), "--random", "50", *options]
    assert main(arguments) == 0
    return folder / "vectors"


CAST = ("--format", "e4m3", "--source", "bf16", "--operation", "convert")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
FUNCTIONS = '-DFUNCTIONS="example.h"'


@needs_gcc
@pytest.mark.long
def test_checker_calls_functions(tmp_path: Path) -> None:
    """The example has its integer arithmetic and its flags by itself; its faults are caught."""
    modes = ("--mode", "rne", "rtz", "--rule", "saturate", "infinity")
    folder = emit(tmp_path, "--emit", "hex", *CAST, *modes)
    files = [
        folder / f"bf16_to_e4m3.{x}.hex" for x in ("rne.saturate", "rne.infinity", "rtz.infinity")
    ]
    wrong = {}
    for fault in range(3):
        program = compiled(tmp_path, FUNCTIONS, f"-DFAULT={fault}")
        done = subprocess.run(
            [program, "call", *files], capture_output=True, text=True, check=False
        )
        last = [line for line in done.stdout.splitlines() if line.endswith("wrong")]
        wrong[fault] = [int(line.split()[-2]) > 0 for line in last]
        assert done.returncode == any(wrong[fault])
    assert wrong == {0: [False] * 3, 1: [True, False, False], 2: [False, False, True]}


@needs_gcc
@pytest.mark.long
def test_checker_compares_results(tmp_path: Path) -> None:
    options = (
        "--emit",
        "hex",
        "--machine",
        "mi300x:bf16",
        "--format",
        "e2m1",
        "--operation",
        "dot",
        "add",
    )
    folder = emit(tmp_path, *options)
    program = compiled(tmp_path)

    def run(command: str, path: Path, text: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [program, command, path], input=text, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    for path in folder.glob("*.hex"):
        words = [x.split() for x in path.read_text().splitlines() if not x.startswith("//")]
        columns = 2 if path.name.startswith("e2m1") else 1
        _, inputs = run("inputs", path)
        assert [[int(w, 16) for w in x.split()] for x in inputs.splitlines()] == [
            [int(w, 16) for w in x[:-columns]] for x in words
        ]
        right = [" ".join(x[-columns:]) for x in words]
        assert run("compare", path, "\n".join(right) + "\n")[0] == 0
        other = "1" if int(words[6][-columns], 16) == 0 else "0"
        status, printed = run("compare", path, "\n".join([*right[:6], other, *right[7:]]) + "\n")
        assert (status, " case 7: " in printed, "1 wrong" in printed) == (1, True, True)
        assert "more cases than there are results" in run("compare", path, "0\n")[1]
        assert "fewer cases" in run("compare", path, "\n".join([*right, "0"]))[1]
        text = path.read_text()
        for damage in (
            text[:-60],
            text.replace("// words", "// word"),
            text.replace("\n0", "\nx", 1),
        ):
            (tmp_path / "damaged.hex").write_text(damage)
            assert run("compare", tmp_path / "damaged.hex", "\n".join(right) + "\n")[0] in (1, 2)
    assert "has no function" in run("call", path)[1]
    assert run("compare", tmp_path / "nowhere.hex")[0] == 2
    assert run("look", path)[1].startswith("usage: ")


@needs_gcc
@pytest.mark.long
def test_checker_without_files(tmp_path: Path) -> None:
    modes = ("--mode", "rne", "rtz", "--rule", "saturate", "infinity")
    machine = ("--machine", "mi300x:e4m3fnuz", "--operation", "dot")
    folder = emit(tmp_path, "--emit", "c", *CAST, *modes, *machine)
    for fault, status in ((0, 0), (1, 1)):
        program = compiled(folder, FUNCTIONS, f"-DFAULT={fault}", '-DVECTORS="all.h"')
        done = subprocess.run([program], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert done.stdout.count(" wrong\n") == 3


def test_folder_and_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = emit(
        tmp_path, "--emit", "testfloat", "--format", "binary4p2sf", "--operation", "divide"
    )
    (path,) = (p for p in folder.iterdir() if p.name != "index.txt")
    assert path.name == "binary4p2sf_div.rne.satnone.txt"
    index = (folder / "index.txt").read_text()
    assert f"cases: 306, 256 hard, {path.stat().st_size} bytes" in index
    assert "rule: satnone (overflow: infinity_or_max" in index
    assert all(len(line.split()) == 4 for line in path.read_text().splitlines())
    assert "1 files in" in capsys.readouterr().out
    assert main(["--emit", "hex", "--out", str(folder)]) == 2
    assert "which exists; allowed is a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "fp99"], "unknown format 'fp99'"),
        (["--format", "q3.4"], "format is q3.4; allowed are floating-point formats"),
        (["--format", "e8m0", "--operation", "add"], "e8m0 has no add; allowed are signed formats"),
        (["--format", "nvfp4"], "format is nvfp4; allowed are MX formats of floats"),
        (["--source", "tf31"], "unknown format 'tf31'"),
        (["--mode", "sr8"], "--mode has 'sr8'; allowed are rne"),
        (["--rule", "wrap"], "--rule has 'wrap'; allowed are infinity"),
        (["--operation", "round"], "--operation has 'round'; allowed are convert"),
        (["--machine", "h100:fp17"], "h100 has no product"),
        (["--machine", "fp16_fp16_fp32"], "machine is 'fp16_fp16_fp32'; allowed are products in"),
        (["--machine", "h100:fp16", "--k", "0"], "--k is 0; allowed are"),
        (["--machine", "h100:fp16", "--k", "2000"], "--k is 2000; allowed are at most 1024"),
        (["--machine", "b200:mxfp4", "--k", "40"], "--k is 40; allowed are multiples of 32"),
        (["--machine", "h100:fp16", "--operation", "add"], "no function is both"),
        (["--random", "-1"], "--random is -1; allowed are integers from 0"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--emit", "hex", "--out", str(tmp_path / "new"), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_folders_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--emit", "hex", "--out", str(tmp_path / "a" / "b"), "--format", "e2m1"]) == 2
    assert "there is no folder" in capsys.readouterr().err
    arguments = ["--emit", "testfloat", "--machine", "h100:fp16", "--out", str(tmp_path / "c")]
    assert main(arguments) == 2
    assert "--emit testfloat has no dot products" in capsys.readouterr().err


def test_every_machine_has_a_dot_product() -> None:
    made = [dot_product(name) for name in ps.list_machines()]
    assert len({dot.name for dot in made}) == len(made)
    for dot in made:
        assert isinstance(dot, DotProduct)
        assert dot.shape.count >= 2 * dot.shape.length
        assert len(next(iter(dot.hard_cases()))) == sum(column.count for column in dot.columns)


@pytest.mark.slow
@pytest.mark.parametrize("name", ps.list_machines())
def test_every_machine_is_emitted(name: str) -> None:
    """Definition and compiled kernel agree on all cases, or the emission stops."""
    assert sum(1 for _ in emitted(name, 200)) > 800
    assert dot_product(name).shape.count <= command.MOST_PRODUCTS
