"""Scales given to the exact dot product: those of quantization give its result."""

import numpy as np
import pytest

import precsim as ps
from precsim.products.specs.machines import BLOCK_INSTRUCTIONS, MACHINES
from precsim.products.specs.matrix_units import MATRIX_UNITS

FORMATS = ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp4")


@pytest.mark.parametrize("fmt", FORMATS)
def test_scales_of_quantization_give_its_result(fmt: str) -> None:
    rng, spec = np.random.default_rng(0), f"b200:{fmt}"
    numbers = (rng.standard_normal((2, 8, 96)) * 2.0 ** rng.integers(-9, 9, (2, 8, 96))).astype("f")
    element = ps.get_format(fmt).element  # type: ignore[union-attr]
    for a, b in zip(*numbers, strict=True):
        quantized = [ps.quantize(x, fmt) for x in (a, b)]
        elements = [np.asarray(ps.decode(q.codes, element)).tolist() for q in quantized]
        scales = [np.asarray(ps.decode(q.scales, "e8m0")).tolist() for q in quantized]
        given = ps.oracle.fused_dot_exact(
            elements[0], elements[1], 0.5, spec, a_scales=scales[0], b_scales=scales[1]
        )
        assert given == ps.oracle.fused_dot_exact(a.tolist(), b.tolist(), 0.5, spec)


def test_given_scales_by_hand() -> None:
    dot = ps.oracle.fused_dot_exact
    ones, halves, a_scales = [1.0] * 64, [0.5] * 64, [2.0, 4.0, 448.0, 0.0]
    b_scales = [1.0, 1.0, 448.0, 1.0]
    found = dot(ones, halves, 1.0, "b200:nvfp4", a_scales=a_scales, b_scales=b_scales)
    assert found == 8 * (2 + 4 + 448 * 448) + 1
    a_scales = [2.0, float("nan")]
    zeros = [0.0] * 64
    assert np.isnan(dot(ones, zeros, 1.0, "b200:mxfp4", a_scales=a_scales, b_scales=b_scales[:2]))


@pytest.mark.parametrize(
    ("spec", "scales", "message"),
    [
        (
            "b200:mxfp4",
            {"a_scales": [1.0]},
            "a_scales has 1 numbers; allowed is one per 32 numbers",
        ),
        (
            "b200:mxfp4",
            {"a_scales": [1.0, 1.0]},
            "b_scales are missing; allowed are scales of both",
        ),
        ("b200:nvfp4", {"b_scales": [1.0] * 4}, "a_scales are missing"),
        ("h100:fp16", {"a_scales": [1.0]}, "scales are given for h100:fp16; allowed are operands"),
        ("mi300x:fp16", {"a_scales": [1.0]}, "scales are given for mi300x:fp16; allowed are"),
    ],
)
def test_scales_that_do_not_fit_are_refused(
    spec: str, scales: dict[str, list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ps.oracle.fused_dot_exact([1.0] * 64, [1.0] * 64, 0.0, spec, **scales)  # type: ignore[arg-type]


def test_every_machine_is_listed() -> None:
    listed = ps.list_machines()
    assert len(set(listed)) == len(listed)
    specs = {name: ps.MatmulSpec.parse(name) for name in listed}
    for machine, table in (MACHINES | MATRIX_UNITS).items():
        for kind, instruction in table.items():
            operands = {"fp8": "e4m3"}.get(kind, kind)
            assert f"{machine}:{operands}" in specs
            for accumulator in getattr(instruction, "accumulators", ())[1:]:
                assert f"{machine}:{operands}:acc={accumulator}" in specs
    orders = {str(spec.order) for spec in specs.values()}
    for block in BLOCK_INSTRUCTIONS.values():
        assert any(f"fused{block.length}x{block.fraction_bits}" in order for order in orders)
