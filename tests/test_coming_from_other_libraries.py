"""Each line of the page for those who come from another library runs: ours, and theirs if it can.

What the page says of numbers of other libraries is checked against those that are installed.
"""

import importlib
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "coming-from-other-libraries.md"


class Row(NamedTuple):
    """A row of a table."""

    package: str
    theirs: str
    ours: str


def rows() -> list[Row]:
    """Return all rows of the page in their order."""
    found, package = [], ""
    for line in PAGE.read_text("utf-8").splitlines():
        if title := re.match(r"## .*: `(\w+)`$", line):
            package = title[1]
        elif cells := re.match(r"\| `(.*?)` \| `(.*?)` \|", line):
            found.append(Row(package, *cells.groups()))
    return found


ROWS = rows()
PACKAGES = list(dict.fromkeys(row.package for row in ROWS))


def loss_fn(params: Any, x: Any, y: Any) -> Any:
    with jax.named_scope("head"):
        return jnp.mean((x @ params["w"] - y) ** 2)


def names() -> dict[str, Any]:
    """Return what the lines of the page use."""
    return {
        "jax": jax,
        "jnp": jnp,
        "np": np,
        "optax": optax,
        "ps": ps,
        "params": {"w": jnp.ones((2, 1))},
        "x": jnp.ones((4, 2)),
        "y": jnp.zeros((4, 1)),
        "key": jax.random.key(0),
        "loss_fn": loss_fn,
    }


def ran() -> tuple[dict[str, Any], set[str]]:
    """Run all lines of ours; return the names that they leave, and their policies."""
    known, policies = names(), set()
    for row in ROWS:
        exec(row.ours, known)  # noqa: S102
        policies.add(str(ps.Policy.parse(known["policy"])))
    return known, policies


@pytest.mark.long
def test_all_lines_of_ours_run() -> None:
    _, policies = ran()
    assert len(policies) > 15
    assert PACKAGES == ["torch", "keras", "jmp", "transformer_engine", "flax", "optax"]


@pytest.mark.slow
def test_a_function_runs_under_each_policy_of_the_page() -> None:
    known, policies = ran()
    arguments = known["params"], known["x"], known["y"]
    for policy in policies:
        assert jax.eval_shape(ps.emulate(loss_fn, policy), *arguments).shape == ()


@pytest.mark.long
@pytest.mark.parametrize("package", PACKAGES)
def test_lines_of_other_libraries_run(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    known = names() | {package: pytest.importorskip(package)}
    match package:
        case "transformer_engine":
            known["recipe"] = importlib.import_module("transformer_engine.common.recipe")
        case "flax":
            known["nn"] = importlib.import_module("flax.linen")
            training = importlib.import_module("flax.training.dynamic_scale")
            known["DynamicScale"] = training.DynamicScale
        case "torch":
            weight = known["torch"].ones(2, requires_grad=True)
            optimizer = known["torch"].optim.SGD([weight], 0.1)
            known |= {"parameters": [weight], "optimizer": optimizer}
    with warnings.catch_warnings(action="ignore"):  # such as that there is no GPU
        for row in ROWS:
            if package == "torch":  # whose backward frees what it went through
                known["loss"] = (weight**2).sum()
            if row.package == package:
                exec(row.theirs, known)  # noqa: S102
    if package == "keras":
        known["keras"].config.set_dtype_policy("float32")


def factors(scale: Any, adjust: Any, steps: int) -> list[float]:
    """Return the factors of a loss scale over finite steps."""
    found = []
    for _ in range(steps):
        scale = adjust(scale)
        factor: Any = getattr(scale, "factor", getattr(scale, "scale", None))
        found.append(float(factor))
    return found


def test_flax_grows_one_step_later() -> None:
    module = pytest.importorskip("flax.training.dynamic_scale")
    theirs = module.DynamicScale(growth_interval=2)
    gradient = lambda scale: scale.value_and_grad(jnp.square)(1.0)[0]
    assert factors(theirs, gradient, 4) == [65536.0, 65536.0, 131072.0, 131072.0]
    ours = ps.DynamicLossScale(factor=65536.0, growth_interval=2)
    finite = lambda scale: scale.adjust(True)
    assert factors(ours, finite, 4) == [65536.0, 131072.0, 131072.0, 262144.0]
    default = module.DynamicScale()
    assert (default.scale, default.growth_interval) == (65536.0, 2000)
    assert default.minimum_scale == np.finfo(np.float32).tiny


def test_jmp_forgets_its_floor_under_jit() -> None:
    jmp = pytest.importorskip("jmp")
    theirs = jmp.DynamicLossScale(jnp.float32(8), min_loss_scale=jnp.float32(4))
    assert (theirs.period, theirs.factor) == (2000, 2)
    assert float(jax.jit(lambda scale: scale)(theirs).min_loss_scale) == 1
    ours = ps.DynamicLossScale(factor=8.0, min_factor=4.0)
    assert float(jax.jit(lambda scale: scale)(ours).min_factor) == 4


def test_numbers_of_precsim_on_the_page() -> None:
    scale = ps.DynamicLossScale()
    text = PAGE.read_text("utf-8")
    assert f"the default is {scale.factor:.0f}" in text
    assert (scale.growth_interval, scale.growth_factor, scale.backoff_factor) == (2000, 2, 0.5)
    assert (scale.min_factor, scale.max_factor) == (1, 2**24)


def test_optax_loses_a_small_update() -> None:
    new = optax.apply_updates({"w": jnp.bfloat16(1)}, {"w": jnp.float32(1e-3)})
    assert (new["w"].dtype, float(new["w"])) == (jnp.bfloat16, 1)


def test_numbers_of_torch() -> None:
    scaler = pytest.importorskip("torch").amp.GradScaler("cpu")
    assert (scaler.get_scale(), scaler.get_growth_interval()) == (65536, 2000)
    assert (scaler.get_growth_factor(), scaler.get_backoff_factor()) == (2, 0.5)


def test_numbers_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    scaler = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    assert (scaler.initial_scale, scaler.dynamic_growth_steps) == (32768, 2000)
