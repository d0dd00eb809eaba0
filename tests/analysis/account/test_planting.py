"""Bad operations that are planted blindly come first in the table, and the others stay put."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.analysis.account.gardens import Garden, gardens
from tests.analysis.account.planting import blind

BAD = 2.0
"""Growth of the error from which an operation counts as bad."""


def _small(x, y):
    return jnp.exp(x) / (x * y + 3.0)


def test_a_bad_operation_comes_first():
    draw = lambda rng: tuple(rng.random(32, np.float32) for _ in range(2))
    outcomes = list(blind("small", Garden(_small, draw), seed=0, count=12, least=BAD))
    found = [o for o in outcomes if o.growth >= BAD]
    assert len(found) == 12
    assert {o.operation.partition(" ")[0] for o in found} == {"exp", "mul", "add", "div"}
    assert [o for o in found if o.rank != 1] == []
    assert max(o.moved for o in found) < 0.1


@pytest.mark.slow
def test_a_hundred_blind_plantings():
    found = []
    for seed, (model, garden) in enumerate(gardens().items()):
        found += [o for o in blind(model, garden, seed, 20) if o.growth >= BAD]
    print(*found, sep="\n")
    assert len(found) == 100
    assert len({o.kind for o in found}) == 4
    assert sum(o.rank == 1 for o in found) >= 99
    assert np.median([o.moved for o in found]) < 0.05
