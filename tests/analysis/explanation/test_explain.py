"""Planted arithmetics are named; what none of them made is said to be unexplained."""

import json
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.explanation.functions import is_product
from precsim.analysis.explanation.products import tiers

K = 32


def operands(*outer: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(17)
    a = rng.normal(size=(*outer, 5, K)).astype(np.float32)
    return a, rng.normal(size=(*outer, K, 7)).astype(np.float32)


A, B = operands()
WANT = ps.matmul(A, B, "fp32_fp32_fp32", backend="reference")

PLANTED = {
    "TF32": "tf32_tf32_fp32",
    "cut-off TF32": "tf32[rtz]_tf32[rtz]_fp32",
    "bf16 operands": "bf16_bf16_fp32",
    "bf16 output": "bf16_bf16_fp32->bf16",
    "fp16 accumulator": "fp16_fp16_fp16",
    "pairwise": "fp32_fp32_fp32:pairwise",
    "blocks": "fp32_fp32_fp32:blocked16",
    "no FMA": "fp32_fp32_fp32:product=fp32",
    "exact": "fp32_fp32_fp32:exact",
    "H100": "h100:bf16",
    "A100": "a100:tf32",
    "V100": "v100:fp16",
    "V100, fp16 accumulator": "v100:fp16:acc=fp16",
    "split on an H100": "h100:bf16:splitk2x16",
    "fp8 on an H100": "h100:e4m3",
    "MI100": "mi100:fp16",
    "MI250": "mi250:bf16",
    "MI300X": "mi300x:xf32",
}


@pytest.mark.long
@pytest.mark.parametrize("spec", PLANTED.values(), ids=PLANTED)
def test_planted_product_is_named(spec: str) -> None:
    got = ps.matmul(A, B, spec, backend="reference")
    found = ps.explain(got, WANT, fun=np.matmul, args=(A, B))
    assert found.by[0] == spec
    assert f"it has the bits of '{spec}'" in found.sentence


def test_hardware_has_its_own_name() -> None:
    """Defect: "matrix units (avx512)", which adds two products in an instruction."""
    meanings = {p.name: p.meaning for tier in tiers(K, "fp32", ()) for p in tier}
    assert meanings["avx512:bf16"].startswith("dot-product instructions (avx512), bf16 operands")
    assert meanings["mi300x:bf16"].startswith("matrix units (mi300x), bf16 operands")
    assert meanings["h100:bf16"].startswith("tensor cores (h100")


def test_planted_reversed_order_is_named() -> None:
    got = ps.matmul(A[:, ::-1], B[::-1], "fp32_fp32_fp32", backend="reference")
    found = ps.explain(got, WANT, fun=jnp.matmul, args=(A, B))
    assert found.by == ("fp32_fp32_fp32 reversed",)
    assert found.share_of_bound is not None
    assert 0 < found.share_of_bound < 1


PRODUCTS: dict[str, Callable[..., Any]] = {
    "lambda": lambda a, b: a @ b,
    "einsum": lambda a, b: jnp.einsum("ik,kj->ij", a, b),
    "compiled": jax.jit(jnp.dot),
}


@pytest.mark.parametrize("fun", PRODUCTS.values(), ids=PRODUCTS)
def test_products_are_known_by_what_they_do(fun: Callable[..., Any]) -> None:
    got = ps.matmul(A, B, "h100:bf16", backend="reference")
    found = ps.explain(got, WANT, fun=fun, args=(A, B), candidates=["bf16_bf16_fp32", "h100:bf16"])
    assert found.by == ("h100:bf16",)
    assert found.share_of_bound is not None


def test_other_functions_are_no_products() -> None:
    square = A[:, :5]
    for fun in (lambda a, b: b @ a, lambda a, b: a.T @ b, lambda a, b: a @ b + 1):
        assert not is_product(fun, (square, square))
    assert not is_product(lambda a: a, (square,))


@pytest.mark.long
def test_planted_lanes_are_named() -> None:
    """Eight accumulators of a vector register, added up in order."""
    lanes = [
        ps.matmul(A[:, n::8], B[n::8], "fp32_fp32_fp32", backend="reference") for n in range(8)
    ]
    got = np.zeros_like(WANT)
    for part in lanes:
        got += part
    found = ps.explain(got, WANT, fun=operator.matmul, args=(A, B))
    assert found.by == ("fp32_fp32_fp32:blocked4 in 8 lanes",)


def test_what_the_data_do_not_tell_apart_is_listed() -> None:
    """Operands of 11 bits in the range of fp16 are the same in TF32."""
    got = ps.matmul(A, B, "fp16_fp16_fp32", backend="reference")
    found = ps.explain(got, WANT, fun=np.dot, args=(A, B))
    assert set(found.by) >= {"tf32_tf32_fp32", "fp16_fp16_fp32"}
    assert "not distinguished here from 'fp16_fp16_fp32'" in found.sentence
    assert found.untried


@pytest.mark.long
def test_unexplained_says_so_and_gives_the_nearest() -> None:
    noise = np.random.default_rng(0).normal(size=WANT.shape) * 2.0**-22
    got = ps.matmul(A, B, "bf16_bf16_fp32", backend="reference") * np.float32(1 + noise)
    found = ps.explain(got, WANT, fun=np.matmul, args=(A, B))
    assert found.by == ()
    assert found.nearest is not None
    assert "bf16" in found.nearest.name
    assert "none of" in found.sentence
    assert f"nearest is '{found.nearest.name}'" in found.sentence


def test_beyond_the_bound_of_every_order() -> None:
    orders = [
        ps.matmul(A, B, f"fp32_fp32_fp32:{order}", backend="reference")
        for order in ("sequential", "pairwise")
    ]
    exact = A.astype(np.float64) @ B
    for got in orders:
        share = ps.explain(got, exact, fun=np.matmul, args=(A, B)).share_of_bound
        assert share is not None
        assert share < 1
    narrow = ps.matmul(A, B, "bf16_bf16_fp32", backend="reference")
    share = ps.explain(narrow, exact, fun=np.matmul, args=(A, B)).share_of_bound
    assert share is not None
    assert share > 1


def test_output_in_bf16_counts_in_the_bound() -> None:
    got = ps.matmul(A, B, "fp32_fp32_fp32->bf16", backend="reference")
    found = ps.explain(got.astype(ml_dtypes.bfloat16), WANT, fun=np.matmul, args=(A, B))
    assert found.share_of_bound is not None
    assert found.share_of_bound < 1
    assert found.format == "bf16"
    assert found.by == ("want->bf16",)


@pytest.mark.long
def test_batches_and_large_products_are_checked_whole() -> None:
    a, b = operands(3)
    a, b = np.tile(a, (1, 5, 1)), np.tile(b, (1, 1, 4))
    got = np.array(ps.matmul(a, b, "h100:bf16", backend="reference"))
    assert ps.explain(got, a @ b, fun=np.matmul, args=(a, b)).by == ("h100:bf16",)
    got[1, 3, 3] += 1  # in no sample
    found = ps.explain(got, a @ b, fun=np.matmul, args=(a, b), candidates=["h100:bf16"])
    assert found.by == ()
    assert found.nearest is not None
    assert 0.99 < found.nearest.equal < 1


def test_vectors_and_float64_products() -> None:
    x, y = A.astype(np.float64), B[:, 0].astype(np.float64)
    got = ps.matmul(x / 3, y, "fp64_fp64_fp64:pairwise", backend="reference")
    found = ps.explain(got, np.nextafter(got, np.inf), fun=np.dot, args=(x / 3, y))
    assert "fp64_fp64_fp64:pairwise" in found.by


def test_equal_results_need_no_explanation() -> None:
    found = ps.explain(WANT, WANT, fun=np.matmul, args=(A, B))
    assert found.different == 0
    assert found.sentence.startswith("got has the bits of want in all 35 elements")


def network(w: dict[str, jax.Array], x: Any) -> Any:
    return {"y": jnp.maximum(x @ w["first"], 0)}


WEIGHTS = {"first": jnp.asarray(B)}
TF32 = "fwd=tf32_tf32_fp32,dgrad=tf32_tf32_fp32,wgrad=tf32_tf32_fp32"


@pytest.mark.long
def test_policy_of_a_function_is_named() -> None:
    got = jax.jit(ps.emulate(network, TF32))(WEIGHTS, A)
    found = ps.explain(got, network(WEIGHTS, A), fun=network, args=(WEIGHTS, A))
    assert found.by[0] == TF32
    assert found.share_of_bound is None
    assert "operands of products in tf32" in found.sentence


@pytest.mark.long
def test_policies_of_ones_own() -> None:
    def variance(x: Any) -> jax.Array:
        return jnp.mean(x * x) - jnp.mean(x) ** 2

    x = np.arange(8, dtype=np.float32) + 100
    got = jax.jit(ps.emulate(variance, "bf16"))(x)
    names = ["fp16", "bf16"]
    found = ps.explain(got, variance(x), fun=variance, args=(x,), candidates=names)
    assert found.by == ("bf16",)


def test_own_candidates() -> None:
    x = np.linspace(0, 1, 9, dtype=np.float32)
    own = {"twice": lambda x: x + x, "half": lambda x: x / 2}
    found = ps.explain(x / 2, x, fun=np.sqrt, args=(x,), candidates=own)
    assert found.by == ("half",)
    specs = ["bf16_bf16_fp32", "tf32_tf32_fp32"]
    got = ps.matmul(A, B, "tf32_tf32_fp32", backend="reference")
    assert ps.explain(got, WANT, fun=np.matmul, args=(A, B), candidates=specs).by == (specs[1],)
    assert (
        ps.explain(got, WANT, fun=np.matmul, args=(A, B), candidates={"numpy": np.matmul}).by == ()
    )


def test_without_a_function_the_output_format_is_named() -> None:
    x = np.linspace(1, 2, 50, dtype=np.float32)
    found = ps.explain(np.asarray(ps.round_to(x, "e4m3")), x)
    assert found.by == ("want->e4m3",)
    assert ps.explain(x, x + 1).attempts == ()


def test_special_values() -> None:
    x = np.array([np.nan, np.inf, -0.0, 1.0], np.float32)
    assert ps.explain(x, x.copy()).different == 0
    found = ps.explain(x, np.array([np.nan, 1.0, 0.0, 1.0], np.float32))
    assert (found.different, found.ulps) == (2, np.inf)
    assert json.loads(found.to_json())["ulps"] is None


class Tensor:
    """Hands over memory by DLPack alone, as the tensors of other libraries do."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __dlpack__(self, **options: Any) -> Any:
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


def test_tensors_of_other_libraries() -> None:
    got = ps.matmul(A, B, "bf16_bf16_fp32", backend="reference")
    found = ps.explain(Tensor(got), Tensor(WANT), fun=np.matmul, args=(A, B))
    assert found.by[0] == "bf16_bf16_fp32"


def test_table_and_html() -> None:
    got = ps.matmul(A, B, "tf32_tf32_fp32", backend="reference")
    found = ps.explain(got, WANT, fun=np.matmul, args=(A, B))
    first, empty, header, row, *_ = str(found).splitlines()
    assert (first, empty) == (found.sentence, "")
    assert header.split()[:3] == ["arithmetic", "%", "equal"]
    assert row.startswith("tf32_tf32_fp32")
    assert "<table>" in found._repr_html_()
    assert json.loads(found.to_json())["attempts"][0]["name"] == "tf32_tf32_fp32"


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "shapes": (
        lambda: ps.explain(A, B),
        r"got has shape \(5, 32\), want \(32, 7\); allowed is one",
    ),
    "not a product's": (lambda: ps.explain(A, A, fun=np.matmul, args=(A, B)), "got has shape"),
    "no function": (lambda: ps.explain(A, A, fun=3), "fun is 3"),  # type: ignore[arg-type]
    "args": (lambda: ps.explain(A, A, fun=np.sqrt, args=A), "args is .*; allowed is a tuple"),  # type: ignore[arg-type]
    "complex": (lambda: ps.explain(A + 1j, A), "got has dtype complex"),
    "names without a function": (lambda: ps.explain(A, A, candidates=["bf16"]), "fun is not given"),
    "unknown spec": (
        lambda: ps.explain(WANT, WANT + 1, fun=np.matmul, args=(A, B), candidates=["nonsense"]),
        "nonsense",
    ),
    "no matrices": (lambda: ps.explain(A, A, fun=np.matmul, args=(A, A)), "args have shapes"),
    "untraceable": (
        lambda: ps.explain(A, A + 1, fun=lambda x: float(x.sum()) and x, args=(A,)),
        "allowed are products and functions that JAX can trace",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_one_line(case: str) -> None:
    run, message = BAD[case]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        run()
    assert len(str(caught.value).splitlines()) == 1
