"""Each figure of the gallery with parameters of one's own: computed and drawn, and not compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.analysis.figures.definition import load

OWN: dict[str, dict[str, Any]] = {
    "g01_formats": {"formats": ("float(e=3,p=4)", "e2m1"), "spaced": ("e2m1",)},
    "g02_harmonic": {"specs": ("e4m3:rtz", "e5m2"), "stochastic": ("e5m2:sr",), "runs": 3},
    "g03_euler": {"specs": ("e4m3:saturate",), "steps": (10, 20)},
    "g04_more_precision": {"precisions": (10, 11), "b": 2.0**20},
    "g05_swamping": {"format_": "e4m3", "n": 500, "chunks": (16,)},
    "g08_few_random_bits": {"depth": 5, "drift_bits": 3, "lanes": 8},
    "g17_gaussian_grids": {"bits": 3, "element": "e2m3"},
    "g19_loss_gap": {"reference": "4 over 6"},
    "g20_tpu_prints": {"format_": "e5m2", "order": "pairwise"},
    "g24_integer_lu": {"n": 20, "bits": 5},
    "g29_predicted_gaps": {"floor": 1e-3, "resamples": 20, "seed": 1},
}
HEAVY: dict[str, dict[str, Any]] = {
    "g06_error_growth": {"formats": ("e5m2",), "runs": 2},
    "g07_stochastic_ode": {"formats": ("e5m2",), "runs": 2},
    "g09_narrow_range": {"operand": "e5m2", "accumulator": "bf16"},
    "g10_tensor_cores": {"machines": ("a100:tf32", "h100:e4m3:promote128"), "seed": 2},
    "g11_eight_bits": {"formats": ("e3m2",), "blocks": ("nvfp4",)},
    "g15_refinement": {"format_": "bf16", "order": 8},
    "g16_classics": {"formats": ("e5m2", "fp16"), "steps": 9},
    "g18_nvfp4_scale_rules": {"size": 32, "products": 4, "seed": 1},
    "g21_limited_randomness": {"format_": "bf16", "n": 64, "seeds": 2},
    "g22_flash_attention": {"format_": "fp16", "ties": 3, "rows": 8},
    "g23_half_precision_lu": {"format_": "bf16", "n": 16, "refined": 8},
    "g25_low_precision_factors": {"format_": "bf16", "n": 10},
    "g26_least_squares": {"format_": "bf16", "m": 12, "exponents": (1, 3)},
    "g28_log_probabilities": {"formats": ("bf16",), "machine": "a100", "length": 6, "chunk": 3},
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "own"),
    [*OWN.items(), *(pytest.param(*each, marks=pytest.mark.slow) for each in HEAVY.items())],
)
def test_own_parameters(name: str, own: dict[str, Any], tmp_path: Path) -> None:
    outcome = ps.figures.run(f"experiments.{name}", out=tmp_path, parameters=own)
    assert outcome.parameters.keys() == own.keys()
    assert outcome.checks == ()
    assert (outcome.folder / "figure.png").is_file()
    with np.load(outcome.folder / "data.npz") as stored:
        assert set(stored) >= {f"parameter {key}" for key in own}


def test_every_parameter_says_what_it_is() -> None:
    for name in (*OWN, *HEAVY):
        parameters = load(f"experiments.{name}").parameters
        assert [each.name for each in parameters.values() if not each.about] == []


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("g01_formats", {"formats": ("fp32",)}, "formats has 'fp32'; allowed are floating formats"),
        ("g05_swamping", {"format_": "fp16:rtz"}, "parameter 'format_': unknown format 'fp16:rtz'"),
        ("g05_swamping", {"n": 5}, "n is 5; allowed are integers from 64 to 2**30"),
        ("g06_error_growth", {"formats": ("fp16",) * 3}, "formats are 3; allowed are one or two"),
        (
            "g22_flash_attention",
            {"ties": 17},
            "ties is 17; allowed are integers from 1 to keys, 16",
        ),
        ("g24_integer_lu", {"n": 25}, "n is 25; allowed are multiples of block, 10"),
        ("g25_low_precision_factors", {"matrices": "no"}, "'no'; allowed is a folder with .mtx"),
        ("g26_least_squares", {"m": 4}, "m is 4; allowed are integers from n, 10"),
        ("g10_tensor_cores", {"machines": ("h100:e4m9",)}, "parameter 'machines': "),
        ("g28_log_probabilities", {"chunk": 8}, "chunk is 8; allowed are integers from 1 to 7"),
        ("g28_log_probabilities", {"sequences": 65}, "sequences are 65 of length 18; allowed are"),
        ("g29_predicted_gaps", {"resamples": 0}, "resamples is 0; allowed are numbers from 1 to"),
    ],
)
def test_what_is_not_allowed_is_one_line(
    name: str, own: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"allowed|unknown|parameter") as caught:
        ps.figures.run(f"experiments.{name}", out=tmp_path, parameters=own)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
