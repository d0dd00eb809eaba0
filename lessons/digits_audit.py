"""Lesson 7: which loss scales a training on digits bears, from one pass without a scale."""

import functools

import precsim as ps


@functools.cache
def audit() -> ps.LossScaleAudit:
    """Train for 200 steps, and note the exponents of all gradients."""
    config = ps.TrainConfig(
        policy=ps.Policy.parse("fp16_mixed"),
        steps=200,
        batch_size=256,
        learning_rate=0.5,
    )
    scale = ps.DynamicLossScale(factor=2.0**24, growth_interval=20)
    return ps.audit_loss_scale(config, loss_scale=scale)
