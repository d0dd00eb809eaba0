"""Bad operations that are planted blindly come first in the table, and the others stay put."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.analysis.account.planting import Garden, Outcome, blind

BAD = 4.0
"""Error of the results, in what all good operations lose, from which an operation is bad.

A planting gives later operations other roundings. Those of a long sum in bfloat16, which is one
number, can make more of the error than an operation that is only twice or three times as bad.
"""


def _small(x: Any, y: Any) -> Any:
    return jnp.exp(x) / (x * y + 3.0)


@pytest.mark.long
def test_a_bad_operation_comes_first() -> None:
    draw = lambda rng: (rng.random(32, np.float32), rng.random(32, np.float32))
    outcomes = list(blind(Garden(_small, draw), seed=0, count=12, least=BAD))
    found = [o for o in outcomes if o.growth >= BAD]
    assert len(found) == 12
    assert {o.operation.partition(" ")[0] for o in found} == {"exp", "mul", "add", "div"}
    assert [o for o in found if o.rank != 1] == []
    assert np.median([o.moved for o in found]) < 0.05


@pytest.mark.slow
def test_a_hundred_bad_operations() -> None:
    for package in ("flax", "equinox", "haiku"):
        pytest.importorskip(package)
    from tests.analysis.account.gardens import GARDENS

    found: list[Outcome] = []
    for make in GARDENS.values():
        found += [o for o in blind(make(), 0, 20, least=BAD) if o.growth >= BAD]
    assert len(found) == 100
    assert len({o.kind for o in found}) == 4
    assert sum(o.rank == 1 for o in found) >= 99
    assert np.median([o.moved for o in found]) < 0.05
