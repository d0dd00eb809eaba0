"""`compress`: values against `round_to`, the table against `ps.sqnr`, bytes by hand."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

any_compress: Any = ps.compress
RNG = np.random.default_rng(3)
W = RNG.normal(size=(64, 8)).astype(np.float32)
PARAMS: dict[str, Any] = {
    "layers": [{"w": W, "b": W[0]}, {"w": 2 * W, "b": W[1]}],
    "head": jnp.asarray(W, jnp.bfloat16),
    "ids": np.arange(3),
}


@pytest.mark.parametrize(
    ("spec", "axis"),
    [
        ("bf16", -1),
        ("e4m3:saturate", -1),
        ("int8", -1),
        ("int8_symmetric_channel", -1),  # of outputs
        ("mxfp4", -2),  # along which products sum
        ("e4m3:scale=1x128", -2),
    ],
)
def test_values_and_errors_are_those_of_round_to(spec: str, axis: int) -> None:
    found = ps.compress({"w": W}, spec)
    wanted = ps.round_to(W, spec, axis=axis)
    np.testing.assert_array_equal(found.params["w"], wanted)
    (row,) = found.rows
    assert row.sqnr == ps.sqnr(wanted, W) == found.total.sqnr
    assert row.max_error == np.abs(wanted.astype(np.float64) - W).max()
    np.testing.assert_array_equal(
        ps.compress({"w": W}, spec, axis=0).params["w"], ps.round_to(W, spec, axis=0)
    )


def test_the_first_pattern_that_matches_decides() -> None:
    found = ps.compress(PARAMS, {"layers/0/*": "bf16", "head": None, "w": "int4"})
    formats = {row.path: row.format for row in found.rows}
    assert formats == {
        "head": "-", "layers/0/b": "bf16", "layers/0/w": "bf16", "layers/1/b": "-",
        "layers/1/w": "int4",
    }  # fmt: skip
    assert found.params["head"] is PARAMS["head"]
    assert found.params["ids"] is PARAMS["ids"]
    assert isinstance(found.params["layers"][0]["w"], np.ndarray)
    assert isinstance(ps.compress(PARAMS, "fp16").params["head"], jax.Array)


def test_bytes_by_hand() -> None:
    size = 64 * 8
    wanted = {
        "fp16": 2 * size, "int8": size + 5, "int8_symmetric_channel": size + 8 * 4,
        "mxfp4": size / 2 + size / 32, "nvfp4": size / 2 + size / 16 + 4,
        "e4m3:scale=row": size + 8 * 4,
    }  # fmt: skip
    assert {spec: ps.compress({"w": W}, spec).total.bytes for spec in wanted} == wanted
    assert ps.compress(PARAMS, "fp16").bytes_before == (2 * 4 + 2) * size + 2 * 4 * 8


def test_row_51_bytes_of_pruned_weights() -> None:
    params = {"hidden": RNG.normal(size=(64, 64)), "output": RNG.normal(size=(64, 10))}
    params = {name: w.astype(np.float32) for name, w in params.items()}
    masks = ps.prune(params, 0.9, together=True)
    assert ps.compress(params, "fp16").bytes_before == 18_944
    assert ps.compress(params, "fp16").total.bytes == 9_472
    assert ps.compress(params, "fp16", masks=masks).total.bytes == 1_540


def test_masked_weights_are_zero_and_count_as_error() -> None:
    masks = ps.prune({"w": W}, 0.5)
    found = ps.compress({"w": W}, {"w": None}, masks=masks)
    np.testing.assert_array_equal(found.params["w"], np.where(masks["w"], W, 0))
    assert found.rows[0].max_error == np.abs(W[~masks["w"]]).max()


@pytest.mark.parametrize("method", ["percentile", "mse"])
@pytest.mark.parametrize("spec", ["int4", "int8_symmetric", "e4m3:scale=tensor"])
def test_scales_by_calibration(method: str, spec: str) -> None:
    tailed = W**5
    found = ps.compress({"w": tailed}, spec, method=method, percentile=99.0)
    scale = ps.calibrate(tailed, spec, method=method, percentile=99.0)
    elements = found.params["w"] / np.asarray(scale.scale)
    if "int" in spec:
        np.testing.assert_allclose(elements, np.round(elements), atol=1e-4)
    if method == "mse":
        assert found.total.sqnr >= ps.compress({"w": tailed}, spec).total.sqnr - 1e-6
    else:
        assert np.abs(found.params["w"]).max() < np.abs(tailed).max()


def test_output() -> None:
    found = ps.compress(PARAMS, "bf16")
    assert str(found).splitlines()[-1].startswith("all")
    assert json.loads(found.to_json())["rows"][0]["sqnr"] is None  # infinite
    assert "<table>" in found._repr_html_()
    assert ps.compress({}, "bf16").total.elements == 0
    assert ps.compress(np.float32(0.1), "int8").total.elements == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: any_compress(PARAMS, {"tail": "bf16"}), "pattern 'tail' matches nothing; paths"),
        (lambda: any_compress(PARAMS, "bf17"), "unknown format 'bf17'"),
        (lambda: any_compress(PARAMS, "int8", method="max"), "method is 'max'; allowed are"),
        (lambda: any_compress(PARAMS, "bf16:sr"), "spec is 'bf16:sr'; allowed are roundings"),
        (lambda: any_compress([1.0], "bf16"), "params has the number 1.0 at '0'; allowed are"),
        (lambda: any_compress({"w": W}, "bf16", masks={"w": np.ones(3, bool)}), "mask of 'w' is"),
        (lambda: jax.jit(lambda w: any_compress(w, "bf16").params)(W), "params are traced"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()
