"""How functions of arrays are run: large NumPy arrays compiled, JAX's switches without effect."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from benchmarks import calls
from precsim import _calls

ROWS = np.array([[1.1, 2.5, -0.3], [0.5, -np.inf, 1e-40]], np.float32)
CODES = np.array([[1, 200, 3], [3, 7, 255]], np.uint8)

NUMPY: dict[str, Callable[[], Any]] = {
    "elementwise": lambda: ps.add(ROWS, ROWS[0], "bf16"),
    "stochastic": lambda: ps.multiply(ROWS, 3.0, "bf16:sr8", random_bits=CODES),
    "comparison": lambda: ps.ieee.less(ROWS, ROWS[0]),
    "extremum": lambda: ps.ieee.maximum(ROWS, 0.0),
    "convert": lambda: ps.convert(CODES, "e4m3", "fp16"),
    "from_integer": lambda: ps.ieee.from_integer(CODES.astype(np.int64) << 40, "fp64"),
    "to_integer": lambda: ps.ieee.to_integer(ROWS, "int64"),
    "accumulate": lambda: ps.accumulate(ROWS, "bf16"),
    "all_reduce": lambda: ps.all_reduce(ROWS, "ring:bf16"),
    "feedback": lambda: ps.feedback_all_reduce(ROWS, ROWS, "tree:bf16")[1],
}


@pytest.mark.parametrize("name", NUMPY)
def test_large_numpy_arrays_run_compiled_with_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch, compilations: Callable[[Callable[[], Any]], int]
) -> None:
    plain = NUMPY[name]()
    monkeypatch.setattr("precsim._calls.COMPILED_FROM", 1)
    jax.clear_caches()  # type: ignore[no-untyped-call]  # other tests may have compiled it
    results: list[Any] = []
    assert compilations(lambda: results.append(NUMPY[name]())) > 0
    (compiled,) = results
    assert isinstance(compiled, np.ndarray)
    assert (compiled.dtype, compiled.shape) == (plain.dtype, plain.shape)
    np.testing.assert_array_equal(compiled, plain)
    compiled[...] = 0  # a copy, which may be written


@pytest.mark.long
@pytest.mark.parametrize("name", calls.FUNCTIONS)
def test_a_call_with_jax_arrays_is_one_compiled_program(name: str) -> None:
    """Defect: `round_to_steps` compiled and ran each of its hundreds of operations by itself."""
    function = calls.FUNCTIONS[name]
    run = partial(function.run, dimension_numbers=calls.CONTRACT)
    arrays = jax.tree.map(jnp.asarray, function.arrays(calls.SMALL))
    program = jax.make_jaxpr(run if name == "dot_general" else function.run)(*arrays)
    assert [eqn.primitive.name for eqn in program.eqns] == ["jit"]


def test_numpy_adds_in_its_own_order_however_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the platform adds has other bits under XLA: the library of the array decides."""
    monkeypatch.setattr("precsim._calls.COMPILED_FROM", 1)
    parts = np.random.default_rng(3).normal(size=(257, 3)).astype(np.float32)
    assert ps.all_reduce(parts, "platform").tolist() == parts.sum(0).tolist()


def test_pieces_share_one_compilation(
    monkeypatch: pytest.MonkeyPatch, compilations: Callable[[Callable[[], Any]], int]
) -> None:
    monkeypatch.setattr("precsim._calls.COMPILED_FROM", 1)
    monkeypatch.setattr("precsim._calls.PIECE", 4)
    monkeypatch.setattr("precsim._calls.LEAST", 4)
    x = np.arange(11, dtype=np.float32)
    ps.ieee.less(x, 5.0)
    assert compilations(lambda: ps.ieee.less(x[:9], 2.0)) == 0
    assert ps.ieee.less(x, 5.0).tolist() == (x < 5).tolist()


def test_small_numpy_arrays_run_compiled_after_enough_calls(
    monkeypatch: pytest.MonkeyPatch, compilations: Callable[[Callable[[], Any]], int]
) -> None:
    """The first compilation comes after NumPy has taken about as long; the bits stay."""
    monkeypatch.setattr("precsim._calls.COMPILED_FROM", 3 * (4 + _calls.STEP))
    monkeypatch.setattr("precsim._calls._done", {})  # the work of other tests does not count
    jax.clear_caches()  # type: ignore[no-untyped-call]  # nor what they compiled
    x = np.array([1.1, -0.0, 3e38, np.nan], np.float32)
    results: list[Any] = []

    def run() -> None:
        results.append(ps.round_to(x, "float(e=4,p=4)"))

    assert [compilations(run) > 0 for _ in range(4)] == [False, False, True, False]
    assert len({result.tobytes() for result in results}) == 1
    results[-1][...] = 0  # its own memory
    assert x[0] == np.float32(1.1)


def test_large_arrays_of_one_size_run_whole_in_the_end(
    monkeypatch: pytest.MonkeyPatch, compilations: Callable[[Callable[[], Any]], int]
) -> None:
    values = {"COMPILED_FROM": 1, "PIECE": 4, "LEAST": 4, "_WHOLE": 30, "_done": {}}
    for name, value in values.items():
        monkeypatch.setattr(f"precsim._calls.{name}", value)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    run: Callable[[], Any] = lambda: ps.ieee.less_equal(x, x[:, :1])
    pieces = run()
    assert pieces.tolist() == (x <= x[:, :1]).tolist()
    assert compilations(run) == 0
    results: list[Any] = []
    assert compilations(lambda: results.append(run())) > 0
    assert compilations(lambda: results.append(run())) == 0
    for whole in results:
        assert whole.tolist() == pieces.tolist()
        whole[...] = False


def test_what_a_program_wants_to_know_of_nan_does_not_concern_numpy_arrays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("precsim._calls.COMPILED_FROM", 1)
    nan = np.array([np.nan], np.float32)
    with jax.debug_nans(True):
        assert np.isnan(ps.round_to(nan, "fp16")[0])
        with pytest.raises(FloatingPointError):
            ps.round_to(jnp.asarray(nan), "fp16")


@contextmanager
def strict() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.numpy_dtype_promotion("strict"))
        yield


SPEC = "fp16_fp16_fp16"
JAX: dict[str, Callable[[Any, Any], Any]] = {
    "pack_codes": lambda x, codes: ps.unpack_codes(ps.pack_codes(codes, 6), 6, 3),
    "add": lambda x, codes: jax.grad(lambda y: ps.add(x, y, "bf16").sum())(x[0]),
    "less": lambda x, codes: ps.ieee.less(x, x[0]),
    "matmul": lambda x, codes: jax.grad(lambda y: ps.matmul(x, y, SPEC, c=x[:, :1]).sum())(x.T),
    "embedding": lambda x, codes: ps.embedding(x, codes, "bf16"),
    "round_to": lambda x, codes: ps.round_to(x, "e4m3"),
}


BY_DEFAULT = ("pack_codes", "add", "matmul")


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [n if n in BY_DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in JAX]
)
def test_global_switches_of_jax_change_no_bit_and_break_nothing(name: str) -> None:
    def run() -> np.ndarray:
        return np.asarray(JAX[name](jnp.asarray(ROWS), jnp.asarray(CODES & 63)))

    expected = run()
    for switches in (strict(), jax.enable_x64(True)):
        with switches:
            got = run()
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
