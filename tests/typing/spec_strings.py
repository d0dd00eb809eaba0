"""Strings where specs are expected, as a user's script has them, for `mypy --strict`.

`.ci/run` and a plain `mypy` check this file, as they do `readme_calls.py`; `test_spec_strings.py`
finds fields that are missing here.
"""

import precsim as ps


def policies() -> list[str]:
    """Configs and policies."""
    config = ps.TrainConfig(policy="bf16_mixed", steps=10)
    policy = ps.Policy(
        params="fp32",
        forward="bf16_bf16_fp32",
        dgrad="bf16_bf16_fp32",
        wgrad="bf16_bf16_fp32",
        elementwise="bf16",
        update="bf16:sr",
        optimizer_state="bf16",
        softmax="fp32",
        reduction_order="kahan",
        rules=["head:fp32"],
    )
    rule = ps.options.Rule("head", "fp32")
    schedule = ps.Schedule(starts=[0, 5], policies=["bf16", policy])
    feedback = ps.Feedback(levels=["q3.8", "fp32"])
    return [config.policy.name, policy.name, rule.policy.name, schedule.name, feedback.name]


def formats() -> list[str]:
    """Roundings, products and formats."""
    rounding = ps.RoundingSpec(format="e4m3", mode="rtz", overflow="saturate")
    product = ps.MatmulSpec(lhs="bf16", rhs=rounding, accumulator="fp32", order="pairwise")
    blocks = ps.BlockFormat(
        name="mine", element="e2m1", scale="e8m0", block_size=32, scale_rule="rceil"
    )
    channels = ps.options.AllReduce(algorithm="ring", rounding="bf16")
    return [str(rounding), str(product), str(blocks), str(channels)]
