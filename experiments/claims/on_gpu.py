"""``python -m experiments.claims.on_gpu``: the speeds and energies that only a GPU can tell.

It prints one JSON object: device, versions, date, and milliseconds (and joules, where nvidia-smi
reads the power) of one call in float32, TF32, bf16, fp16. Rows 67 to 70 and 76 read the record of
it, `on_gpu.json`. ``--small`` tries the script on any machine.
"""

import argparse
import datetime as dt
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ARITHMETICS: dict[str, tuple[Any, str]] = {
    "float32": (jnp.float32, "highest"),
    "tf32": (jnp.float32, "tensorfloat32"),
    "bf16": (jnp.bfloat16, "default"),
    "fp16": (jnp.float16, "default"),
}
"""Name -> dtype of the operands of products, precision of JAX's products."""
RESNET_BLOCKS = (3, 4, 6, 3)
Params = dict[str, Any]


def power() -> float:
    """Return the power that the GPU draws now, in watt; NaN where nothing measures it."""
    if shutil.which("nvidia-smi") is None:
        return float("nan")
    words = ["nvidia-smi", "--query-gpu=power.draw.instant", "--format=csv,noheader,nounits"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    first = done.stdout.strip().splitlines()[:1]
    try:
        return float(first[0])
    except (IndexError, ValueError):
        return float("nan")


def timed(call: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Return milliseconds, and joules, of a call: of many in a row, after one that compiles."""
    jax.block_until_ready(call())  # type: ignore[no-untyped-call]
    start = time.perf_counter()
    jax.block_until_ready(call())  # type: ignore[no-untyped-call]
    once = max(time.perf_counter() - start, 1e-6)
    count = max(3, min(2000, int(seconds / once)))
    watts: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            watts.append(power())

    watching = threading.Thread(target=watch)
    watching.start()
    start = time.perf_counter()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)  # type: ignore[no-untyped-call]
    each = (time.perf_counter() - start) / count
    done.set()
    watching.join()
    late = [w for w in watts[len(watts) // 3 :] if np.isfinite(w)]
    return {"ms": 1e3 * each, **({"J": each * float(np.mean(late))} if late else {})}


def conv(x: Any, w: Any, stride: int = 1) -> Any:
    """Return a convolution of images, NHWC, without a bias."""
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def batch_norm(x: Any, gain: Any) -> Any:
    """Return a batch, normalised by its own statistics, in float32."""
    y = x.astype(jnp.float32)
    y = (y - y.mean((0, 1, 2))) * jax.lax.rsqrt(y.var((0, 1, 2)) + 1e-5)
    return (y * gain[0] + gain[1]).astype(x.dtype)


def resnet_weights(blocks: tuple[int, ...], width: int) -> Params:
    """Return weights of a bottleneck residual network, ResNet-50 for (3, 4, 6, 3) and 64."""
    rng = np.random.default_rng(0)
    weights: Params = {}

    def add(name: str, k: int, inputs: int, outputs: int) -> None:
        spread = np.sqrt(2 / (k * k * inputs))
        weights[name] = rng.normal(0, spread, (k, k, inputs, outputs)).astype(np.float32)
        weights[name + " norm"] = np.stack([np.ones(outputs), np.zeros(outputs)]).astype(np.float32)

    add("stem", 7, 3, width)
    inputs = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for k in range(count):
            add(f"{stage} {k} a", 1, inputs, inner)
            add(f"{stage} {k} b", 3, inner, inner)
            add(f"{stage} {k} c", 1, inner, 4 * inner)
            if k == 0:
                add(f"{stage} {k} d", 1, inputs, 4 * inner)
            inputs = 4 * inner
    weights["head"] = rng.normal(0, 0.01, (inputs, 1000)).astype(np.float32)
    return weights


def resnet(blocks: tuple[int, ...], w: Params, x: Any) -> Any:
    """Return the logits of a batch of images."""

    def layer(name: str, x: Any, stride: int = 1) -> Any:
        return batch_norm(conv(x, w[name].astype(x.dtype), stride), w[name + " norm"])

    x = jax.nn.relu(layer("stem", x, 2))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for stage, count in enumerate(blocks):
        for k in range(count):
            stride = 2 if k == 0 and stage else 1
            y = jax.nn.relu(layer(f"{stage} {k} a", x))
            y = jax.nn.relu(layer(f"{stage} {k} b", y, stride))
            y = layer(f"{stage} {k} c", y)
            x = jax.nn.relu(y + (layer(f"{stage} {k} d", x, stride) if k == 0 else x))
    return x.mean((1, 2)) @ w["head"].astype(x.dtype)


def bert_weights(layers: int, width: int, words: int) -> Params:
    """Return weights of an encoder, BERT-base for 12, 768 and 30,522."""
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.02, shape).astype(np.float32)

    weights: Params = {"words": matrix(words, width)}
    for k in range(layers):
        weights[f"{k} qkv"] = matrix(width, 3 * width)
        weights[f"{k} out"] = matrix(width, width)
        weights[f"{k} up"] = matrix(width, 4 * width)
        weights[f"{k} down"] = matrix(4 * width, width)
    return weights


def bert(layers: int, w: Params, tokens: Any, dtype: Any) -> Any:
    """Return the logits of a batch of sentences, over all words."""

    def norm(x: Any) -> Any:
        y = x.astype(jnp.float32)
        return jax.nn.standardize(y, axis=-1, epsilon=1e-5).astype(x.dtype)

    def get(name: str) -> Any:
        return w[name].astype(dtype)

    x = get("words")[tokens]
    heads = x.shape[-1] // 64
    for k in range(layers):
        q, key, v = jnp.split(norm(x) @ get(f"{k} qkv"), 3, -1)
        q, key, v = (a.reshape(*a.shape[:2], heads, 64) for a in (q, key, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q / 8, key).astype(jnp.float32)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores).astype(dtype), v)
        x = x + mixed.reshape(x.shape) @ get(f"{k} out")
        x = x + jax.nn.gelu(norm(x) @ get(f"{k} up")) @ get(f"{k} down")
    return norm(x) @ get("words").T


def cross_entropy(logits: Any, y: Any) -> Any:
    """Return the mean cross-entropy, in float32."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_p, y[..., None], -1).mean()


@partial(jax.jit, static_argnames="loss", donate_argnums=0)
def sgd(weights: Params, momentum: Params, x: Any, y: Any, loss: Any) -> tuple[Params, Params]:
    """Return weights and momenta after a step, both float32; the loss is scaled by 1024."""
    g = jax.grad(lambda w: 1024 * loss(w, x, y))(weights)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g / 1024, momentum, g)
    return jax.tree.map(lambda w, m: w - 1e-3 * m, weights, momentum), momentum


def training(loss: Any, weights: Params, x: Any, y: Any) -> Callable[[], Any]:
    """Return a call that makes one more step."""
    state = [jax.device_put(weights), jax.tree.map(jnp.zeros_like, weights)]

    def call() -> Any:
        state[:] = sgd(state[0], state[1], x, y, loss)
        return state[1]

    return call


def calls(dtype: Any, small: bool) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by name."""
    rng = np.random.default_rng(0)
    n, length = (256, 2**16) if small else (8192, 2**27)
    a, b = (jnp.asarray(rng.normal(size=(n, n)), dtype) for _ in range(2))
    long = jnp.asarray(rng.normal(size=length).astype(np.float32), dtype)
    product, total = jax.jit(jnp.matmul), jax.jit(jnp.add)
    blocks, width, size, images = ((1, 1), 8, 32, 2) if small else (RESNET_BLOCKS, 64, 224, 128)
    pictures = jnp.asarray(rng.normal(size=(images, size, size, 3)), dtype)
    labels = jnp.asarray(rng.integers(0, 1000, images))
    layers, inner, words, sentences = (1, 64, 100, 2) if small else (12, 768, 30522, 64)
    tokens = jnp.asarray(rng.integers(0, words, (sentences, 128)))
    return {
        "matmul": lambda: product(a, b),
        "add": lambda: total(long, long),
        "resnet50": training(
            lambda w, x, y: cross_entropy(resnet(blocks, w, x), y),
            resnet_weights(blocks, width), pictures, labels,
        ),
        "bert_base": training(
            lambda w, x, y: cross_entropy(bert(layers, w, x, dtype), y),
            bert_weights(layers, inner, words), tokens, tokens,
        ),
    }  # fmt: skip


def main() -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    options = parser.parse_args()
    device = jax.devices()[0]
    times: dict[str, dict[str, dict[str, float]]] = {}
    for name, (dtype, precision) in ARITHMETICS.items():
        with jax.default_matmul_precision(precision):
            for what, call in calls(dtype, options.small).items():
                found = timed(call, 0.1 if options.small else 3.0)
                times.setdefault(what, {})[name] = {k: float(f"{v:.4g}") for k, v in found.items()}
    record = {
        "device": device.device_kind,
        "jax": jax.__version__,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "sizes": {
            "matmul": "8192 x 8192 by 8192 x 8192",
            "add": "2^27 numbers",
            "resnet50": "a training step, 128 images of 224 x 224",
            "bert_base": "a training step, 64 sentences of 128 words",
        },
        "times": times,
    }
    print(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
