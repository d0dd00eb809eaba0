"""All-reduces against sums of exact fractions, one rounding a hop, written out by hand."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precsim as ps

SPECS = ("fp32", "bf16", "fp16:rtz", "e5m2:saturate")
ALGORITHMS = ("doubling", "halving", "ring", "tree", "sequential")

Plus = Callable[[float, float], float]


def rounded(x: Fraction | float, spec: str) -> float:
    return float(ps.oracle.round_exact(x, spec).value)


def plus(spec: str) -> Plus:
    """One addition: the exact sum, rounded once; what is not finite adds as Python's floats do."""

    def add(x: float, y: float) -> float:
        is_finite = np.isfinite(x) and np.isfinite(y)
        is_zero = is_finite and Fraction(x) + Fraction(y) == 0
        return rounded(Fraction(x) + Fraction(y) if is_finite and not is_zero else x + y, spec)

    return add


# NCCL's picture of its tree for 14 ranks (trees.cc): rank -> children, lower one first.
TREE_OF_14 = {0: [8], 8: [4, 12], 4: [2, 6], 12: [10, 13], 2: [1, 3], 6: [5, 7]}
TREE_OF_14[10] = [9, 11]


def by_hand(parts: list[float], chunk: int, algorithm: str, add: Plus) -> float:
    """One element of a chunk, as each algorithm is told in a textbook."""
    count = len(parts)
    if algorithm in ("ring", "sequential"):
        first = chunk if algorithm == "ring" else 0
        total = parts[first]
        for k in range(1, count):
            total = add(total, parts[(first + k) % count])
        return total
    if algorithm == "halving":  # each rank adds what its partner at the distance has
        distance = count // 2
        while distance:
            parts = [add(parts[r], parts[r ^ distance]) for r in range(count)]
            distance //= 2
        return parts[0]
    if algorithm == "doubling":
        while len(parts) > 1:
            pairs = [parts[k : k + 2] for k in range(0, len(parts), 2)]
            parts = [add(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
        return parts[0]
    raise AssertionError(algorithm)


values = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a != "tree"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_each_element_is_the_sum_in_the_order_of_its_chunk(
    algorithm: str, spec: str, data: st.DataObject
) -> None:
    count = data.draw(st.sampled_from([1, 2, 4, 8] if algorithm == "halving" else [1, 2, 3, 5, 8]))
    size = data.draw(st.integers(1, 11))
    row = st.lists(values, min_size=size, max_size=size)
    parts = np.array(data.draw(st.lists(row, min_size=count, max_size=count)), np.float32)
    found = ps.all_reduce(parts, f"{algorithm}:{spec}")
    length, add = -(-size // count), plus(spec)
    for n in range(size):
        own = [rounded(float(x), spec) for x in parts[:, n]]
        expected = np.float32(by_hand(own, n // length, algorithm, add))
        np.testing.assert_array_equal(found[n], expected)
        assert np.signbit(found[n]) == np.signbit(expected) or np.isnan(expected)


def test_the_tree_is_that_of_the_picture_in_its_source() -> None:
    """Powers of two that only one order of sums keeps apart: each rank's sum has its own bits."""
    rng = np.random.default_rng(3)
    parts = rng.integers(-999, 1000, (14, 200)).astype(np.float32)
    add = plus("bf16")

    def total(rank: int, column: np.ndarray) -> float:
        value = float(column[rank])
        for child in TREE_OF_14.get(rank, []):
            value = add(value, total(child, column))
        return value

    start = np.asarray(ps.round_to(parts, "bf16"))
    expected = [total(0, start[:, n]) for n in range(200)]
    assert ps.all_reduce(parts, "tree:bf16").tolist() == expected
    others = [ps.all_reduce(parts, f"{a}:bf16").tolist() for a in ("ring", "doubling")]
    assert all(other != expected for other in others)


@pytest.mark.long
def test_jax_and_numpy_have_the_same_bits_under_jit_and_several_shapes() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    for how in ("ring:bf16", "halving:fp16", "tree", "doubling:e4m3"):
        jitted = jax.jit(lambda x, how=how: ps.all_reduce(x, how))
        np.testing.assert_array_equal(jitted(jnp.asarray(x)), ps.all_reduce(x, how))
    assert ps.all_reduce(x[:, :0], "ring").shape == (0, 5)
    assert ps.all_reduce(x[:, 0, 0], "ring").shape == ()


@pytest.mark.long
def test_feedback_keeps_what_rounding_has_lost() -> None:
    """The sums along time stay within one rounding of the exact ones; without, they drift."""
    parts = np.full((4, 3), 1 + 2.0**-10, np.float32)
    lost: Any = np.zeros_like(parts)
    total, without = np.zeros(3), np.zeros(3)
    for _ in range(64):
        step, lost = ps.feedback_all_reduce(parts, lost, "ring:bf16")
        total += step
        without += ps.all_reduce(parts, "ring:bf16")
    exact = 64 * 4 * (1 + 2.0**-10)
    assert np.all(abs(total - exact) <= 4 * 2.0**-7)
    assert np.all(abs(without - exact) == 64 * 4 * 2.0**-10)
    assert float(np.abs(lost).max()) <= 2.0**-8


def test_an_overflow_leaves_no_residual() -> None:
    """Defect: one overflow made every later sum infinite, then NaN."""
    for how, large in (("ring:fp16", 70000.0), ("tree:e4m3", 600.0), ("doubling:bf16", np.nan)):
        lost: Any = np.zeros((2, 1), np.float32)
        sums = []
        for part in (large, 1.0, 1.0):
            total, lost = ps.feedback_all_reduce(np.float32([[part], [0]]), lost, how)  # type: ignore[arg-type]
            sums.append(float(total[0]))
        assert not np.isfinite(sums[0])
        assert sums[1:] == [1.0, 1.0]


def test_the_platform_adds_in_float32_whatever_the_carrier() -> None:
    """Defect: float64 parts gave a sum that was no float32."""
    total = ps.all_reduce(np.array([[1 / 3], [1 / 7]]), "platform").item()
    assert total == float(np.float32(total))


@pytest.mark.long
def test_many_ranks_take_no_compilation() -> None:
    """Defect: 256 ranks of one NumPy element took 39 s; a loop has one addition to compile."""
    parts = np.ones((1000, 2), np.float32)
    for how in ("ring:bf16", "sequential:fp16", "doubling:bf16", "tree:fp16"):
        assert ps.all_reduce(parts, how).shape == (2,)
    jitted = jax.jit(lambda x: ps.all_reduce(x, "ring:bf16"))
    np.testing.assert_array_equal(jitted(parts), ps.all_reduce(parts, "ring:bf16"))


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "algorithm": (
        lambda: ps.all_reduce([[1.0]], "rings"),
        ValueError,
        "how is 'rings'; allowed are .*did you mean 'ring'",
    ),
    "format": (
        lambda: ps.all_reduce([[1.0]], "ring:bf17"),
        ValueError,
        "how is .ring:bf17.: unknown format",
    ),
    "stochastic": (lambda: ps.all_reduce([[1.0]], "ring:bf16:sr"), ValueError, "allowed are modes"),
    "scaled": (lambda: ps.all_reduce([[1.0]], "ring:mxfp4"), ValueError, "mxfp4"),
    "no rank": (lambda: ps.all_reduce(np.ones((0, 2)), "ring"), ValueError, "shape .0, 2."),
    "a number": (lambda: ps.all_reduce(1.0, "ring"), ValueError, "allowed are .R, "),
    "three halves": (
        lambda: ps.all_reduce(np.ones((3, 2)), "halving"),
        ValueError,
        "3 ranks; allowed are powers of two",
    ),
    "feedback": (
        lambda: ps.all_reduce([[1.0]], "ring:bf16:feedback"),
        ValueError,
        "feedback needs",
    ),
    "shapes": (
        lambda: ps.feedback_all_reduce([[1.0]], [[1.0], [2.0]], "ring"),
        ValueError,
        "residuals have shape",
    ),
    "how": (lambda: ps.all_reduce([[1.0]], cast("Any", 3)), TypeError, "how is 3"),
    "integers": (
        lambda: ps.all_reduce(np.ones((2, 2), int), "ring"),
        TypeError,
        "parts has .*int64",
    ),
    "residuals": (
        lambda: ps.feedback_all_reduce(np.ones((1, 2), np.float32), [[1.0, 1.0]], "ring"),
        ValueError,
        "residuals have dtype float64; allowed is that of parts, float32",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_line(case: str) -> None:
    run, kind, said = REFUSED[case]
    with pytest.raises(kind, match=said) as error:
        run()
    assert "\n" not in str(error.value)
