"""What is measured of operations, against the same in plain Python; several results of one."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.analysis.account.measures import FIELDS, Item, measured

_SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 2.0**-26, 65504.0, 65536.0, 1e300)
_EVENTS = ("subnormal", "underflowed", "overflowed", "saturated", "nan", "not_finite")
_FORMATS: Any = [ps.get_format(name) for name in ("fp16", "bf16", "e5m2", "fp16")]


def _plainly(arrays: Any, fmt: Any) -> dict[str, float]:
    """Return the measures of a result in a format, number by number."""
    beyond = fmt.max_finite + 2.0 ** (fmt.emax - fmt.precision)
    found = dict.fromkeys(FIELDS, 0.0)
    triples = zip(*(x.tolist() for x in arrays), strict=True)
    for emulated, local, exact in triples:
        size, was = abs(emulated), abs(local)
        both = math.isfinite(emulated) and math.isfinite(local)
        error = emulated - local if both else 0.0
        found["subnormal"] += 0 < size < fmt.min_normal
        found["underflowed"] += size == 0 and 0 < was < fmt.min_normal
        found["overflowed"] += math.isfinite(local) and size == math.inf
        found["saturated"] += was >= beyond and size <= fmt.max_finite
        found["nan"] += math.isnan(emulated) and not math.isnan(local)
        found["not_finite"] += not math.isfinite(emulated) and math.isfinite(exact)
        if 0 < was < math.inf:
            found["max_relative"] = max(found["max_relative"], abs(error) / was)
        found["error2"] += error * error
        found["size2"] += local * local if math.isfinite(local) else 0.0
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "tries"),
    [((1, 7, 256, 300), 20), ((1, 300, 10_000, 33_000), 1)],
    ids=["at once", "in pieces"],
)
def test_measures_are_those_of_plain_python(sizes: tuple[int, ...], tries: int) -> None:
    rng = np.random.default_rng(0)

    def numbers(size: int) -> Any:
        return np.where(
            rng.random(size) < 0.5, rng.choice(_SPECIAL, size), rng.uniform(-1e5, 1e5, size)
        )

    @jax.jit
    def found(arrays: Any) -> Any:
        items = [
            Item(str(n), three[0], three[1], three[2], fmt)
            for n, (three, fmt) in enumerate(zip(arrays, _FORMATS, strict=True))
        ]
        return measured(items, np.dtype("f8"))

    for _ in range(tries):
        arrays = [[numbers(size) for _ in range(3)] for size in sizes]
        with jax.enable_x64(True):
            table = np.asarray(found(arrays))
        for three, fmt, row in zip(arrays, _FORMATS, table.tolist(), strict=True):
            got, want = dict(zip(FIELDS, row, strict=True)), _plainly(three, fmt)
            for name in (*_EVENTS, "max_relative"):
                assert got[name] == want[name], name
            for name in ("error2", "size2"):  # summed in another order
                assert math.isclose(got[name], want[name], rel_tol=max(sizes) * 2**-53), name


def test_results_of_one_operation_are_one_row() -> None:
    x = jnp.array([[1, 0.3], [0.2, 1.7]])
    report = ps.analyze(jnp.linalg.qr, x, policy="bf16", strict=False)
    (row,) = report.rows
    squares = sum(float((y**2).sum()) for y in report.reference_result)
    assert (row.primitive, row.elements) == ("qr", 8)
    assert math.isclose(row.size2, squares, rel_tol=0.01)


@pytest.mark.parametrize("fun", [lambda x: x, lambda x: x[::-1]], ids=["nothing", "moved"])
def test_programs_without_operations_have_no_rows(fun: Any) -> None:
    report = ps.analyze(fun, jnp.array([1.0, 2.0]), policy="bf16")
    assert (report.rows, report.change, report.gross) == ((), 0.0, 0.0)


def test_numbers_that_are_lost_are_no_small_error() -> None:
    """One of two squares overflows, and a quotient of such is NaN: distance and SQNR say so."""
    x = np.array([300, 1.3], np.float32)
    for fun in (lambda x: x * x, lambda x: (x * x) / (x * x)):
        report = ps.analyze(fun, x, policy="fp16", nodes="auto")
        assert report.nodes == 1  # no rule finds what is lost
        assert not np.isfinite(report.result[0])
        assert (report.value, report.change, report.closes) == (np.inf, np.inf, False)
        assert report.rows[0].sqnr == report.by_primitive()[0].sqnr == -np.inf
    assert ps.analyze(lambda x: x * x, x[1:], policy="fp16").rows[0].sqnr > 60


@pytest.mark.parametrize("policy", ["bf16", "q3.12_sr"])
def test_empty_arrays_lose_nothing(policy: str) -> None:
    report = ps.analyze(lambda x: x * x + 1, np.zeros((0, 3), np.float32), policy=policy)
    assert report.value == report.change == report.gross == 0
