"""Which examples each step takes."""

import pytest

import precsim as ps


def test_a_batch_of_a_billion_examples_allocates_nothing() -> None:
    policy = ps.Policy.parse("fp32")
    large = ps.TrainConfig(policy=policy, model="logistic", steps=1, batch_size=10**9)
    with pytest.raises(ValueError, match=r"^batch_size is 1000000000, with 1 steps; allowed are"):
        ps.train(large)
