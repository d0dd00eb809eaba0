"""The operation that makes a difference is named, and what only carries it along is not.

NumPy only, one block of the model, a kernel for few rows that differs in each product.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from experiments import decoder
from experiments import log_probabilities as lp
from experiments import operation_differences as od
from experiments.g28_log_probabilities import PRODUCTS

GIVEN = lp.sequences(2, 6)
STATED = decoder.Stated(products="bf16_bf16_fp32->bf16", backend="reference")
FEW = decoder.Stated(
    products="bf16_bf16_fp32->bf16", few_rows="bf16_bf16_bf16", backend="reference"
)
SINGLE = lp.Way(batch=1, chunk=4)


@pytest.fixture(scope="module")
def whole() -> Iterator[od.Kept]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "BLOCKS", 1)
        yield od.results_of(STATED, *GIVEN, lp.Way(batch=8))


@pytest.mark.long
def test_the_last_result_is_the_reading(whole: od.Kept) -> None:
    labels = list(whole)
    assert (labels[0], labels[-1]) == ("embedding 0", "log_softmax 0")
    found = lp.read(STATED, *GIVEN, lp.Way(batch=2))
    np.testing.assert_array_equal(whole[labels[-1]], found)


@pytest.mark.long
@pytest.mark.parametrize("padding", ["left", "right"])
def test_equal_orders_differ_in_no_operation(whole: od.Kept, padding: str) -> None:
    way = lp.Way(batch=3, padding=padding, chunk=4)
    assert not od.differing(od.results_of(STATED, *GIVEN, way), whole).any()


@pytest.mark.long
def test_differences_are_made_in_products_and_carried_by_the_rest(whole: od.Kept) -> None:
    carried = od.differing(od.results_of(FEW, *GIVEN, SINGLE), whole)
    made = od.differing(od.results_of(FEW, *GIVEN, SINGLE, instead=whole), whole)
    is_product = np.array([label.split()[0] in PRODUCTS for label in whole])
    assert made[is_product].all()
    assert not made[~is_product].any()
    assert carried[~is_product].any()


def test_keys_by_column_are_refused() -> None:
    way = lp.Way(batch=2, padding="left", is_aligned=False)
    with pytest.raises(ValueError, match="allowed are keys by position"):
        od.results_of(STATED, *GIVEN, way)
