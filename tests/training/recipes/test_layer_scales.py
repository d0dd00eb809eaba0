"""A layer's own loss scale that adapts: by hand, in a training, resumed, and where it helps."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.cli.run_directory import add_result
from precsim.training.recipes.layer_scales import LayerScale
from precsim.training.step import TrainState
from precsim.transform.tensor_scaling import of_cotangents

F: Any = np.float32
ONLY_PRODUCTS = "p=fp32,c=fp16,o=fp32,e=fp32"
"""Operands of products in fp16, everything else in fp32."""
OWN = "tensor=cotangents@dynamic"


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("cotangents@dynamic", 2.0**15),
        ("cotangents@dynamic@1024", 1024),
        ("cotangents@dynamic@0.25[interval=20,growth=4,backoff=0.25,min=0.0625,max=16]", 0.25),
    ],
)
def test_texts(text: str, factor: float) -> None:
    policy = ps.Policy.parse(f"fp16_mixed;head:tensor={text}")
    assert policy.rules[0].policy.tensor_scaling == text
    assert of_cotangents(text) == factor
    assert ps.Policy.parse(str(policy)) == policy
    assert ps.Policy.from_toml(policy.to_toml()) == policy


@pytest.mark.parametrize(
    "options", ["@3", "[growth=3]", "[backoff=0.3]", "[min=0.1]", "[redo]", "[max=1e38]", "s", "@"]
)
def test_factors_that_round_are_refused(options: str) -> None:
    with pytest.raises(ValueError, match="allowed are") as caught:
        ps.Policy.parse(f"fp16;head:{OWN}{options}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("@-2", "first factor of {} is '-2'; allowed are powers of two from 2**-100 to 2**100"),
        ("@0", "first factor of {} is '0'; allowed are powers of two from 2**-100 to 2**100"),
        ("@", "first factor of {} is ''; allowed are powers of two from 2**-100 to 2**100"),
        ("@nan", "first factor of {} is 'nan'; allowed are powers of two from 2**-100 to 2**100"),
        ("[growth=3]", "growth of {} is '3'; allowed are powers of two above 1"),
        ("[backoff=2]", "backoff of {} is '2'; allowed are powers of two below 1"),
        ("[interval=0.5]", "interval of {} is '0.5'; allowed are integers from 1"),
        ("[max=1e9]", "max of {} is '1e9'; allowed are powers of two from 2**-100 to 2**100"),
        ("[redo]", "option of {} is 'redo'; allowed are interval, growth, backoff, min, max"),
        ("[min=1,min=2]", "{} gives min twice; allowed are options given once"),
        ("@8[min=16]", "first factor of {} is 8; allowed are those from its min, 16, to its max, "),
        (
            "@64[max=16]",
            "first factor of {} is 64; allowed are those from its min, 1, to its max, 16",
        ),
        ("@0.25", "first factor of {} is 0.25; allowed are those from its min, 1, to its max, "),
        ("[max=16]", "first factor of {} is 32768; allowed are those from its min, 1, to its max"),
    ],
)
def test_errors_name_the_option(options: str, said: str) -> None:
    with pytest.raises(ValueError, match="allowed are") as caught:
        ps.Policy.parse(f"fp16,{OWN}{options}")
    assert said.format(OWN) in str(caught.value)
    assert "\n" not in str(caught.value)


def with_tail(weights: Any, x: Any) -> Any:
    y = one_weight(weights, x)
    with jax.named_scope("tail"):
        return y * jnp.exp(y)


@pytest.mark.parametrize(
    ("policy", "who"),
    [
        (f"fp32,{OWN}", "base"),
        (f"fp32;only:{OWN}", "rule 'only'"),
        (f"fp16_mixed;tail:{OWN}", "rule 'tail'"),
        (f"fp16_mixed;o*:bf16;only:{OWN}", "rule 'only'"),
        (f"fp16_mixed,{OWN};only:{OWN}@8", "base"),
    ],
)
def test_scales_of_no_layer_are_refused(policy: str, who: str) -> None:
    """Before the first step, of a schedule's later policies too."""
    later = ps.Schedule(starts=(0, 2), policies=("fp32", policy))
    for first, control in ((policy, None), ("fp32", later)):
        model, data = ({"w": F([[0.3]])}, with_tail), (F([[X]]), F([TARGET]))
        config: Any = ps.TrainConfig(policy=first, steps=3, batch_size=1)
        refuse_steps = lambda *_: pytest.fail("a step is taken")
        with pytest.raises(ValueError, match="no product there rounds its cotangents") as caught:
            ps.train(
                config, model=model, data=data, loss="mse", control=control, on_step=refuse_steps
            )
        assert str(caught.value).startswith(f"{who} of the policy has {OWN}, which decides nothing")
        assert "\n" not in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize("own", ["cotangents@1", "cotangents@dynamic@1[max=1]"])
