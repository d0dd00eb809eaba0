"""The cheapest format and scale for a stated loss; what the scales of blocks are."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.what_if.recommend import _scaled

F32: Any = np.float32


def tree() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal((2, 40, 32)).astype(np.float32)
    return {"layers": [{"w": w}], "g": F32(1e-6) * g}


def test_gradients_that_vanish_get_a_scale() -> None:
    found = ps.recommend(tree(), underflow=0.05, sqnr=25, formats=["e4m3", "fp16"], measure=True)
    choice = found["g"]
    assert (str(choice.spec), choice.bits) == ("e4m3", 8 + 32 / 1280)
    assert choice.scale > 1e6
    predicted, measured = choice.predicted, choice.measured
    assert predicted is not None
    assert measured is not None
    assert predicted.sqnr == pytest.approx(measured.sqnr, abs=0.1)
    for name in ("underflowed", "subnormal", "overflowed", "saturated"):
        assert getattr(predicted, name) == getattr(measured, name)


def test_the_scale_1_is_taken_where_it_will_do() -> None:
    found = ps.recommend(tree(), sqnr=60, formats=["e4m3", "fp16", "fp32"])
    choice = found["layers/0/w"]
    assert (str(choice.spec), choice.scale, choice.bits) == ("fp16", 1.0, 16.0)


def test_what_is_stated_is_kept_and_nothing_cheaper_keeps_it() -> None:
    x = tree()["g"]
    chosen = [ps.recommend(x, sqnr=least)["values"] for least in (10, 20, 30, 40, 60, 130)]
    bits = [choice.bits for choice in chosen]
    assert bits == sorted(bits)
    assert [c.predicted is not None and c.predicted.sqnr for c in chosen] >= [
        10,
        20,
        30,
        40,
        60,
        130,
    ]
    assert str(chosen[-1].spec) == "fp32"


def test_statistics_are_recommended_like_their_values() -> None:
    x = tree()["g"]
    from_values = ps.recommend({"g": x}, sqnr=25)["g"]
    from_statistics = ps.recommend({"g": ps.errors.statistics(x, block_size=32)}, sqnr=25)["g"]
    assert from_values == from_statistics
    without_blocks = ps.recommend({"g": ps.errors.statistics(x)}, sqnr=25)["g"]
    assert "statistics(x, block_size=32)" in without_blocks.refused["mxfp4"]


def test_formats_that_cannot_be_predicted_are_measured() -> None:
    x = tree()["g"]
    choice = ps.recommend(x, sqnr=15, formats=["nvfp4", "bf16"])["values"]
    assert (str(choice.spec), choice.bits, choice.predicted) == ("nvfp4", 4.5, None)
    assert choice.measured is not None
    assert choice.measured.sqnr == ps.sqnr(ps.round_to(x, "nvfp4"), x)
    text = str(ps.recommend(x, sqnr=15, formats=["nvfp4", "bf16"]))
    assert "measured SQNR dB" in text
    assert "nvfp4" in text
    assert text.splitlines()[-1].startswith("nvfp4 is not predicted, but measured where there are")


def test_none_is_said_to_be_none() -> None:
    found = ps.recommend({"x": F32([1.0, np.nan])}, sqnr=10)
    assert found["x"].spec is None
    assert "none" in str(found)
    assert np.isnan(found.bits)


def test_tables_name_what_was_chosen() -> None:
    lines = str(ps.recommend(tree(), sqnr=20, measure=True)).splitlines()
    assert [line.split()[0] for line in lines] == ["tensor", "g", "layers/0/w", "all"]
    assert ps.recommend(tree(), sqnr=20, underflow=0.1).loss == (
        "SQNR of at least 20 dB, underflow of at most 0.1, overflow of at most 0"
    )


def test_refusals() -> None:
    x = F32([1.0, 2.0])
    with pytest.raises(ValueError, match="sqnr and underflow are None; allowed is a number"):
        ps.recommend(x)
    with pytest.raises(ValueError, match="formats is empty"):
        ps.recommend(x, sqnr=1, formats=[])
    with pytest.raises(ValueError, match=r"scales\[0\] is 3\.0; allowed are powers of two"):
        ps.recommend(x, sqnr=1, scales=[3.0])
    with pytest.raises(ValueError, match="measure is True, but s is statistics"):
        ps.recommend({"s": ps.errors.statistics(x)}, sqnr=1, measure=True, formats=["fp16"])
    with pytest.raises(TypeError, match="n has dtype int64"):
        ps.recommend({"n": np.arange(3)}, sqnr=1)
    with pytest.raises(TypeError, match="values is a value that JAX traces"):
        jax.jit(lambda x: ps.recommend(x, sqnr=1).bits)(x)
    with pytest.raises(KeyError, match="no tensor is named 'y'; names are values"):
        ps.recommend(x, sqnr=1)["y"]


def test_scales_of_mx_and_nvfp4_blocks() -> None:
    x = np.zeros((2, 70), np.float32)
    x[0, :33], x[1, 5], x[1, 40] = 3.0, np.nan, 2.0**-10
    mx = ps.errors.scale_statistics(x, "mxfp8_e4m3")
    assert mx.counts == {2.0**-127: 2, 2.0**-18: 1, 2.0**-7: 2}
    assert (mx.zero_blocks, mx.lost_blocks, mx.at_smallest, mx.at_largest) == (2, 1, 0, 0)
    crest = [1.0, 32**0.5, np.nan, np.nan, 32**0.5, np.nan]
    np.testing.assert_allclose(mx.crest, crest, rtol=1e-12)
    x[1, 5] = 0.0
    nv = ps.errors.scale_statistics(x, "nvfp4")
    assert nv.codes.shape == nv.crest.shape == (10,)
    assert (nv.at_largest, nv.at_smallest, nv.zero_blocks) == (3, 0, 6)
    assert nv.tensor_scale == pytest.approx(3 / 6 / 448)
    with pytest.raises(ValueError, match="fmt is fp16; allowed are block formats"):
        ps.errors.scale_statistics(x, "fp16")


def test_scales_of_squares() -> None:
    x = np.ones((17, 40), np.float32)
    x[16, 39], x[3, 17] = 64.0, np.nan
    found = ps.errors.scale_statistics(x, "mxfp4_16x16")
    assert found.amax.tolist()[::2] == [1, 1, 1]
    assert (found.codes.size, found.lost_blocks, found.amax[5]) == (6, 1, 64)
    assert found.crest[5] == pytest.approx(64 / ((7 + 4096) / 8) ** 0.5)  # 1 x 8 of it are there


def test_blocks_by_exponent_are_the_scales_of_mx() -> None:
    x = tree()["g"]
    blocks = ps.errors.statistics(x, block_size=32).blocks
    assert blocks is not None
    scales = ps.errors.scale_statistics(x, "mxfp4").counts
    assert {2.0 ** (n - 2): count for n, count in blocks.by_exponent().items()} == scales


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sqnr": float("nan")}, "sqnr is nan; allowed are numbers from -1000 to 1000"),
        ({"sqnr": "a"}, "sqnr is 'a'; allowed are numbers from -1000 to 1000"),
        ({"underflow": 2}, "underflow is 2; allowed are numbers from 0 to 1"),
        ({"sqnr": 3, "formats": "fp16"}, "formats is 'fp16'; allowed are lists of formats"),
    ],
)
def test_limits_out_of_range_get_one_line(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ps.recommend([1.0, 2.0], **options)


def test_scalars_count_as_arrays_of_one_element() -> None:
    """Defect: a whole tree was refused because of one, with the words "x has shape ()"."""
    tree = {"scale": np.float32(0.3), "w": np.array([0.3], np.float32)}
    found = ps.recommend(tree, sqnr=25, measure=True)
    assert found["scale"].elements == 1
    assert (found["scale"].spec, found["scale"].measured) == (found["w"].spec, found["w"].measured)
    assert ps.recommend(np.float32(0.3), sqnr=25)["values"].spec == found["w"].spec


def test_a_text_is_refused_with_a_name() -> None:
    with pytest.raises(TypeError, match=r"^values has dtype"):
        ps.recommend("w", sqnr=25)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("fmt", ["fp16", "e4m3", "bf16"])
def test_what_a_scale_takes_out_of_range_counts_as_underflow(fmt: str) -> None:
    """Defect: it was zero before the rounding, and zeros do not count."""
    x = np.array([1e300, 1e-300, 1, 0], np.float64)
    measured = ps.recommend(x, sqnr=25, formats=[fmt])["values"].measured
    assert measured is not None
    assert (measured.nonzero, measured.underflowed) == (3, 2)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_what_a_scale_takes_beyond_the_range_overflows() -> None:
    x = np.array([1e300, 1.0], np.float64)
    found = ps.recommend(x, sqnr=25, overflow=0.5, formats=["fp16"], scales=[2.0**600])
    assert found["values"].spec is None
    assert _scaled(x, 2.0**600).tolist() == [np.finfo(np.float64).max, 2.0**600]
    assert _scaled(np.array([-5e-324, -0.0, np.inf], np.float64), 0.25).tolist() == [
        -5e-324,
        0,
        np.inf,
    ]
