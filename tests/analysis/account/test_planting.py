"""Bad operations that are planted blindly come first in the table, and the others stay put."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.analysis.account.gardens import Garden, gardens
from tests.analysis.account.planting import blind

BAD = 2.0
"""Error of the results, in what all good operations lose, from which an operation is bad."""


def _small(x, y):
    return jnp.exp(x) / (x * y + 3.0)


def test_a_bad_operation_comes_first():
    draw = lambda rng: tuple(rng.random(32, np.float32) for _ in range(2))
    outcomes = list(blind(Garden(_small, draw), seed=0, count=12, least=BAD))
    found = [o for o in outcomes if o.growth >= BAD]
    assert len(found) == 12
    assert {o.operation.partition(" ")[0] for o in found} == {"exp", "mul", "add", "div"}
    assert [o for o in found if o.rank != 1] == []
    assert max(o.moved for o in found) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5), ids=list(gardens()))
def test_twenty_bad_operations_come_first(seed):
    garden = list(gardens().values())[seed]
    found = [o for o in blind(garden, seed, 20, least=BAD) if o.growth >= BAD]
    print(*found, sep="\n")
    assert len(found) == 20
    assert sum(o.rank == 1 for o in found) == 20
    assert np.median([o.moved for o in found]) < 0.05
