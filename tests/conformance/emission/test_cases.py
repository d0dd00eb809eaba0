"""The cases are complete, unchanged and right; the kernel and other libraries agree."""

import hashlib
import itertools
import math
import random

import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from conformance.adapters import ADAPTERS
from conformance.emission import command, functions
from conformance.emission.codes import cast_codes, float_format, nan_codes, width
from conformance.emission.command import rows
from conformance.emission.dots import DotProduct, dot_product
from conformance.emission.layouts import lines
from tests.conformance.emission.named import emitted, function_of, rounding

FLOATS = [name for name in ps.list_formats(kind="float") if name != "fp64"]


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
    "fp16": "float16",
}


@pytest.mark.parametrize("name", ML_DTYPES)
def test_casts_agree_with_ml_dtypes(name: str) -> None:
    """From float32, to nearest, without saturation where there is NaN; fp16 is that of NumPy."""
    rule = "saturate" if name in ("e3m2", "e2m3", "e2m1") else "infinity"
    cases = list(itertools.islice(emitted(f"fp32 round {name} rne {rule}"), 10_000))
    x = np.array([inputs[0] for inputs, _, _ in cases], np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        dtype = ML_DTYPES[name]
        theirs = x.astype(getattr(ml_dtypes, dtype, None) or dtype).astype(np.float64)
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


@pytest.mark.long
def test_every_machine_has_a_dot_product() -> None:
    made = [dot_product(name) for name in ps.list_machines()]
    assert len({dot.name for dot in made}) == len(made)
    for dot in made:
        assert isinstance(dot, DotProduct)
        assert dot.shape.count >= 2 * dot.shape.length
        drawn = itertools.islice(dot.random_cases(random.Random(0)), 12)
        words = {len(case) for case in (*itertools.islice(dot.hard_cases(), 1), *drawn)}
        assert words == {sum(column.count for column in dot.columns)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ps.list_machines())
def test_every_machine_is_emitted(name: str) -> None:
    """Definition and compiled kernel agree on all cases, or the emission stops."""
    assert sum(1 for _ in emitted(name, 200)) > 800
    assert dot_product(name).shape.count <= command.MOST_PRODUCTS