@pytest.mark.parametrize(
    "base",
    ["p=fp32,c=e5m2:sr,e=fp32,o=fp32", "fp32,wgrad=fp32_e5m2[sr]_fp32,dgrad=e5m2[sr]_fp32_fp32"],
)
def test_operands_rounded_at_random_have_their_bits(base: str, own: str) -> None:
    """A factor of one is none: cotangents get the bits of the ordinary product."""
    plain, scaled = (train_one(f"{base}{rule}", 3) for rule in ("", f",tensor={own}"))
    assert plain.losses.tobytes() == scaled.losses.tobytes()


@pytest.mark.long
def test_nvfp4_trains_with_an_own_scale() -> None:
    """Its cotangents are rounded stochastically, in blocks with scales."""
    runs = [
        ps.train(ps.TrainConfig(policy=f"nvfp4{own}", model="mlp", steps=2))
        for own in ("", f",{OWN}@1[max=1]")
    ]
    assert runs[0].losses.tobytes() == runs[1].losses.tobytes()
    assert set(runs[1].layer_scales) == {"hidden", "output"}


def test_the_rule_by_hand() -> None:
    state = LayerScale.start("cotangents@dynamic@8[interval=2,min=2,max=16]")
    found = []
    for told in (1, np.inf, np.inf, np.inf, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1):
        state = state.update(F(told))
        found.append(np.asarray(state.scale.factor).item())
        assert np.asarray(state.scale.scale).item() == 1 / found[-1]
    assert found == [8, 4, 2, 2, 2, 2, 4, 4, 4, 8, 8, 16, 16, 16]
    assert int(state.state.skipped) == 3


def one_weight(weights: Any, x: Any) -> Any:
    with jax.named_scope("only"):
        return (x @ weights["w"])[:, 0]


X, TARGET, RATE, UNIT = F(1.37), F(93.7), F(2.0**-3), F(2.0**-2)


def by_hand(steps: int, interval: int) -> tuple[list[float], list[bool], np.float32]:
    """Train one weight in NumPy: factors, steps that are taken, the weight at the end."""
    half, w, factor, finite = np.float16, F(0.3), F(2.0**15), 0
    factors, taken = [], []
    for _ in range(steps):
        factors.append(float(factor))
        y = F(half(X)) * F(half(w))
        cotangent = F(2) * F(y - TARGET)
        with np.errstate(over="ignore"):
            scaled = half(cotangent * factor)
        taken.append(bool(np.isfinite(scaled)))
        if taken[-1]:
            gradient = F(F(half(X)) * F(scaled)) / factor
            w, finite = F(w - RATE * gradient), finite + 1
            if finite == interval:
                factor, finite = factor * F(2), 0
        else:
            factor, finite = factor / F(2), 0
    return factors, taken, w


def train_one(policy: str, steps: int, **settings: Any) -> ps.TrainResult:
    model = {"w": F([[0.3]])}, one_weight
    data = F([[X]]), F([TARGET])
    chosen = {"batch_size": 1, "learning_rate": float(RATE)} | settings
    config = ps.TrainConfig(policy=policy, steps=steps, **chosen)
    return ps.train(config, model=model, data=data, loss="mse")


@pytest.mark.long
def test_a_training_is_that_of_an_independent_program() -> None:
    factors, taken, w = by_hand(40, 3)
    assert not all(taken)
    assert factors[-1] > min(factors)
    result = train_one(f"{ONLY_PRODUCTS};only:{OWN}[interval=3]", 40)
    assert result.layer_scales["only"].tolist() == factors
    assert result.taken.tolist() == taken
    assert result.weights["w"].tobytes() == w.tobytes()
    assert set(result.loss_scales.tolist()) == {1.0}


@pytest.mark.long
@pytest.mark.parametrize("scale", ["dynamic@4", "dynamic@4[redo]", "4"])
def test_the_loss_scale_is_not_blamed(scale: str) -> None:
    """It stays where a layer's own scale overflows; `redo` does not search for another one."""
    result = train_one(f"{ONLY_PRODUCTS},scale={scale};only:{OWN}", 12)
    assert set(result.loss_scales.tolist()) == {4.0}
    assert result.layer_scales["only"].tolist()[:3] == [2.0**15, 2.0**14, 2.0**13]
    assert 3 < result.skipped_steps < 12


@pytest.mark.long
def test_a_layer_is_not_blamed_for_others() -> None:
    """A cotangent that is not finite before it is scaled says nothing of the layer's scale."""
    result = train_one(f"{ONLY_PRODUCTS},scale=16777216;only:{OWN}@1", 3, learning_rate=1e30)
    assert result.layer_scales["only"].tolist()[0] == 1
    model = {"w": F([[np.nan]])}, one_weight
    config = ps.TrainConfig(policy=f"{ONLY_PRODUCTS};only:{OWN}", steps=3, batch_size=1)
    nan = ps.train(config, model=model, data=(F([[1]]), F([1])), loss="mse")
    assert nan.layer_scales["only"].tolist() == [2.0**15] * 3
    assert nan.skipped_steps == 3


