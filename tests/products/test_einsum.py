"""A drop-in for `jnp.einsum`: its results, and operands on the sides that the text says."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from tests.products.conftest import assert_same_bits, integers, normal, reference

EXACT = "fp32_fp32_fp32"
"""On small integers, where every order of a sum has the same bits."""

CASES = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij, jk": ((2, 3), (3, 4)),
    "...ij,...jk->...ik": ((5, 2, 3), (3, 4)),
    "bqhd,bkhd->bhqk": ((2, 3, 2, 4), (2, 5, 2, 4)),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 5)),
    "iij,jk->ik": ((3, 3, 2), (2, 4)),
    "ij,kj->i": ((2, 3), (4, 3)),
    "ij,ik->ijk": ((2, 3), (1, 4)),
    "...i,...i->...": ((2, 1, 3), (5, 3)),
    "a,b->ba": ((2,), (3,)),
    "bij,bjk->ik": ((2, 3, 4), (2, 4, 5)),
    "i,i": ((4,), (4,)),
    "ij->ji": ((2, 3),),
    "ii": ((3, 3),),
    "i...->...": ((3, 2),),
}


def assert_einsum_is_that_of_jax(names: list[str]) -> None:
    f = ps.einsum(EXACT)
    arrays = {text: integers(*CASES[text]) for text in names}
    both = jax.jit(lambda arrays: {t: (f(t, *x), jnp.einsum(t, *x)) for t, x in arrays.items()})
    for text, (got, expected) in both(arrays).items():
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected), text)


@pytest.mark.long
def test_results_are_those_of_jax() -> None:
    assert_einsum_is_that_of_jax(["...ij,...jk->...ik", "iij,jk->ik", "ij,kj->i", "ii"])


@pytest.mark.slow
def test_more_results_are_those_of_jax() -> None:
    assert_einsum_is_that_of_jax(list(CASES))


@pytest.mark.parametrize("output", ["ik", "ki"])
def test_the_first_operand_is_on_the_left_with_its_format_and_its_gradient(output: str) -> None:
    rng = np.random.default_rng(1)
    a, b, g = (normal(rng, None, s) for s in ((2, 3), (3, 2), (2, 2)))
    specs = "e4m3_fp16_fp32", "e5m2_e4m3_fp16", "fp16_e5m2_fp32"
    f = ps.einsum(specs[0], dgrad=specs[1], wgrad=specs[2])

    def run(a: Any, b: Any, g: Any) -> Any:
        y, pull = jax.vjp(lambda a, b: f(f"ij,jk->{output}", a, b), a, b)
        return y, *pull(g)

    y, da, db = jax.jit(run)(a, b, g if output == "ik" else g.T)
    assert_same_bits(y if output == "ik" else y.T, reference(a, b, specs[0]))
    assert_same_bits(da, reference(g, b.T, specs[1]))
    assert_same_bits(db, reference(a.T, g, specs[2]))


@pytest.mark.long
def test_dtypes_and_keywords_are_those_of_jax() -> None:
    x, y = (v.astype(jnp.bfloat16) for v in integers((2, 3), (3, 2)))
    f = ps.einsum("bf16_bf16_fp32")
    assert f("ij,jk", x, y, precision="highest", optimize=True).dtype == jnp.bfloat16
    assert f("ij,jk", x, y, preferred_element_type=jnp.float32).dtype == jnp.float32


def test_functions_of_equal_specs_are_one_static_argument_of_jit() -> None:
    traced = []

    def run(a: Any, b: Any, f: Any) -> Any:
        traced.append(f)
        return f("ij,jk->ik", a, b)

    jitted = jax.jit(run, static_argnames="f")
    a, b = integers((2, 3), (3, 2))
    results = [jitted(a, b, f=ps.einsum(EXACT)) for _ in range(2)]
    assert len(traced) == 1
    assert_same_bits(*results)


ERRORS: list[tuple[Any, tuple[Any, ...], str]] = [
    (
        "ij,jk",
        (np.ones((2, 2)) * 1j, np.ones((2, 2), np.float32)),
        "operand 0 has dtype complex128",
    ),
    (
        "ij,jk",
        (np.ones((2, 2), np.float32), np.ones((2, 2), np.int32)),
        "operand 1 has dtype int32",
    ),
    ("i", (np.ones(2),), "operand 0 has dtype float64, which JAX has with jax_enable_x64 only"),
    ("ij,jk", (np.ones((2, 2), np.float32),), "subscripts are 'ij,jk'; allowed are as many"),
    (
        "ij",
        (np.ones(2, np.float32),),
        "subscripts are 'ij'; allowed is one letter for each dimension",
    ),
    (np.ones(2), ([0],), "subscripts are .*; allowed is text such as 'ij,jk->ik'"),
]


@pytest.mark.parametrize(("subscripts", "arrays", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_errors(subscripts: Any, arrays: tuple[Any, ...], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ps.einsum(EXACT)(subscripts, *arrays)
