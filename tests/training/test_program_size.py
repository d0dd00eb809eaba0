"""Programs of a training step cannot grow unnoticed: compiling them is most of a short run."""

import re

import jax
import pytest

import precsim as ps

OPERATIONS = {
    "fp32": 5400, "bf16": 5250, "fp16_mixed": 7700, "q3.8_sr": 10200, "h100_bf16": 8500,
    "mxfp8": 11500, "fp8_block": 17200, "nvfp4": 36200,
}  # fmt: skip
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
@pytest.mark.parametrize(
    ("policy", "kernels", "operations"),
    [("bf16", 96, 4750), ("h100_bf16", 127, 8300), ("mxfp8", 185, 8950), ("fp8_block", 276, 11450)],
)
def test_kernels_of_a_step(policy: str, kernels: int, operations: int) -> None:
    """Each costs XLA's CPU compiler 10 ms at least, most of them 20; a plain JAX step has 24.

    The limits are a tenth more than there are. Each tensor is rounded once for all its products
    (each time anew: 102 kernels of bf16), and computed once for all its uses (with copies: 9,700
    operations of bf16). Scales are chosen by float32 products and quotients without loops (digit by
    digit: 330 kernels of mxfp8, 347 of fp8_block).
    """
    text = program(policy).compile().as_text()
    assert text is not None
    assert text.count(" fusion(") <= kernels
    assert text.count(" = ") <= operations
