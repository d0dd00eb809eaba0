"""What a step costs: by hand for small functions, and by the claims about training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from precsim.analysis.cost.cost import BYTES
from precsim.analysis.cost.table import amount, cost_table

like: Any = jax.ShapeDtypeStruct
any_config: Any = ps.TrainConfig
any_cost: Any = ps.cost

BATCH, INPUTS, HIDDEN, OUTPUTS = 8, 64, 128, 10
BERT_BASE = 109_482_240


def arrays(*shapes: tuple[int, ...]) -> list[Any]:
    return [like(shape, np.dtype(np.float32)) for shape in shapes]


def two_layers(weights: Any, x: Any) -> Any:
    with jax.named_scope("hidden"):
        x = jnp.sin(x @ weights[0])
    with jax.named_scope("output"):
        return jnp.sum(jnp.sin(x @ weights[1]))


WEIGHTS = arrays((INPUTS, HIDDEN), (HIDDEN, OUTPUTS))
EXAMPLES = arrays((BATCH, INPUTS))[0]
COUNT = INPUTS * HIDDEN + HIDDEN * OUTPUTS
COSINES = BATCH * (HIDDEN + OUTPUTS)
KEPT = BATCH * (INPUTS + HIDDEN) + COSINES  # operands of wgrad, and derivatives of the sines
FORWARD = 2 * BATCH * COUNT


def step(policy: str, optimizer: Any = "sgd") -> ps.Cost:
    return ps.cost(two_layers, WEIGHTS, EXAMPLES, policy=policy, optimizer=optimizer)


@pytest.mark.parametrize(
    ("policy", "weights", "masters", "gradients", "activations"),
    [
        ("fp32", 4, 0, 4, 4),
        ("bf16", 2, 0, 2, 2),
        ("bf16_mixed", 2, 4, 2, 2),
        ("p=fp32,c=bf16,o=fp32", 2, 4, 4, 2),
        ("q3.12", 2, 0, 2, 2),
        ("p=bf16,c=fp32,o=fp32", 2, 0, 4, 4),  # converted when read
    ],
)
def test_bytes_follow_the_formats(
    policy: str, weights: int, masters: int, gradients: int, activations: int
) -> None:
    found = step(policy)
    assert found.weights == weights * COUNT
    assert found.masters == masters * COUNT
    assert found.gradients == gradients * COUNT
    assert found.activations == activations * KEPT
    assert found.total == sum(getattr(found, name) for name in BYTES)


def test_an_array_that_is_read_in_two_formats_is_stored_twice() -> None:
    found = step("fp8_current")
    by_product = BATCH * (INPUTS + HIDDEN)  # e4m3, for wgrad
    assert found.activations == by_product + 2 * COSINES  # in bf16
    assert found.weights == COUNT
    assert found.scales == 4 * 4  # two weights, two activations


def test_histories_of_delayed_scales_count() -> None:
    histories = step("fp8_current,tensor=delayed[16]").scales - step("fp8_current").scales
    operands = 2 * (2 + 2 + 1)  # of both products forward and for weights, of one for activations
    assert histories == operands * (16 + 1) * 4


def test_the_state_of_a_scale_of_a_layer_counts() -> None:
    own = step("fp16_mixed;hidden:tensor=cotangents@dynamic").scales - step("fp16_mixed").scales
    assert own == 8 * 4  # as that of a dynamic loss scale, once for all products of the layer


def test_scales_of_blocks_count_with_their_elements() -> None:
    found = step("fwd=mxfp8_mxfp8_fp32,dgrad=mxfp8_mxfp8_fp32,wgrad=mxfp8_mxfp8_fp32")
    first, second = INPUTS * HIDDEN, HIDDEN * OUTPUTS
    assert found.weights == (first + 2 * second) * 33 / 32  # forward and dgrad have own blocks
    assert found.scales == 0


def test_rules_of_scopes_are_followed() -> None:
    found = step("fp32;hidden:c=bf16,o=bf16")
    first, second = INPUTS * HIDDEN, HIDDEN * OUTPUTS
    assert (found.weights, found.masters) == (2 * first + 4 * second, 4 * first)
    assert found.gradients == 2 * first + 4 * second
    hidden = 2 * BATCH * (INPUTS + HIDDEN)  # examples and cosine in bf16
    assert found.activations == hidden + 4 * BATCH * (HIDDEN + OUTPUTS)
    with pytest.raises(ValueError, match="rule 'nowhere' of the policy matches no scope"):
        step("fp32;nowhere:bf16")


def test_operations_by_role_and_format() -> None:
    found = step("p=fp32,fwd=bf16_bf16_fp32,dgrad=e5m2_bf16_fp32,wgrad=fp16_fp16_fp32")
    assert [(row.role, row.format) for row in found.rows[:3]] == [
        ("forward", "bf16_bf16_fp32"),
        ("dgrad", "e5m2_bf16_fp32"),
        ("wgrad", "fp16_fp16_fp32"),
    ]
    assert found.products("forward") == found.products("wgrad") == FORWARD
    assert found.products("dgrad") == 2 * BATCH * HIDDEN * OUTPUTS  # none for the examples
    assert found.products() == sum(map(found.products, ("forward", "dgrad", "wgrad")))
    assert found.operations == sum(row.operations for row in found.rows)


def test_state_of_optimizers_and_of_loss_scales() -> None:
    counter = 4
    assert step("fp32", "sgd").optimizer == 0
    assert step("fp32", "momentum").optimizer == 4 * COUNT
    assert step("fp32", "adam").optimizer == 8 * COUNT + counter
    assert step("fp32,opt=bf16", optax.adam(0.1)).optimizer == 4 * COUNT + counter
    assert step("fp32,mu=bf16", "adam").optimizer == 6 * COUNT + counter
    assert step("fp32,opt=e4m3,nu=bf16", "adam").optimizer == 3 * COUNT + counter
    assert step("bf16_kahan", "sgd").optimizer == 2 * COUNT
    assert step("fp32,opt=int8_symmetric_block32", "momentum").optimizer == COUNT * 9 / 8
    flat = optax.flatten(optax.sgd(0.1, momentum=0.9))
    assert step("fp32", flat).optimizer == 4 * COUNT
    assert step("fp16_mixed").scales > step("bf16_mixed").scales == 0


def test_a_call_keeps_nothing_for_a_backward_pass() -> None:
    found = ps.cost(two_layers, WEIGHTS, EXAMPLES, policy="bf16_mixed")
    assert found.weights == found.total == 2 * COUNT
    assert found.operations == FORWARD + BATCH * (HIDDEN + 2 * OUTPUTS)


def test_checkpoint_keeps_inputs_only() -> None:
    again = jax.checkpoint(two_layers)
    found = ps.cost(again, WEIGHTS, EXAMPLES, policy="fp32", optimizer="sgd")
    assert found.activations == 4 * BATCH * INPUTS
    assert found.products() - step("fp32").products() == FORWARD


def test_turns_of_a_loop_count_each() -> None:
    turns = 5

    def recurrence(w: Any, x: Any) -> Any:
        return jnp.sum(jax.lax.scan(lambda h, _: (jnp.sin(h @ w), None), x, length=turns)[0])

    w, x = arrays((16, 16), (BATCH, 16))
    found = ps.cost(recurrence, w, x, policy="fp32", optimizer="sgd")
    assert found.activations == 4 * turns * 2 * BATCH * 16  # what enters a turn, and its cosine
    assert found.products("forward") == found.products("wgrad") == 2 * turns * BATCH * 16 * 16


def test_branches_and_loops_without_known_length_count_once() -> None:
    def fun(w: Any, x: Any) -> Any:
        x = jax.lax.cond(jnp.sum(x) > 0, lambda x: x @ w, lambda x: jnp.sin(x @ w), x)
        return jax.lax.while_loop(lambda x: jnp.sum(x) > 0, lambda x: x @ w, x)

    w, x = arrays((16, 16), (BATCH, 16))
    assert ps.cost(fun, w, x).products() == 3 * 2 * BATCH * 16 * 16


def test_what_is_no_weight_stays_as_it_is() -> None:
    def loss(params: Any, x: Any) -> Any:
        return jnp.sum(x[:, params["ids"]] @ params["w"])

    (w,) = arrays((2, 3))
    params = {"w": w, "ids": like((2,), np.dtype(np.int32))}
    found = ps.cost(loss, params, EXAMPLES, policy="bf16", optimizer="adam")
    assert (found.weights, found.gradients) == (12, 12)


def test_narrow_arrays_of_a_program_are_not_widened() -> None:
    w, x = like((4, 4), jnp.bfloat16), like((2, 4), jnp.bfloat16)
    found = ps.cost(lambda w, x: jnp.sum(x @ w), w, x, policy="fp32", optimizer="adam")
    assert (found.weights, found.gradients) == (32, 32)


def test_models_in_plain_jax_are_known() -> None:
    found = ps.cost(any_config(policy="bf16_mixed", model="recommender", task="ratings"))
    assert found.masters == 2 * found.weights > 0
    assert found.products("forward") > 0
    assert "fp32" in {row.format for row in found.rows if row.role == "other"}  # the loss


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_networks_of_trainings_cost_their_mathematics(model: str) -> None:
    found = ps.cost(any_config(policy="bf16_mixed", model=model, batch_size=4, optimizer="adam"))
    run = ps.replay.prepare_run(any_config(policy="fp32", model=model))
    count = sum(w.size for w in run.state.params.values())
    assert found.masters == 2 * found.weights == 2 * found.gradients == 4 * count
    assert found.products("forward") == found.products("wgrad") > found.products("dgrad")
    rule = "hidden" if model == "mlp" else "conv1"
    changed = ps.cost(any_config(policy=f"bf16_mixed;{rule}:fp32", model=model, batch_size=4))
    assert changed.weights > found.weights


PADS = ((1, 0), (0, 2))


def test_products_of_a_convolution_are_alike_in_all_directions() -> None:
    def loss(w: Any, x: Any) -> Any:
        y = jax.lax.conv_general_dilated(
            x, w[0], (2, 1), "SAME", rhs_dilation=(1, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2,
        )  # fmt: skip
        return jnp.sum(jax.lax.conv_general_dilated(y, w[1], (1, 2), PADS) ** 2)

    weights = arrays((3, 3, 2, 6), (4, 4, 2, 3))
    examples = arrays((2, 7, 6, 4))[0]
    found = ps.cost(lambda both: loss(*both), (weights, examples), optimizer="sgd")
    assert found.products("forward") > 0
    assert found.products("dgrad") + found.products("wgrad") == 2 * found.products("forward")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: any_cost(two_layers, policy="fp32"), "args is empty"),
        (lambda: any_cost("adam"), "fun is 'adam'; allowed are a function, a TrainConfig"),
        (lambda: any_cost(0), "fun is 0; allowed are integers from 1 on"),
        (lambda: any_cost(9, optimizer=3), "optimizer is 3; allowed are a transformation of optax"),
        (lambda: any_cost(9, optimizer="adm"), "optimizer is 'adm'; allowed are 'sgd'"),
        (lambda: step("float(e=inf,p=8)"), "format is float.*no limit; allowed"),
        (
            lambda: any_cost(lambda w: w, np.ones(3, np.float32), optimizer="sgd"),
            r"fun returns float32 of shape \(3,\); allowed with an optimizer is one number",
        ),
        (lambda: any_cost(any_config(policy="fp32"), 3), r"args are \(3,\); allowed with a config"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_output() -> None:
    found = step("bf16_mixed", "adam")
    assert "activations" in str(found)
    assert f'"total": {found.total}' in found.to_json()
    assert "<table>" in found._repr_html_()
    assert [column.header for column in cost_table("", [ps.cost(9)]).columns][-1] == "total"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (40e6, "40 MB"), (1_751_715_840, "1.75 GB"), (999_999, "1 MB"), (12, "12 B")],
)
def test_amounts(value: float, shown: str) -> None:
    assert amount(value, "B") == shown


# Rows of the table of claims about low-precision training.


def test_row_63_ten_million_weights_take_40_and_20_megabytes() -> None:
    assert [ps.cost(10_000_000, policy=p).weights for p in ("fp32", "fp16")] == [40e6, 20e6]


@pytest.mark.parametrize(
    ("policy", "per_weight"),
    [
        ("fp32", 16),
        ("fp16_mixed", 16),
        ("fp16_mixed,wgrad=fp16_fp16_fp32", 18),
        ("fp16,opt=fp16", 8),
    ],
)
def test_row_64_bytes_per_parameter_with_adam(policy: str, per_weight: int) -> None:
    found = ps.cost(BERT_BASE, policy=policy, optimizer="adam")
    counter = 4
    assert found.total - found.scales - counter == per_weight * BERT_BASE


def test_row_64_memory_of_bert_base() -> None:
    totals = [
        ps.cost(BERT_BASE, policy=policy, optimizer="adam").total
        for policy in ("fp32", "fp16_mixed", "fp16,opt=fp16")
    ]
    assert [f"{total / 1e9:.2f}" for total in totals] == ["1.75", "1.75", "0.88"]


@pytest.mark.parametrize("policy", ["fp32", "fp16", "bf16_mixed", "fp8_current"])
def test_row_65_operations_do_not_depend_on_the_format(policy: str) -> None:
    one = arrays((1, INPUTS))[0]
    assert ps.cost(two_layers, WEIGHTS, one, policy=policy).products() == 18_944


def test_row_66_a_training_needs_billions_of_operations() -> None:
    (one,) = arrays((1, INPUTS))
    samples, epochs = 1437, 30
    # The rule of three forward passes; it has the gradient of the examples, which no step needs.
    every = ps.cost(lambda both: two_layers(*both), (WEIGHTS, one), optimizer="sgd")
    assert every.products() == 3 * 18_944
    assert f"{every.products() * samples * epochs:.2e}" == "2.45e+09"
    needed = ps.cost(two_layers, WEIGHTS, one, optimizer="sgd")
    assert every.products() - needed.products() == 2 * INPUTS * HIDDEN


def test_row_51_bytes_of_a_pruned_network() -> None:
    count = 64 * 64 + 64 * 10
    assert [ps.cost(count, policy=p).weights for p in ("fp32", "fp16")] == [18_944, 9_472]


@pytest.mark.parametrize("count", [2**53 + 1, 10**20 - 1])
@pytest.mark.parametrize(("policy", "quarters"), [("fp32", 128), ("nvfp4", 36), ("mxfp4", 34)])
def test_bytes_of_more_weights_than_float64_counts_are_exact(
    count: int, policy: str, quarters: int
) -> None:
    """They were added up as floats, which lose counts above 2**53."""
    found = ps.cost(count, policy=policy, optimizer="adam")
    assert found.weights == -(-count * quarters // 32)  # a copy in each direction
    assert found.gradients == 4 * count
    assert found.optimizer == 8 * count + 4
    assert found.to_dict()["total"] == sum(getattr(found, name) for name in BYTES)
