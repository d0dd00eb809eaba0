"""Events of operands with scales: the values say the same, and so do exact quotients."""

from typing import Any

import numpy as np
import pytest

import precsim as ps
from precsim.rounding.scaled.measures import count_operand

F: Any = np.float32
FORMATS = (
    *("mxfp8", "mxfp4_rceil", "nvfp4", "nvfp4_16x16", "mxint8", "int8", "uint4:rtz"),
    *("int4_symmetric_channel", "int4_symmetric_block8", "e4m3:scale=tensor", "e5m2:scale=row"),
    *("e4m3:scale=2x8:pow2", "e2m1:scale=1x16"),
)


def operand(seed: int) -> Any:
    """Return rows of magnitudes far apart, with zeros, and a NaN in one of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(9, 40)) * 2.0 ** rng.integers(-12, 12, (9, 40))
    x[rng.random(x.shape) < 0.1] = 0.0
    x[2, 3] = np.nan
    return x.astype(F)


@pytest.mark.parametrize("fmt", FORMATS)
def test_counts_are_those_of_the_values(fmt: str) -> None:
    """`range_rates` compares numbers before and after; here elements are compared."""
    spec, x = ps.RoundingSpec.parse(fmt), operand(len(fmt))
    axis = -2 if "channel" in fmt else -1
    rates = ps.errors.range_rates(x, fmt, axis=axis)
    found = dict(zip(rates._fields, count_operand(x, None, spec).tolist(), strict=True))
    assert found == rates._asdict()
    assert sum(list(found.values())[2:]) > 0


def test_a_given_scale_saturates_what_outgrows_it() -> None:
    """Delayed scaling: the factor 2 is that of smaller numbers."""
    x = F([[1.0, -300.0, 2.0**-12, 2.0**-7, 0.0, np.inf, 224.0]])
    spec = ps.RoundingSpec.parse("e4m3:scale=tensor")
    counts = count_operand(x, ps.Scale(scale=F(0.5), factor=F(2.0)), spec).tolist()
    # 2**-11 is below half of 2**-9, the smallest value; 2**-6 is the smallest normal one.
    assert counts == [7, 6, 1, 0, 0, 1, 0]
    assert count_operand(x, ps.Scale(scale=F(1.0)), spec).tolist()[5] < counts[5]


@pytest.mark.long
def test_trainings_count_operands_with_scales() -> None:
    """Defect: they were left out, so that a 4-bit training showed no underflow."""
    products = "fwd=mxfp4_mxfp4_fp32,dgrad=mxfp4_mxfp4_fp32,wgrad=mxfp4_mxfp4_fp32"
    config = ps.TrainConfig(policy=products, steps=1, batch_size=16)
    run = ps.train(config)
    for events in (run.forward_events, run.backward_events):
        assert events["hidden"][0, 2] > 0
    rng = np.random.default_rng(0)
    x, w = (F(rng.normal(size=s) * 2.0 ** rng.integers(-6, 6, s)) for s in ((16, 40), (40, 3)))
    model = {"w": w}, lambda params, x: x @ params["w"]
    own = ps.train(config, model=model, data=(x, x @ w))
    spec = ps.RoundingSpec.parse("mxfp4")
    expected = count_operand(x, None, spec) + count_operand(w.T, None, spec)
    # All of the data are one batch; its order changes no count.
    assert sum(int(events[0, 2]) for events in own.forward_events.values()) >= expected[2]
    assert expected[2] > 0


@pytest.mark.long
def test_delayed_scales_saturate_in_the_step_in_which_a_tensor_grows() -> None:
    """The first step has the factor 1, and these numbers are beyond 448."""
    x = np.full((8, 4), 1000.0, F)
    config = ps.TrainConfig(policy="fp8_delayed", steps=2, batch_size=8, learning_rate=1e-9)
    run = ps.train(config, model=({"w": np.ones((4, 1), F)}, _times), data=(x, np.ones((8, 1), F)))
    saturated = np.sum([events[:, 5] for events in run.forward_events.values()], axis=0)
    assert saturated[0] >= x.size > saturated[1]


def _times(params: Any, x: Any) -> Any:
    return x @ params["w"]
