"""Lesson 7: what the audit says of the dynamic scale is what the training itself does."""

import numpy as np
import pytest

import precsim as ps
from lessons.digits_audit import audit


@pytest.mark.slow
def test_training_uses_the_scales_of_the_audit() -> None:
    policy = ps.Policy.parse("fp16_mixed,scale=dynamic@16777216[interval=20]")
    run = ps.train(ps.TrainConfig(policy=policy, steps=200, batch_size=256, learning_rate=0.5))
    np.testing.assert_array_equal(run.loss_scales, audit().used)
    np.testing.assert_array_equal(~run.taken, audit().overflows())
