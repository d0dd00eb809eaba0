"""Stated orders give one hash for all ways of reading; an order that depends on the batch does not.

All of it runs in NumPy, with one block of the model and a coarse tensor core: blocks of 4 products,
cut off below 2**-8, so that another order shows in a few tokens.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precsim as ps
from experiments import decoder, g28_log_probabilities
from experiments import log_probabilities as lp
from experiments.g28_log_probabilities import RECORDED

TOKENS, LENGTHS = lp.sequences(2, 6)
STATED = decoder.Stated(products="bf16_bf16_fp32:fused4x8", backend="reference")
WHOLE = lp.Way(batch=2)


@pytest.fixture(scope="module")
def whole() -> Iterator[np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "BLOCKS", 1)
        yield lp.read(STATED, TOKENS, LENGTHS, WHOLE)


def changed(whole: np.ndarray, way: lp.Way, using: decoder.Stated = STATED, **how: Any) -> int:
    """Return how many log-probabilities another way of reading changes."""
    found = lp.read(using, TOKENS, LENGTHS, way, **how)
    return int(np.sum(found.view(np.uint32) != whole.view(np.uint32)))


@pytest.mark.long
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    st.builds(
        lp.Way,
        batch=st.sampled_from((1, 2, 3)),
        padding=st.sampled_from(("left", "right")),
        chunk=st.sampled_from((0, 1, 4)),
    )
)
def test_one_hash_over_batches_paddings_and_chunks(whole: np.ndarray, way: lp.Way) -> None:
    found = lp.read(STATED, TOKENS, LENGTHS, way)
    assert lp.digest(found) == lp.digest(whole)


@pytest.mark.long
def test_probabilities_sum_to_one(whole: np.ndarray) -> None:
    is_token = np.arange(whole.shape[1]) < LENGTHS[:, None]
    assert np.allclose(np.exp(whole).sum(axis=-1)[is_token], 1, atol=1e-5)


@pytest.mark.long
def test_keys_by_column_change_bits_under_left_padding(whole: np.ndarray) -> None:
    way = lp.Way(batch=2, padding="left", is_aligned=False)
    assert changed(whole, way) > 0
    assert changed(whole, replace(way, padding="right")) == 0


@pytest.mark.long
def test_a_kernel_for_few_rows_changes_bits(whole: np.ndarray) -> None:
    few = replace(STATED, few_rows="bf16_bf16_fp32:pairwise")
    assert changed(whole, lp.Way(batch=2, chunk=1), few) > 0


@pytest.mark.long
@pytest.mark.parametrize(("masked", "is_exact"), [(-1e9, True), (-8.0, False)])
def test_a_mask_has_to_give_an_exact_zero(
    whole: np.ndarray, masked: float, *, is_exact: bool
) -> None:
    assert (changed(whole, WHOLE, masked=masked) == 0) == is_exact


@pytest.mark.parametrize(
    ("schedule", "is_same"), [("flat", True), ("promote16", True), ("splitk2x16", False)]
)
def test_zeros_behind_the_last_key(schedule: str, *, is_same: bool) -> None:
    """Blocks of a stated length stay where they are; a stated number of parts does not."""
    rng = np.random.default_rng(0)
    a, b = rng.random((8, 48), np.float32), rng.random((48, 8), np.float32)
    longer = np.pad(a, ((0, 0), (0, 48))), np.pad(b, ((0, 48), (0, 0)))
    spec = f"h100:bf16:{schedule}"
    one, other = (ps.matmul(*pair, spec, backend="reference") for pair in ((a, b), longer))
    assert np.array_equal(one, other) == is_same


def test_differences_of_two_tokens_by_hand() -> None:
    theirs = np.log(np.array([[[0.5, 0.5], [0.75, 0.25]]], np.float32))
    ours = np.log(np.array([[[0.25, 0.75], [0.75, 0.25]]], np.float32))
    found = lp.differences(ours, theirs, np.array([[0, 0, 1]]), np.array([2]))
    assert found["token ratio"] == pytest.approx(0.5)
    assert found["sequence ratio"] == pytest.approx(0.5)
    assert (found["clipped tokens"], found["clipped sequences"], found["argmax"]) == (0.5, 1, 0.5)
    assert found["largest"] == pytest.approx(np.log(2), rel=1e-6)
    assert found["mean"] == pytest.approx(np.log(2) / 2, rel=1e-6)
    divergence = (0.25 * np.log(0.5) + 0.75 * np.log(1.5)) / 2
    assert found["divergence"] == pytest.approx(divergence, rel=1e-6)


@pytest.mark.parametrize("sizes", [(0, 10), (65, 10), (3, 1), (3, 49)])
def test_sequences_refuse_sizes(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="allowed are 1 to 64 of length 2 to 48"):
        lp.sequences(*sizes)


def results(*, made: float, sha: int, **measured: float) -> dict[str, np.ndarray]:
    """Return results of the experiment as if these numbers had differed."""
    size = len(g28_log_probabilities.MEASURES)
    keys = {kind: f"fp16, {kind.replace('_', ' ')}, a way" for kind in measured}
    found = {keys[kind]: np.full(size, value) for kind, value in measured.items()}
    found["fp16, operations"] = np.array(["qkv 0", "silu 0"])
    found["fp16, made by operation"] = np.array([1, made])
    found["fp16, SHA-256"] = np.asarray(float(int(RECORDED["fp16"], 16) + sha))
    return found


def test_each_class_of_check_can_fail() -> None:
    right = results(made=0, sha=0, stated=0, by_column=3, by_shape=3, platform=0.1)
    assert all(check.matched for check in g28_log_probabilities.check(right))
    wrong = results(made=1, sha=1, stated=1, by_column=0, by_shape=0, platform=1)
    checks = g28_log_probabilities.check(wrong)
    assert not any(check.matched for check in checks)
    assert {check.grade for check in checks} == {"A", "B", "C"}
