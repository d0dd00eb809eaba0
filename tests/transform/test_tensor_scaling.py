"""Tensor scaling of policies: its strings, and delayed scales of products and convolutions."""

from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps
from precsim.transform.emulate import run
from precsim.transform.operation import Context
from precsim.transform.tensor_scaling import Delayed, delayed
from precsim.transform.watch import Watch

F: Any = np.float32
RANDOM = np.random.default_rng(0)
W, X = (F(RANDOM.normal(size=shape)) for shape in ((8, 4), (5, 8)))
POLICY = "fwd=e4m3[saturate]_e4m3[saturate]_fp32->bf16,e=fp32,tensor=delayed"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("delayed", Delayed()),
        ("delayed[1024,max,margin=0]", Delayed()),
        ("delayed[]", Delayed()),
        ("delayed[16,most_recent]", Delayed(length=16, algorithm="most_recent")),
        ("delayed[margin=3,pow2]", Delayed(margin=3, is_power_of_two=True)),
    ],
)
def test_options_of_delayed_scaling(text: str, options: Delayed) -> None:
    assert delayed(text) == options
    policy = ps.Policy.parse(f"bf16_mixed,tensor={text};head:tensor=none")
    assert policy.tensor_scaling == str(options)
    assert delayed(policy.tensor_scaling) == options
    assert ps.Policy.parse(str(policy)) == policy
    assert ps.Policy.from_toml(policy.to_toml()) == policy


@pytest.mark.parametrize(
    "text", ["late", "delayed[0]", "delayed[margin=101]", "delayed[2,3]", "delayed[mean]"]
)
def test_other_tensor_scalings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed are") as caught:
        ps.Policy.parse(f"bf16,tensor={text}")
    assert "\n" not in str(caught.value)


def context(watch: Watch | None, scales: Any = None) -> Context:
    policy, key = ps.Policy.parse(POLICY), jax.random.key(0)
    settings: Any = {"policy": policy, "backend": "auto", "strict": True, "key": key}
    return Context(watch=watch, scales=scales, **settings)


def observed(fun: Any) -> dict[str, Any]:
    """Return the operands under delayed scaling, from a pass over shapes."""
    watch = Watch()
    jax.eval_shape(lambda w, x: run(fun, (w, x), {}, 0, context(watch)), W, X)
    return watch.formats


def evaluated(fun: Any, scales: Any) -> tuple[Any, dict[str, Any]]:
    """Run a function as a training does; with the largest magnitudes of the operands."""

    @jax.jit
    def both(w: Any, x: Any) -> Any:
        watch = Watch()
        y = run(fun, (w, x), {}, 0, context(watch, scales))
        return y, watch.closed().largest

    y, largest = both(W, X)
    return y, largest


def multiply(w: Any, x: Any) -> Any:
    return x @ w


def convolve(w: Any, x: Any) -> Any:
    """Convolve with windows of one pixel, which is a product."""
    numbers = ("NWC", "WIO", "NWC")
    y = jax.lax.conv_general_dilated(x[None], w[None], (1,), "VALID", dimension_numbers=numbers)
    return y[0]


@pytest.mark.long
@pytest.mark.parametrize("fun", [multiply, convolve])
def test_products_take_the_scales_of_the_steps_before(fun: Any) -> None:
    """An operand is rounded with the scale that it is given, whatever its own numbers are."""
    formats, options = observed(fun), delayed("delayed[4]")
    assert options is not None
    names = sorted(formats)
    assert [name.rpartition("/")[2] for name in names] == ["lhs", "rhs"]
    states = {name: options.start(formats[name]) for name in names}
    states = {
        name: states[name].update(5 * np.abs(x).max(keepdims=True).reshape(1))
        for name, x in zip(names, (X, W), strict=True)
    }
    scales = {name: state.scale for name, state in states.items()}
    found, largest = evaluated(fun, scales)
    assert [float(largest[name]) for name in names] == [np.abs(X).max(), np.abs(W).max()]
    spec = "e4m3[scale=tensor:saturate]_e4m3[scale=tensor:saturate]_fp32->bf16"
    given = {"a": scales[names[0]], "b": scales[names[1]]}
    expected = ps.matmul(X, W, spec, scales=given, backend="reference")
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, ps.matmul(X, W, spec, backend="reference"))


@pytest.mark.long
def test_without_a_history_operands_themselves_decide() -> None:
    spec = "e4m3[scale=tensor]_e4m3[scale=tensor]_fp32->bf16"
    expected = ps.matmul(X, W, spec, backend="reference")
    np.testing.assert_array_equal(jax.jit(ps.emulate(multiply, POLICY))(W, X), expected)


