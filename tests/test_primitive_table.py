"""The page about emulation has every rule, and the kinds that it gives are those that happen."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import precsim as ps
from tests.primitive_table import PAGE, table, with_table

X = np.ones((2, 2), np.float32)
EXAMPLES: dict[str, Callable[[Any], Any]] = {
    "add": lambda x: x + x,
    "sort": jnp.sort,
    "neg": lambda x: -x,
    "lt": lambda x: x < 1,
    "convert_element_type": lambda x: x.astype(jnp.float16),
    "exp": jnp.exp,
    "atan2": lambda x: lax.atan2(x, x),
    "dot_general": lambda x: x @ x,
    "reduce_sum": jnp.sum,
    "cumsum": lambda x: lax.cumsum(x, 0),
    "scatter-add": lambda x: x.at[0].add(x[1]),
    "ragged_dot_general": lambda x: lax.ragged_dot(x, x[None], jnp.array([2])),
}


def test_page_has_the_table_of_today() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_table(page), "python -m tests.primitive_table writes it"


@pytest.mark.parametrize("primitive", EXAMPLES)
def test_kind_is_the_one_that_happens(primitive: str) -> None:
    (line,) = [
        row for row in table().splitlines() if f"`{primitive}`" in row and "Compl" not in row
    ]
    kinds = line.split("|")[1].strip().split(", or ")
    found = ps.coverage(EXAMPLES[primitive], "bf16", X).rows
    assert {row.how for row in found if row.primitive == primitive} <= set(kinds)
    assert primitive in {row.primitive for row in found}


def test_jitted_functions_are_looked_into() -> None:
    rows = ps.coverage(jax.jit(lambda x: x * x), "bf16", X).rows
    assert [(row.primitive, row.how) for row in rows] == [("mul", "rounded once")]
