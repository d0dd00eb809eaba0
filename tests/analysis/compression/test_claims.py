"""Claims about compressed networks, on the reference set-up: rows 9, 51, 57, 58 of the table.

What is claimed are means over ten seeds of other splits. So both means have a statistical error,
and a difference is allowed three times that of the two together, but at least one image in ten.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precsim as ps
from tests.analysis.compression import reference_digits as digits

pytestmark = pytest.mark.slow

LEAST_ERROR = 100 / 3600
"""One image of ten tests of 360, in points."""


@lru_cache(maxsize=1)
def networks() -> list[Any]:
    return digits.trained(digits.mlp_init, digits.mlp, optax.sgd(0.1), epochs=20)


def agrees(found: np.ndarray, claimed: float) -> bool:
    """Return whether the mean over seeds is what was claimed, within the errors of both."""
    error = max(np.std(found, ddof=1) / np.sqrt(found.size), LEAST_ERROR)
    return bool(abs(np.mean(found) - claimed) <= 3 * np.sqrt(2) * error)


def weights_of(params: Any) -> np.ndarray:
    """Return all weights without the biases."""
    return np.concatenate([params[name]["w"].reshape(-1) for name in ("hidden", "output")])


@pytest.mark.parametrize(
    ("spec", "claimed"),
    [
        ("uint16", 89.2),
        ("fp16", 73.8),
        ("bf16", 55.6),
        ("uint8", 41.0),
        ("e4m3:saturate", 31.3),
        ("e5m2:saturate", 25.5),
        ("uint4", 16.4),
    ],
)
def test_row_9_formats_of_trained_weights(spec: str, claimed: float) -> None:
    # The claim is about one network, with weights from -0.78 to 0.94. The step of an affine format
    # is a part of that range, so that a wider one costs 20 log10 of the ratio.
    found = []
    for params in networks():
        weights = weights_of(params)
        wider = (weights.max() - weights.min()) / (0.94 + 0.78) if "int" in spec else 1.0
        found.append(ps.compress(weights, spec).total.sqnr + 20 * np.log10(wider))
    assert np.mean(found) == pytest.approx(claimed, abs=1.0)
    assert np.std(found) < 1.5


@pytest.mark.parametrize(("sparsity", "claimed"), [(0.5, 96.19), (0.8, 83.78), (0.9, 54.94)])
def test_row_51_pruned_networks_in_half_precision(sparsity: float, claimed: float) -> None:
    pruned, half = [], []
    for params in networks():
        masks = ps.prune(params, sparsity)
        pruned.append(ps.compress(params, {"*": None}, masks=masks).params)
        half.append(ps.compress(params, "fp16", masks=masks).params)
    full = digits.accuracies(digits.mlp, pruned)
    assert agrees(full, claimed)
    assert agrees(digits.accuracies(ps.emulate(digits.mlp, "fp16"), half) - full, 0.0)


@pytest.mark.parametrize(
    ("policy", "spec", "claimed"),
    [
        ("fp16", "fp16", 97.19),
        ("bf16", "bf16", 97.22),
        ("e4m3:saturate", "e4m3:saturate", 97.06),
        ("e5m2:saturate", "e5m2:saturate", 96.75),
        ("fp32", {"w": "uint8"}, 97.25),
        ("fp32", {"w": "uint4"}, 96.58),
        ("fp32", {"w": "uint2"}, 78.17),
    ],
)
def test_row_58_casts_after_training(policy: str, spec: Any, claimed: float) -> None:
    # Sums in float32, as the set-up says; affine formats are for the weights alone.
    run = ps.emulate(digits.mlp, f"p={policy},c={policy},o={policy},acc=fp32")
    smaller = [ps.compress(params, spec).params for params in networks()]
    change = digits.accuracies(run, smaller) - digits.accuracies(digits.mlp, networks())
    assert agrees(change, claimed - 97.19)


CLAIMED_LOSSES = {
    False: {8: 0.03, 5: 0.1, 4: 1.5, 3: 11.2},
    True: {8: 0.06, 5: 0.7, 4: 6.4, 3: 27.2},
}
"""Points that affine weights and activations cost, by whether convolutions are separable."""


def test_row_57_separable_convolutions_lose_more() -> None:
    images, *_, tests, labels = digits.data()
    losses: dict[bool, dict[int, np.ndarray]] = {True: {}, False: {}}
    for is_depthwise in (False, True):
        init = partial(digits.cnn_init, is_depthwise=is_depthwise)
        trained = digits.trained(init, digits.cnn, optax.adam(2e-3), epochs=15)
        assert sum(x.size for x in jax.tree.leaves(trained[0])) == (2154 if is_depthwise else 6090)
        before = digits.accuracies(digits.cnn, trained)
        for bits in CLAIMED_LOSSES[is_depthwise]:
            spec = ps.RoundingSpec.parse(f"uint{bits}")
            run = jax.jit(
                lambda scales, w, x, spec=spec: ps.FixedScales(digits.cnn, spec, scales)(w, x)
            )
            after = []
            for n, params in enumerate(trained):
                fixed = ps.fix_scales(digits.cnn, spec, params, [(images[n][:256],)])
                small = ps.compress(params, {"w": spec}).params
                answers = jnp.argmax(run(fixed.scales, small, tests[n]), -1)
                after.append(100 * float(jnp.mean(answers == labels[n])))
            losses[is_depthwise][bits] = before - np.array(after)
    plain, separable = losses[False], losses[True]
    for bits in (8, 5):
        assert agrees(plain[bits], CLAIMED_LOSSES[False][bits])
    assert np.mean(plain[8]) < 0.3
    assert np.mean(separable[8]) < 0.3
    for bits in (4, 3):
        assert np.mean(separable[bits]) > 1.5 * np.mean(plain[bits])
        for is_depthwise, found in losses.items():
            # Means of other trainings: within a factor of two, or three errors.
            claimed = CLAIMED_LOSSES[is_depthwise][bits]
            is_near = claimed / 2 <= np.mean(found[bits]) <= 2 * claimed
            assert is_near or agrees(found[bits], claimed)
