"""Tensor scaling of policies: its strings, and delayed scales of products and convolutions."""

from typing import Any

import jax
import jax.numpy as jnp
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


def evaluated(fun: Any, *args: Any, scales: Any = None) -> tuple[Any, Watch]:
    """Run a function under the policy as a training does; with what was observed."""
    watch = Watch()
    context = Context(
        policy=ps.Policy.parse(POLICY),
        backend="auto",
        strict=True,
        key=jax.random.key(0),
        watch=watch,
        scales=scales,
    )
    return run(fun, args, {}, 0, context), watch


def test_products_take_the_scales_of_the_steps_before() -> None:
    """An operand is rounded with the scale that it is given, whatever its own numbers are."""

    def f(w: Any, x: Any) -> Any:
        return x @ w

    _, watch = evaluated(f, W, X)
    names = sorted(watch.formats)
    assert [name.rpartition("/")[2] for name in names] == ["lhs", "rhs"]
    largest = {name: float(np.abs(x).max()) for name, x in zip(names, (X, W), strict=True)}
    assert {name: float(x) for name, x in watch.closed().largest.items()} == largest
    options = delayed("delayed[4]")
    assert options is not None
    states = {name: options.start(watch.formats[name]) for name in names}
    states = {name: states[name].update(8 * np.float32(largest[name])) for name in names}
    scales = {name: state.scale for name, state in states.items()}
    found, _ = evaluated(f, W, X, scales=scales)
    spec = "e4m3[scale=tensor]_e4m3[scale=tensor]_fp32->bf16"
    given = {"a": scales[names[0]], "b": scales[names[1]]}
    np.testing.assert_array_equal(found, ps.matmul(X, W, spec, scales=given))
    assert not np.array_equal(found, ps.matmul(X, W, spec))
    # Without a history the operands themselves decide.
    np.testing.assert_array_equal(ps.emulate(f, POLICY)(W, X), ps.matmul(X, W, spec))


def test_convolutions_take_them_too() -> None:
    """A convolution of one pixel is a product: the same scales give the same bits."""

    def convolve(w: Any, x: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x[None], w[None], (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )[0]

    _, watch = evaluated(convolve, W, X)
    scales = {name: ps.Scale(scale=F(0.02)) for name in watch.formats}
    assert len(scales) == 2
    found, _ = evaluated(convolve, W, X, scales=scales)
    spec = "e4m3[scale=tensor]_e4m3[scale=tensor]_fp32->bf16"
    given = {"a": ps.Scale(scale=F(0.02)), "b": ps.Scale(scale=F(0.02))}
    np.testing.assert_array_equal(found, ps.matmul(X, W, spec, scales=given))


def test_a_derivative_of_products_with_delayed_scales_is_refused() -> None:
    def f(w: Any, x: Any) -> Any:
        return jnp.sum(x @ w)

    _, watch = evaluated(f, W, X)
    scales = {name: ps.Scale(scale=F(0.02)) for name in watch.formats}
    context = Context(
        policy=ps.Policy.parse(POLICY),
        backend="auto",
        strict=True,
        key=jax.random.key(0),
        scales=scales,
    )
    with pytest.raises(TypeError, match=r"allowed is emulate\(grad\(f\)\)"):
        jax.grad(lambda w: run(f, (w, X), {}, 0, context))(W)


def test_rotated_operands_have_no_delayed_scales() -> None:
    with pytest.raises(ValueError, match="wgrad is 'e4m3_e4m3_fp32:rht=16'; allowed with tensor"):
        ps.Policy.parse("fp8_delayed,wgrad=e4m3_e4m3_fp32:rht=16")
