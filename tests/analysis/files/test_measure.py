"""What is told of a stored tensor is what rounding the whole tensor in memory tells."""

import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import precsim as ps
from precsim import _calls
from precsim.analysis.files import extent, rounded, stored
from precsim.analysis.files.extent import Extent, extent_of
from precsim.analysis.files.finding import open_tensors
from precsim.analysis.files.measure import measure, parse_formats
from precsim.analysis.files.outcome import TensorOutcome, total
from precsim.analysis.files.stored import StoredTensor
from precsim.analysis.files.walk import analyse_files

random = np.random.default_rng(5)
NORMAL = random.normal(size=(6, 40)) * 0.02
SPREAD = NORMAL * 2.0 ** random.integers(-40, 20, NORMAL.shape)
SPECIAL = NORMAL.astype(np.float32).copy()
SPECIAL[0, 3], SPECIAL[5, 39] = np.inf, np.nan
TENSORS: dict[str, np.ndarray] = {
    "normal": NORMAL.astype(np.float32),
    "spread": SPREAD.astype(np.float32),
    "double": SPREAD,
    "special": SPECIAL,
    "special16": SPECIAL.astype(np.float16),
    "half": NORMAL.astype(np.float16),
    "bfloat": SPREAD.astype(ml_dtypes.bfloat16),
    "e4m3": (8 * NORMAL).astype(ml_dtypes.float8_e4m3fn),
    "e5m2": SPREAD.astype(ml_dtypes.float8_e5m2),
    "large": np.array([[3e4, 7e4, -1e5, 2.0**-20]], np.float32),
    "positive": np.array([0.0, 1e-3, 0.5], np.float32),
    "cube": random.normal(size=(2, 3, 33)).astype(np.float32),
    "one": np.array(3.3, np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "zeros": np.array([[0.0, -0.0]], np.float32),
    "subnormal": np.array([[1e-40, 3e-45, -2e-39]], np.float32),
}
FORMATS = [
    *("fp16", "bf16", "e4m3", "e5m2:saturate", "e2m1:rtz", "q3.4", "uq2.6", "fp64", "e8m0"),
    *(
        "mxfp8",
        "mxfp4_rceil",
        "nvfp4",
        "nvfp4:saturate_infinity",
        "nvfp4_2x16",
        "mxfp4_4x8",
        "int8",
        "uint4",
        "int4_symmetric_block32",
    ),
    *("e4m3:scale=tensor", "e4m3:scale=2x32", "e4m3:scale=row"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TensorOutcome]:
    """Every tensor, in pieces of at most 64 elements where blocks allow it."""
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    save_file(TENSORS | {"steps": np.arange(3)}, path)
    specs, found = parse_formats(FORMATS), {}
    with pytest.MonkeyPatch.context() as patch, open_tensors(path) as tensors:
        patch.setattr(stored, "PIECE", 64)
        patch.setattr(rounded, "_GROUPED", 64)
        patch.setattr(_calls, "COMPILED_FROM", 1 << 60)  # compiling takes longer
        for tensor in tensors:
            if isinstance(tensor, StoredTensor):
                found[tensor.name] = measure(tensor, specs, str(path))
    return found


def same(found: float, wanted: float) -> bool:
    are_nan = math.isnan(found) and math.isnan(wanted)
    return found == wanted or math.isclose(found, wanted, abs_tol=1e-9) or are_nan


@pytest.mark.long
@pytest.mark.parametrize("name", list(TENSORS))
def test_counts_and_ratios_are_those_of_the_whole_tensor(
    name: str, outcomes: dict[str, TensorOutcome]
) -> None:
    outcome = outcomes[name]
    assert set(outcome.formats) | set(outcome.refusals) == set(FORMATS)
    for fmt, found in outcome.formats.items():
        x = np.atleast_1d(TENSORS[name])
        x = x.astype(np.float64) if fmt == "fp64" else x
        rates = ps.errors.range_rates(x, fmt)
        counts = found.underflowed, found.subnormal, found.overflowed, found.saturated
        assert counts == (rates.underflowed, rates.subnormal, rates.overflowed, rates.saturated)
        wanted = ps.sqnr(ps.round_to(x, fmt), x)
        assert same(found.sqnr, wanted), (fmt, found.sqnr, wanted)


@pytest.mark.parametrize("name", list(TENSORS))
def test_extents(name: str, outcomes: dict[str, TensorOutcome]) -> None:
    x, found = np.asarray(TENSORS[name], np.float64), outcomes[name].extent
    finite = x[np.isfinite(x)]
    assert found.elements == x.size
    assert found.zeros == np.sum(x == 0)
    assert found.nan == np.isnan(x).sum()
    assert found.infinite == (np.sum(x == -np.inf), np.sum(x == np.inf))
    assert (found.lowest, found.highest) == (finite.min(initial=0), finite.max(initial=0))
    assert found.smallest == np.abs(finite[finite != 0]).min(initial=np.inf, where=True) or (
        not finite.any() and found.smallest == 0
    )
    signal = math.ldexp(found.signal, 2 * found.exponent)
    assert math.isclose(signal, np.sum(finite * finite), rel_tol=1e-12)


@pytest.mark.parametrize("name", ["normal", "spread", "double", "half", "bfloat", "large", "cube"])
@pytest.mark.parametrize("fmt", ["fp16", "e4m3", "e5m2:saturate", "q3.4"])
def test_no_other_scale_is_better(name: str, fmt: str, outcomes: dict[str, TensorOutcome]) -> None:
    """Of the scales without overflow; and the ratio is the one measured with that scale."""
    found = outcomes[name].formats[fmt]
    x = np.atleast_1d(TENSORS[name]).astype(np.float64)
    ratios = {}
    for k in range(-30, 60):
        y = ps.round_to(np.ldexp(x, k), fmt)
        if not np.any(ps.errors.range_rates(np.ldexp(x, k), fmt)[4:6]):
            ratios[k] = ps.sqnr(y, np.ldexp(x, k))
    assert found.best_exponent is not None
    assert found.best_sqnr is not None
    assert same(found.best_sqnr, ratios[found.best_exponent])
    assert found.best_sqnr >= max(ratios.values()) - 1e-9


def test_scales_where_there_is_no_choice(outcomes: dict[str, TensorOutcome]) -> None:
    normal, positive = outcomes["normal"].formats, outcomes["positive"].formats
    assert normal["mxfp8"].best_exponent is None
    assert normal["int8"].best_sqnr is None
    assert normal["uq2.6"].best_exponent is None  # negative numbers have no unsigned scale
    assert positive["uq2.6"].best_exponent == 2
    assert outcomes["zeros"].formats["e4m3"].best_exponent is None
    assert outcomes["one"].formats["fp16"].best_exponent == 0


def test_what_a_carrier_cannot_hold_is_refused(outcomes: dict[str, TensorOutcome]) -> None:
    assert list(outcomes["normal"].refusals) == []
    assert "nvfp4" in outcomes["double"].refusals


@pytest.mark.long
def test_large_tensors_are_summed_up_by_compiled_programs(tmp_path: Path) -> None:
    """Pieces of a tensor of 300,000 elements, side by side; the last one is not full."""
    x = (random.normal(size=(3, 100_001)) * 0.02).astype(np.float32)
    x[1, 5], x[2, 100_000] = 70_000.0, 1e-40
    np.save(tmp_path / "x.npy", x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "PIECE", 1 << 17)
        report = analyse_files([tmp_path / "x.npy"], parse_formats(["fp16", "e5m2:saturate"]))
    (outcome,) = report.tensors
    for fmt, found in outcome.formats.items():
        rates = ps.errors.range_rates(x, fmt)
        counts = found.underflowed, found.subnormal, found.overflowed, found.saturated
        assert counts == (rates.underflowed, rates.subnormal, rates.overflowed, rates.saturated)
        assert same(found.sqnr, ps.sqnr(ps.round_to(x, fmt), x))
        assert found.best_exponent is not None
        assert found.best_sqnr is not None
        scaled = np.ldexp(x.astype(np.float64), found.best_exponent)
        assert same(found.best_sqnr, ps.sqnr(ps.round_to(scaled, fmt), scaled))
    small = x[np.abs(x) < 1].reshape(1, -1)  # here a larger scale is better
    np.save(tmp_path / "x.npy", small)
    (outcome,) = analyse_files([tmp_path / "x.npy"], parse_formats(["fp16"])).tensors
    found = outcome.formats["fp16"]
    assert found.best_exponent == 19
    scaled = np.ldexp(small, 19)
    assert found.best_sqnr is not None
    assert same(found.best_sqnr, ps.sqnr(ps.round_to(scaled, "fp16"), scaled))


@pytest.mark.skipif(not hasattr(ps.errors, "predict"), reason="there are no predictions here")
@pytest.mark.parametrize("name", ["normal", "spread", "large", "positive", "zeros"])
def test_predictions_have_the_same_counts(name: str, outcomes: dict[str, TensorOutcome]) -> None:
    statistics = ps.errors.statistics(np.atleast_1d(TENSORS[name]))
    for fmt in ("fp16", "bf16", "e4m3", "e5m2:saturate", "e2m1:rtz", "q3.4"):
        found, predicted = outcomes[name].formats[fmt], ps.errors.predict(statistics, fmt)
        for event in rounded.EVENTS:
            assert getattr(found, event) == getattr(predicted, event), (fmt, event)


def test_extents_merge() -> None:
    x = np.concatenate([TENSORS["spread"].ravel(), [0.0, 1e30, 1e-40]]).astype(np.float32)
    merged = Extent()
    for part in np.array_split(x, 7):
        merged = merged.merge(extent_of(part))
    whole = extent_of(x)
    for name in ("elements", "zeros", "nan", "infinite", "lowest", "highest", "smallest"):
        assert getattr(merged, name) == getattr(whole, name)
    assert merged.exponent == whole.exponent
    assert math.isclose(merged.signal, whole.signal, rel_tol=1e-12)
    tiny = extent_of(np.array([1e-300], np.float64)).merge(
        extent_of(np.array([3e-310], np.float64))
    )
    assert (tiny.amax, tiny.smallest) == (1e-300, 3e-310)


def test_codes_are_numbers() -> None:
    codes = extent.numbers_of_codes(np.dtype(np.float16))
    assert codes[0x3C00] == 1.0
    assert codes.size == 65536


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fp17"], "unknown format 'fp17'"),
        (["bf16:sr"], "format is 'bf16:sr'; allowed are roundings without random bits"),
        (["int8_channel"], "whose scales are those of channels"),
    ],
)
def test_formats_that_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_formats(names)


def test_total_and_what_suffers_most(outcomes: dict[str, TensorOutcome]) -> None:
    tensors = [outcomes[name] for name in ("normal", "spread", "special")]
    found = total("e4m3", tensors)
    assert found.tensors == 3
    assert found.elements == 3 * NORMAL.size
    assert found.outcome.underflowed == sum(t.formats["e4m3"].underflowed for t in tensors)
    assert found.worst is tensors[1]  # `special` has no ratio
    both = np.concatenate([TENSORS["normal"].ravel(), TENSORS["spread"].ravel()])
    found = total("fp16", tensors[:2])
    assert same(found.outcome.sqnr, ps.sqnr(ps.round_to(both, "fp16"), both))
