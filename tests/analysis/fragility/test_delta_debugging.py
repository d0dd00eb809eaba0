"""The smallest set of parts that must stay high: planted fragile layers are found."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.fragility.delta_debugging import smallest

LAYERS, WIDTH = 12, 8


def _weights() -> np.ndarray:
    table = np.arange(LAYERS * WIDTH * WIDTH).reshape(LAYERS, WIDTH, WIDTH)
    return (np.eye(WIDTH) + (table * 37 % 101 - 50) / 400).astype(np.float32)


def network(fragile: tuple[int, ...], weights: Any, x: Any) -> Any:
    """Return what twelve layers compute; a fragile one adds a large number and takes it away."""
    for n in range(LAYERS):
        with jax.named_scope(f"layer{n}"):
            x = jnp.tanh(x @ weights[n])
            if n in fragile:
                x = (x + 100) - 100
    return x


X = np.array([[0.3, -0.2, 0.5, 0.1, -0.4, 0.2, -0.1, 0.6]], np.float32)


@pytest.mark.long
@pytest.mark.parametrize(
    "fragile", [pytest.param((7,), marks=pytest.mark.slow), (2, 9)], ids=["one", "two"]
)
def test_planted_fragile_layers_of_twelve_are_found(fragile: tuple[int, ...]) -> None:
    fun = partial(network, fragile)
    found = ps.fragile_parts(fun, _weights(), X, policy="e=bf16", tolerance=0.2)
    assert found.parts == tuple(f"layer{n}" for n in fragile)
    assert found.high_error < 0.001
    assert found.error <= 0.2 < found.low_error
    assert found.evaluations < 40
    rules = "".join(f";{part}:fp32" for part in found.parts)
    got = jax.jit(ps.emulate(fun, f"e=bf16{rules}"))(_weights(), X)
    with jax.enable_x64(True):
        want = np.asarray(jax.jit(fun)(_weights().astype(float), X.astype(float)))
    error = np.linalg.norm(np.asarray(got, float) - want) / np.linalg.norm(want)
    assert found.error == pytest.approx(error, rel=1e-2)


def difference(x: Any) -> Any:
    with jax.named_scope("square"):
        square = x * x
    with jax.named_scope("difference"):
        return square - 2


X1 = np.array([1.5, 1.43, 1.4], np.float32)


@pytest.mark.long
def test_none_is_needed_and_impossible() -> None:
    assert ps.fragile_parts(difference, X1, policy="bf16", tolerance=0.5).parts == ()
    with pytest.raises(
        ValueError, match=r"tolerance is 1e-12; allowed are numbers from .* on, the"
    ):
        ps.fragile_parts(difference, X1, policy="bf16", tolerance=1e-12)


@pytest.mark.parametrize(
    ("by", "part"),
    [
        ("scope", "square"),
        ("primitive", "mul"),
        ("line", "test_delta_debugging.py:"),
        ("operation", "mul at"),
        ("rule", "square"),
    ],
)
def test_parts_of_every_kind(by: str, part: str) -> None:
    policy = "bf16;square:e4m3;difference:fp16" if by == "rule" else "fp16;square:e4m3"
    found = ps.fragile_parts(difference, X1, policy=policy, tolerance=0.05, by=by)
    assert len(found.parts) == 1
    assert part in found.parts[0]
    assert part in str(found)
    assert "must stay high" in found._repr_html_()


def test_which_layer_cannot_take_the_lower_format() -> None:
    found = ps.fragile_parts(difference, X1, policy="e4m3", high="fp16", tolerance=0.05)
    assert found.parts == ("square", "difference")
    assert found.error <= 0.05 < found.low_error


@pytest.mark.long
def test_loops_and_what_is_compared() -> None:
    def fun(x: Any) -> Any:
        def step(y: Any, _: Any) -> Any:
            with jax.named_scope("add"):
                y = y + 1
            with jax.named_scope("halve"):
                return y / 2.5, None

        y = jax.lax.scan(step, x, None, length=4)[0]
        return {"y": y, "other": x + 100}

    x = np.array([0.3, 0.7], np.float32)
    found = ps.fragile_parts(fun, x, policy="e4m3", tolerance=0.02, of=lambda out: out["y"])
    assert found.parts == ("add", "halve")
    want = {"y": [0.7, 0.7], "other": [100, 100]}
    with pytest.raises(ValueError, match="the error with every part"):
        ps.fragile_parts(
            fun, x, policy="e4m3", tolerance=0.001, reference=want, of=lambda o: o["y"]
        )


def test_ddmin_finds_sets_of_which_all_are_needed() -> None:
    for count in range(1, 7):
        everything = frozenset(range(count))
        for size in range(count + 1):
            for needed in map(frozenset, itertools.combinations(range(count), size)):
                assert smallest(everything, needed.issubset) == needed

    # Either of two pairs is enough.
    def is_enough(kept: frozenset[int]) -> bool:
        return {1, 4} <= kept or {2, 3} <= kept

    found = smallest(frozenset(range(5)), is_enough)
    assert is_enough(found)
    assert not any(is_enough(found - {n}) for n in found)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="by is 'layer'; allowed are 'scope', 'line'"):
        ps.fragile_parts(difference, X1, policy="bf16", tolerance=1, by="layer")
    with pytest.raises(ValueError, match="tolerance is -1; allowed are numbers from 0 on"):
        ps.fragile_parts(difference, X1, policy="bf16", tolerance=-1)
    with pytest.raises(TypeError, match="of is 3; allowed is a function of the result"):
        ps.fragile_parts(difference, X1, policy="bf16", tolerance=1, of=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reference has 1 numbers; allowed are the 3 of"):
        ps.fragile_parts(difference, X1, policy="bf16", tolerance=1, reference=1.0)
