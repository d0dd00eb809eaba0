"""What NumPy computes where JAX is not installed, with the same bits."""

import contextlib
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

import precsim as ps

X = np.array([[1.1, 2.5, -0.3, 1e9], [0.5, -np.inf, 1e-40, -0.0]], np.float32)
POSITIVE = np.array([0.5, 1.25, 2.0, 3.7], np.float32)
DOUBLES = X.astype(np.float64) * (1 + 2.0**-40)
BITS = np.arange(8, dtype=np.uint32).reshape(2, 4) * np.uint32(0x9E3779B9)
IDS = np.array([1, 0, 1, 3])
A, B = X[:, :3], X.reshape(4, 2)[:3]
LARGE = np.resize(np.array([1.1, -2.3, 3e-5, 7e4], np.float32), 20_000)


def _shown(*words: str) -> str:
    from precsim.cli.main import main

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(list(words)) == 0
    return text.getvalue()


ELEMENTARY = ("exp", "log", "tanh", "erf", "sigmoid", "rsqrt", "sqrt", "reciprocal")
PAIRS = ("add", "subtract", "multiply", "divide")
RUN: dict[str, Callable[[], Any]] = {
    "formats": lambda: [str(ps.get_format(n)) for n in ("fp16", "mxfp4")],
    "round_to": lambda: [ps.round_to(X, s) for s in ("e4m3", "bf16:rtz", "q3.4:wrap")],
    "round_to float64": lambda: ps.round_to(DOUBLES, "fp16"),
    "round_to sr": lambda: ps.round_to(X, "bf16:sr8", random_bits=BITS),
    "round_to large": lambda: ps.round_to(LARGE, "e5m2"),
    "round_to numbers": lambda: ps.round_to([0.1, 2], "e2m1"),
    "codes": lambda: (ps.decode(np.arange(256), "e5m2"), ps.encode([1.0, 2.0], "bf16")),
    "packing": lambda: ps.unpack_codes(ps.pack_codes([1, 2, 3], 6), 6, 3),
    "ulp": lambda: ps.ulp(X, "e4m3"),
    **{name: partial(getattr(ps, name), X, X[0], "bf16") for name in PAIRS},
    **{name: partial(getattr(ps, name), POSITIVE, "fp16") for name in ELEMENTARY},
    "fma": lambda: ps.fma(X, X, X[0], "fp16:sr", random_bits=BITS),
    "add large": lambda: ps.add(LARGE, 1.0, "bf16"),
    "ieee": lambda: (ps.ieee.less(X, 0.5), ps.ieee.maximum(X, 0.5)),
    "integers": lambda: (ps.ieee.to_integer(X, "int8"), ps.ieee.from_integer([3, 2**40], "fp32")),
    "convert": lambda: ps.convert(np.arange(8), "e4m3", "fp16"),
    **{
        f"accumulate {order}": partial(ps.accumulate, X, "bf16", axis=1, order=order)
        for order in ("sequential", "pairwise", "blocked2", "kahan", "two_sum", "exact")
    },
    "segment_sum": lambda: ps.segment_sum(X.T, IDS, "bf16", num_segments=2),
    "embedding": lambda: ps.embedding(X, IDS, "bf16"),
    "quantize": lambda: [
        (q.codes, q.scales, ps.dequantize(q))
        for q in (ps.quantize(X[:1], f) for f in ("mxfp4", "nvfp4", "uint4", "int8_symmetric"))
    ],
    "round_to blocks": lambda: ps.round_to(X[:1], "mxfp8_e4m3"),
    "matmul reference": lambda: [
        ps.matmul(A, B, spec, backend="reference")
        for spec in ("bf16_bf16_fp32", "fp16_fp16_fp16:pairwise", "h100:bf16", "b200:mxfp8")
    ],
    "matmul": lambda: ps.matmul(A, B, "bf16_bf16_fp32"),
    "bounds": lambda: (ps.gamma(100, "bf16"), ps.errors.order_bound("pairwise", 100, "bf16")),
    "errors": lambda: (ps.sqnr(X[0, :3], POSITIVE[:3]), ps.ulp_error(POSITIVE, POSITIVE, "bf16")),
    "ranges": lambda: ps.errors.range_rates(X, "e4m3"),
    "what if": lambda: [
        ps.errors.predict(ps.errors.statistics(X, block_size=2), spec).underflowed
        for spec in ("e4m3", "fp16")
    ],
    "recommend": lambda: ps.recommend(POSITIVE, sqnr=20)["values"].bits,
    "events": lambda: ps.errors.count_events(X, ps.round_to(X, "e4m3"), "e4m3"),
    "oracle": lambda: ps.oracle.round_exact(1.1, "fp16").value,
    "show": lambda: _shown("show", "1.1", "fp16"),
    "list": lambda: _shown("formats"),
}
"""Cheap calls. Those with `large` arrays run compiled where JAX is."""

NEEDS: dict[str, Callable[[], Any]] = {
    "train": lambda: ps.train(ps.TrainConfig(policy=ps.Policy.parse("bf16"))),
    "dot_general": lambda: ps.dot_general("bf16_bf16_fp32"),
    "conv_general_dilated": lambda: ps.conv_general_dilated("bf16_bf16_fp32"),
    "einsum": lambda: ps.einsum("bf16_bf16_fp32"),
    "emulated": lambda: ps.matmul(A, B, "bf16_bf16_fp32", backend="emulated"),
    "native": lambda: ps.matmul(A, B, "bf16_bf16_fp32", backend="native"),
}


def leaves(x: Any) -> list[Any]:
    """Return what a result is made of: bits of arrays, texts, numbers."""
    if isinstance(x, np.ndarray):
        return [(str(x.dtype), x.shape, x.tobytes())]
    if is_dataclass(x) and not isinstance(x, type):
        return leaves(list(asdict(x).values()))
    if isinstance(x, (list, tuple)):
        return [leaf for part in x for leaf in leaves(part)]
    return [repr(x)]


class Refused:
    """An import system without jax."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] in ("jax", "jaxlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def answers() -> dict[str, list[Any]]:
    return {name: leaves(run()) for name, run in RUN.items()}


def main(*, has_jax: bool) -> None:
    """Compute everything, without JAX or with it; the test reads what this prints."""
    if not has_jax:
        sys.meta_path.insert(0, Refused())
    messages = {}
    for name, run in () if has_jax else NEEDS.items():
        try:
            run()
        except ModuleNotFoundError as error:
            messages[name] = str(error)
    found = pickle.dumps((answers(), messages, "jax" in sys.modules))
    sys.stdout.buffer.write(found)


def printed(*, has_jax: bool) -> Any:
    program = f"from tests.test_without_jax import main; main({has_jax=})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


@pytest.mark.long
def test_numpy_alone_has_the_same_bits() -> None:
    """Both in processes of their own: other tests register formats."""
    alone, messages, used_jax = printed(has_jax=False)
    assert not used_jax
    full, _, used_jax = printed(has_jax=True)
    assert used_jax
    for name, expected in full.items():
        assert alone[name] == expected, name
    assert messages.keys() == NEEDS.keys()
    for message in messages.values():
        assert "jax" in message
        assert "\n" not in message
