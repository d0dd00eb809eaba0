"""Programs of a training step cannot grow unnoticed: compiling them is most of a short run."""

import re

import jax
import pytest

import precsim as ps

OPERATIONS = {"fp32": 5900, "bf16": 5800, "fp16_mixed": 8000, "q3.8_sr": 10600, "h100_bf16": 8900}
"""Operations in the program that XLA gets, functions counted once; a tenth more than there are."""


def program(policy: str) -> jax.stages.Lowered:
    config = ps.TrainConfig(policy=ps.Policy.parse(policy))
    run = ps.replay.prepare_run(config, is_guarded=False)
    return jax.jit(run.step).lower(run.state, *run.batch(0))


@pytest.mark.long
@pytest.mark.parametrize("policy", OPERATIONS)
def test_operations_of_a_step(policy: str) -> None:
    assert len(re.findall(r" = ", program(policy).as_text())) <= OPERATIONS[policy]


@pytest.mark.long
def test_kernels_of_a_step() -> None:
    """Each costs XLA's CPU compiler 30 ms or more; a plain JAX step has 20."""
    text = program("bf16").compile().as_text()
    assert text is not None
    assert text.count(" fusion(") <= 115
    # Computed once, though used by the product, its range and the counts (with copies: 9,700).
    assert text.count(" = ") <= 5000
