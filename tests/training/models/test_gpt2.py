"""GPT-2's blocks, scanned: the bits of blocks one after the other."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.training.data.dataset import Problem
from precsim.training.layers import Layers
from precsim.training.models.gpt2 import GPT2, drawn
from precsim.training.plain_layers import PlainLayers
from precsim.training.watched import UNGUARDED, probe
from precsim.transform.noise import fold_in

TINY = GPT2(blocks=2, heads=4, width=64, context=16)
PROBLEM = Problem((8,), "int32", (8,), 512, (512,))


class Unrolled(Layers):
    """Blocks one after the other, each in program text of its own."""

    def scan(self, name: str, body: Any, x: Any, stacked: Any) -> Any:
        for k in range(len(jax.tree.leaves(stacked)[0])):
            inner = replace(self, key=fold_in(self.key, k), events={}, calls=dict(self.calls))
            x = body(inner, x, jax.tree.map(lambda w, k=k: w[k], stacked))
            for place, seen in inner.events.items():
                before = self.events.get(place)
                more = seen if before is None else jax.tree.map(jnp.add, before, seen)
                self.events[place] = more
        return x


def bits_of(kind: Any, policy: str, run: Any, weights: Any, places: tuple[str, ...]) -> str:
    """Return the hash of outputs, gradients and all that is counted, forward and backward."""

    def loss(weights: Any, probes: Any) -> Any:
        layers = kind(
            policy=ps.Policy.parse(policy),
            backend=f"emulated{UNGUARDED}",
            key=jax.random.key(0),
            probes=probes,
        )
        return run(weights, layers), layers.events

    probes = {place: probe() for place in places}
    return ps.replay.hash_state(
        jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(weights, probes)
    )[""]


@pytest.mark.long
@pytest.mark.parametrize("policy", ["bf16_mixed,fn=portable", "q3.8_sr,fn=portable"])
def test_scanned_blocks_have_the_bits_of_unrolled_ones(policy: str) -> None:
    """Values, gradients, counts and random bits, which depend on the block."""
    rng = np.random.default_rng(0)
    weights = {name: drawn(rng, (3, *shape), 0.5) for name, shape in (("w", (4, 4)), ("b", (4,)))}
    x = jnp.asarray(drawn(rng, (5, 4), 1.0))

    def block(layers: Layers, x: Any, w: Any) -> Any:
        x, branch = layers.functions.fork(x)
        return layers.functions.add(x, layers.linear("hidden", branch, w["w"], w["b"]))

    def run(weights: Any, layers: Layers) -> Any:
        y = layers.scan("blocks", block, x, weights)
        return y[0, 0]

    scanned, unrolled = (
        bits_of(kind, policy, run, weights, ("hidden",)) for kind in (Layers, Unrolled)
    )
    assert scanned == unrolled


@pytest.mark.slow
def test_the_whole_model_scanned_has_the_bits_of_the_unrolled_one() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(512, size=(1, 8), dtype=np.int32)

    def run(weights: Any, layers: Layers) -> Any:
        logits = TINY.apply(weights, tokens, layers).reshape(8, -1)
        return layers.functions.cross_entropy(logits, tokens.reshape(-1))

    places = [
        f"blocks/{n}" for n in ("qkv", "scores", "values", "projection", "expand", "contract")
    ]
    weights = TINY.init(np.random.default_rng(0), PROBLEM)
    scanned, unrolled = (
        bits_of(kind, "h100_bf16", run, weights, (*places, "output", "logits"))
        for kind in (Layers, Unrolled)
    )
    assert scanned == unrolled


def test_a_place_of_a_scan_is_named_once() -> None:
    layers = Layers(policy=ps.Policy.parse("fp32"), backend="emulated", key=jax.random.key(0))
    layers.rounded("same", jnp.ones(2))

    def block(layers: Layers, x: Any, w: Any) -> Any:
        return layers.rounded("same", x)

    with pytest.raises(ValueError, match="the model uses the name 'same' twice"):
        layers.scan("blocks", block, jnp.ones(2), {"w": jnp.ones((2, 1))})


def test_a_word_sees_those_before_it_only() -> None:
    """Of plain layers: another last token changes the last row of logits alone."""
    apply: Any = TINY.apply
    weights = TINY.init(np.random.default_rng(0), PROBLEM)
    tokens = np.arange(8, dtype=np.int32)[None]
    other = np.where(tokens == 7, 99, tokens)
    y, z = (np.asarray(apply(weights, x, PlainLayers())) for x in (tokens, other))
    assert np.allclose(y[0, :-1], z[0, :-1], rtol=0, atol=1e-6)
    assert not np.allclose(y[0, -1], z[0, -1])
    assert y.shape == (1, 8, 512)


def test_weights_are_those_of_gpt2_small_and_longer_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match="sequences have 17 tokens; allowed for gpt2 are 1 to 16"):
        TINY.init(np.random.default_rng(0), Problem((17,), "int32", (17,), 9, (9,)))
    small = GPT2()
    width, layer = small.width, 12 * small.width**2 + 13 * small.width
    counted = small.blocks * layer + (50_257 + small.context) * width + 2 * width
    assert counted == 124_439_808  # as published with the model


def test_initial_weights_are_nearly_normal() -> None:
    x = drawn(np.random.default_rng(0), (100_000,), 0.02).astype(np.float64)
    assert abs(x.mean()) < 3 * 0.02 / 100_000**0.5
    assert abs(x.std() / 0.02 - 1) < 0.01
    assert abs((np.abs(x) < 0.02).mean() - 0.6827) < 0.02