UNITS = F([2.0**10, 2.0**-10])


def two_units(weights: Any, x: Any) -> Any:
    """Predict two quantities, in units a million times apart, each by a layer."""
    parts = []
    for name in ("far", "near"):
        with jax.named_scope(name):
            parts.append(x @ weights[name])
    return jnp.concatenate(parts, axis=1) * UNITS


def train_two(policy: str, **options: Any) -> tuple[ps.TrainResult, np.ndarray]:
    """Return a run, and the largest error of the weights of each layer."""
    rng = np.random.default_rng(0)
    x, exact, noise = (F(rng.standard_normal(shape)) for shape in ((256, 8), (8, 2), (256, 1)))
    targets = (x @ exact + F([0.5, 0]) * noise) * UNITS
    model = {name: np.zeros((8, 1), np.float32) for name in ("far", "near")}, two_units
    settings: dict[str, Any] = {
        "steps": 200,
        "batch_size": 32,
        "learning_rate": 0.03,
        "optimizer": "adam",
    }
    run = {name: options.pop(name) for name in list(options) if name not in ("steps", "accumulate")}
    config = ps.TrainConfig(policy=policy, **settings | options)
    result = ps.train(config, model=model, data=(x, targets), **run)
    found = np.concatenate([result.weights["far"], result.weights["near"]], axis=1)
    return result, np.abs(found - exact).max(0)


ADAPTS = f"{ONLY_PRODUCTS},{OWN}[interval=20,min=0.0009765625]"


@pytest.mark.long
def test_layers_learn_where_no_single_scale_lets_both() -> None:
    """In fp16 any loss scale makes the one layer overflow, or the cotangents of the other zero."""
    _, exact = train_two("fp32")
    assert (exact < (0.1, 0.0002)).all()
    policies = [f"{ONLY_PRODUCTS},scale={2.0**k!r}" for k in range(-12, 13, 6)]
    for policy in (*policies, f"{ONLY_PRODUCTS},scale=dynamic[interval=20,min=0.0009765625]"):
        _, errors = train_two(policy)
        assert (errors > (0.8, 0.1)).any()
    result, errors = train_two(ADAPTS)
    assert (errors < (0.1, 0.001)).all()
    assert result.layer_scales["near"][-1] / result.layer_scales["far"][-1] > 2.0**20


@pytest.mark.long
def test_one_microbatch_that_overflows_is_enough() -> None:
    whole, parts = (train_two(ADAPTS, steps=12, accumulate=n)[0] for n in (1, 4))
    assert not whole.taken[0]
    assert not parts.taken[0]
    for run in (whole, parts):
        for factors in run.layer_scales.values():
            assert set(factors[1:] / factors[:-1]) <= {0.5, 1.0}


@pytest.mark.long
def test_a_killed_run_goes_on_with_its_scales(tmp_path: Path) -> None:
    policy = ADAPTS.replace("interval=20", "interval=3")
    whole, _ = train_two(policy, steps=24)
    for kill in (4, 17):
        kept = ps.replay.Checkpoints(folder=tmp_path / str(kill), every=2)

        def until(step: int, state: TrainState, kill: int = kill) -> None:
            if step == kill:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_two(policy, steps=24, checkpoints=kept, on_state=until)
        resumed, _ = train_two(policy, steps=24, checkpoints=kept)
        assert resumed.losses.tobytes() == whole.losses.tobytes()
        for name, factors in whole.layer_scales.items():
            assert len(set(factors)) > 3
            assert resumed.layer_scales[name].tobytes() == factors.tobytes()
            assert resumed.weights[name].tobytes() == whole.weights[name].tobytes()


@pytest.mark.long
def test_metrics_have_the_factor_of_each_step(tmp_path: Path) -> None:
    for rule in (f";only:{OWN}@8[interval=2]", ""):
        add_result(tmp_path, train_one(ONLY_PRODUCTS + rule, 3))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        found = [row["layer_scales"] for row in csv.DictReader(file)]
    assert found == ["only=8.0", "only=8.0", "only=16.0", "", "", ""]


def test_metrics_have_factors_exactly(tmp_path: Path) -> None:
    factors = F([2.0**20, 2.0**-100, 2.0**100])
    result = train_one("fp32", 3)
    add_result(tmp_path, replace(result, layer_scales={"a": factors, "b/c": factors[::-1]}))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row["layer_scales"].split() for row in csv.DictReader(file)]
    found = [{n: float(x) for n, _, x in (part.partition("=") for part in row)} for row in rows]
    assert found == [{"a": factors[k], "b/c": factors[2 - k]} for k in range(3)]
