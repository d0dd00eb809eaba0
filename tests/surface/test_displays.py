"""What results print: plain numbers, nothing that only NumPy or JAX would write so."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps

F32: Any = np.float32
gamma: Any = ps.errors.gamma
X = F32([1.1, 2.5, -0.0, 3.3])
BAD = F32([1.1, np.nan, np.inf, 0])
BATCHES = [(X,), (BAD,), (X * np.float32(2.0**14),)]


def loss(w: Any, x: Any) -> Any:
    return jnp.sum(w * x)


def chosen(x: Any) -> Any:
    return {"sum": jnp.sum(x * x), "best": jnp.argmax(x), "is": x[0] > 1}


def report(**options: Any) -> ps.Report:
    body = lambda c, _: (jnp.sin(c), None)
    return ps.analyze(
        lambda x: jax.lax.scan(body, x, None, length=2)[0], X, policy="bf16", **options
    )


def decay(w: Any, x: Any) -> Any:
    return w - w * x


RESULTS: dict[str, Callable[[], Any]] = {
    "tolerance": lambda: ps.tolerance(chosen, X, policy="bf16"),
    "running_bound": lambda: ps.running_bound(chosen, X, policy="bf16"),
    "significant_digits": lambda: ps.significant_digits(jnp.sum, X, policy="bf16"),
    "fragile_parts": lambda: ps.fragile_parts(
        lambda x: jnp.sum(x * x + 1), X, policy="bf16", tolerance=1e-3
    ),
    "analyze": report,
    "analyze, turns": lambda: report(turns="each").rows,
    "share_map": lambda: ps.share_map({1: report(), 2: report()}),
    "groups": lambda: (report().by_scope(), report().by_line(), report().top()),
    "audit_loss_scale": lambda: ps.audit_loss_scale(
        loss, jnp.ones(4), BATCHES, "fp16_mixed", loss_scale=8
    ),
    "windows": lambda: ps.audit_loss_scale(loss, jnp.ones(4), BATCHES, "fp16_mixed").windows,
    "track_drift": lambda: ps.track_drift(decay, "bf16", jnp.ones(4), BATCHES[:1]),
    "compare_dumps": lambda: ps.compare_dumps({"a": X, "b": 1}, {"a": -X, "b": np.int8(2)}),
    "explain": lambda: ps.explain(X, X * np.float32(1.001)),
    "recommend": lambda: ps.recommend(
        {"x": X, "bad": BAD}, sqnr=9, formats=["fp16", "int8"], measure=True
    ),
    "predict": lambda: ps.errors.predict(ps.errors.statistics(X), "fp16", scale=np.float32(2)),  # type: ignore[arg-type]
    "range_rates": lambda: ps.errors.range_rates(BAD, "fp16"),
    "count_events": lambda: ps.errors.count_events(BAD, BAD, "fp16"),
    "exponent_histogram": lambda: ps.errors.exponent_histogram(BAD),
    "scale_statistics": lambda: ps.errors.scale_statistics(X, "mxfp4"),
    "measures": lambda: (ps.errors.sqnr(X, BAD), ps.errors.sqnr(X, X)),
    "bounds": lambda: (gamma(np.int64(3), np.float32(0.01)), gamma(3, "bf16")),
    "cost": lambda: ps.cost(lambda x: x * x, X, policy="bf16"),
    "coverage": lambda: ps.coverage(lambda x: x * x, "bf16", X),
    "compress": lambda: ps.compress({"w": np.ones((4, 4), np.float32)}, "int8"),
    "walk": lambda: ps.walk("1.1 + 2.2", "bf16"),
    "format": lambda: [ps.get_format(name) for name in ps.list_formats()],
}


_DEPTH = 5
"""Of attributes of attributes: some results hold results of their own kind."""


def numbers_of_numpy(x: Any, seen: set[int], path: str = "") -> Iterator[str]:
    """Yield where a result has single numbers of NumPy, which print as ``np.float64(1.5)``."""
    if isinstance(x, np.generic):
        yield f"{path}: {x!r}"
    is_deep = path.count(".") > _DEPTH
    if is_deep or id(x) in seen or isinstance(x, (str, bytes, np.ndarray, jax.Array)):
        return
    seen.add(id(x))
    if isinstance(x, Mapping):
        for key, value in x.items():
            yield from numbers_of_numpy(key, seen, f"{path} key")
            yield from numbers_of_numpy(value, seen, f"{path}[{key!r}]")
    elif isinstance(x, (list, tuple)):
        for n, value in enumerate(x):
            yield from numbers_of_numpy(value, seen, f"{path}[{n}]")
    if type(x).__module__.startswith("precsim"):
        for name in (name for name in dir(x) if not name.startswith("_")):
            value = getattr(x, name, None)
            if not callable(value):
                yield from numbers_of_numpy(value, seen, f"{path}.{name}")


@pytest.mark.long
@pytest.mark.parametrize("name", RESULTS)
def test_results_print_plain_numbers(name: str) -> None:
    result = RESULTS[name]()
    assert list(numbers_of_numpy(result, set())) == []
    for text in (str(result), repr(result), getattr(result, "sentence", "")):
        for mark in ("np.float", "np.int", "np.bool", "np.True", "np.False", "np.str", "Array("):
            assert mark not in text