def test_a_derivative_of_products_with_delayed_scales_is_refused() -> None:
    scales = {name: ps.Scale(scale=F(0.02)) for name in observed(multiply)}

    def f(w: Any) -> Any:
        return run(multiply, (w, X), {}, 0, context(None, scales))

    with pytest.raises(TypeError, match=r"allowed is emulate\(grad\(f\)\)"):
        jax.eval_shape(jax.jacrev(f), W)


def test_rotated_operands_have_no_delayed_scales() -> None:
    with pytest.raises(ValueError, match="wgrad is 'e4m3_e4m3_fp32:rht=16'; allowed with tensor"):
        ps.Policy.parse("fp8_delayed,wgrad=e4m3_e4m3_fp32:rht=16")


TWO_LAYERS = "fwd=fp32_fp32_fp32,dgrad=e5m2_fp32_fp32,wgrad=fp32_e5m2_fp32"


WEIGHTS = {"a": F(np.full((4, 3), 0.5)), "b": F(np.full((3, 2), 2.0))}
DATA = F(np.ones((2, 4))), F(np.full((2, 2), 2.0**-18))
"""Inputs, and the cotangents of the results, which E5M2 does not have."""


def loss_of_two_layers(weights: Any, inputs: Any, cotangents: Any) -> Any:
    with jax.named_scope("one"):
        h = inputs @ weights["a"]
    with jax.named_scope("two"):
        return (h @ weights["b"] * cotangents).sum()


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("", (0, 0)),
        (";two:tensor=cotangents@1024", (8, 4)),
    ],
)
def test_a_loss_scale_of_one_layer(rule: str, expected: tuple[float, float]) -> None:
    """Its cotangents are scaled before they are rounded; what leaves the layer is unscaled."""
    run = ps.emulate(jax.grad(loss_of_two_layers), TWO_LAYERS + rule)
    gradient = jax.jit(run)(WEIGHTS, *DATA)
    for name, times in zip("ab", expected, strict=True):
        assert (np.asarray(gradient[name]) == times * 2.0**-18).all()
    policy = ps.Policy.parse(TWO_LAYERS + rule)
    assert ps.Policy.parse(str(policy)) == policy


@pytest.mark.long
def test_a_loss_scale_of_a_convolution() -> None:
    image, kernel = F(np.ones((1, 4, 4, 1))), F(np.full((1, 1, 1, 1), 2.0))

    def loss(kernel: Any, image: Any, cotangents: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        return (y * cotangents).sum()

    for factor, expected in ((1, 0.0), (16, 2.0**-14)):
        run = ps.emulate(jax.grad(loss), f"{TWO_LAYERS},tensor=cotangents@{factor}")
        gradient = jax.jit(run)(kernel, image, image * F(2.0**-18))
        assert float(gradient[0, 0, 0, 0]) == expected


@pytest.mark.long
def test_a_loss_scale_of_a_layer_is_no_secret_of_derivatives() -> None:
    """A derivative of the emulated function would lack the factor: it is refused."""
    policy = TWO_LAYERS + ";two:tensor=cotangents@1024"
    run = ps.emulate(loss_of_two_layers, policy)
    assert float(run(WEIGHTS, *DATA)) == 48 * 2.0**-18
    with pytest.raises(NotImplementedError, match=r"allowed is to emulate its gradient"):
        jax.grad(run)(WEIGHTS, *DATA)


@pytest.mark.parametrize("text", ["cotangents", "cotangents@3", "cotangents@0", "cotangents@1e30"])
def test_wrong_factors_on_cotangents_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"tensor scaling is '{text}'; allowed are 'none'"):
        ps.Policy.parse(f"tensor={text}")


@pytest.mark.long
def test_a_training_counts_the_roundings_of_a_scaled_layer() -> None:
    """A factor that saves nothing changes neither weights nor the number of roundings."""
    model = ({"w": np.zeros(2, np.float32)}, lambda p, x: x @ p["w"])
    data = F(RANDOM.normal(size=(4, 2))), F([1, 2, 3, 4])
    found = []
    for rule in ("", ",tensor=cotangents@1024"):
        policy: Any = TWO_LAYERS + rule
        config = ps.TrainConfig(policy=policy, steps=1, batch_size=4)
        result = ps.train(config, model=model, data=data, loss="mse")
        found.append((result.weights["w"].tolist(), result.backward_events["model"].tolist()))
    assert found[0] == found[1]
