"""Section E: what it costs."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims import trained
from experiments.claims.row import Section, digits, equal, inside, mean
from experiments.claims.training import FP32, mixed

SECTION = Section("E. Cost")
add = SECTION.add

ON_GPU: dict[str, Any] = json.loads(
    Path(__file__).with_name("on_gpu.json").read_text(encoding="utf-8")
)
"""What `on_gpu` printed on a GPU."""
WHERE = f"recorded on {ON_GPU['device']}, JAX {ON_GPU['jax']}, {ON_GPU['date']}"
BERT_BASE = 109_482_240


ONCE = f"on the {ON_GPU['device']} that was measured"


def times_faster(what: str, fmt: str, than: str, unit: str = "ms") -> float:
    """Return by which factor a format was faster, or spent fewer joules, on the GPU."""
    found = ON_GPU["times"][what]
    return float(found[than][unit] / found[fmt][unit])


def recorded(what: str, fmt: str, than: str, low: float, high: float) -> Check:
    """Return the check of a recorded speed-up."""
    name = f"GPU, {ON_GPU['sizes'][what]}: {fmt} faster than {than}, times ({WHERE})"
    return inside(name, low, high, times_faster(what, fmt, than))


@add(
    63,
    "10 million float32 weights take 400 MB, in fp16 200 MB.",
    "false",
    "They take 40 MB and 20 MB. Memory counts values, not operations.",
)
def bytes_of_weights(full: bool) -> list[Check]:
    """Count the bytes."""
    wide, narrow = (ps.cost(10_000_000, policy=name).weights for name in ("fp32", "fp16"))
    return equal(("MB in float32", 40, wide / 1e6), ("MB in fp16", 20, narrow / 1e6))


@add(
    64,
    "Mixed precision halves the memory of a training.",
    "depends",
    "Weights, gradients and Adam's state take as much as before, since a float32 copy is kept. Only"
    " activations halve.",
)
def training_memory(full: bool) -> list[Check]:
    """Count the bytes of each parameter under Adam, and of a step's activations."""
    policies = {"float32": "fp32", "mixed fp16": "fp16_mixed", "pure fp16": "fp16,opt=fp16"}
    found = {
        name: ps.cost(BERT_BASE, policy=p, optimizer="adam").total for name, p in policies.items()
    }
    expected = zip(policies, (16, 16, 8), strict=True)
    gigabytes = zip(policies, ("1.75", "1.75", "0.876"), strict=True)
    wide, narrow = (
        ps.cost(ps.TrainConfig(policy=ps.Policy.parse(name))).activations
        for name in ("fp32", "fp16_mixed")
    )
    return [
        *equal(*((f"{n}, bytes a parameter", e, found[n] // BERT_BASE) for n, e in expected)),
        *digits(*((f"{n}, BERT-base, GB", e, found[n] / 1e9) for n, e in gigabytes)),
        inside("activations of a small network, mixed / float32", 0.5, 0.6, narrow / wide),
    ]


def forward_operations(policy: str, hidden: int = 64) -> int:
    """Return the operations of the products of 64-`hidden`-10, for one example."""
    w = (jnp.zeros((64, hidden)), jnp.zeros((hidden, 10)))
    found = ps.cost(
        lambda w, x: jnp.maximum(x @ w[0], 0) @ w[1], w, jnp.zeros((1, 64)), policy=policy
    )
    return found.products()


@add(
    65,
    "Half precision needs fewer floating-point operations.",
    "false",
    "It needs the same number of them, on narrower operands.",
)
def operations(full: bool) -> list[Check]:
    """Count those of a network of 64, 64 and 10 units."""
    return equal(
        *(
            (f"{n}, one example forward through 64-64-10", 9472, forward_operations(n))
            for n in ("fp32", "fp16", "bf16")
        )
    )


@add(
    66,
    "A training needs hundreds of millions of operations.",
    "depends",
    "It depends on the network and the epochs: backward costs twice what forward does, and every"
    " example counts in every epoch. 64-64-10 and 20 epochs take 817 million; 64-128-10 and 30"
    " epochs take 2.45 billion.",
)
def operations_of_a_training(full: bool) -> list[Check]:
    """Count 1,437 examples an epoch; the gradient in the inputs may be left out."""
    w = (jnp.zeros((64, 128)), jnp.zeros((128, 10)))
    step = ps.cost(
        lambda w, x: jnp.sum(jnp.maximum(x @ w[0], 0) @ w[1]),
        w, jnp.zeros((1, 64)), policy="fp32", optimizer="sgd",
    )  # fmt: skip
    small, large = (3 * forward_operations("fp32", hidden) for hidden in (64, 128))
    return equal(
        ("64-64-10, 20 epochs of 1,437 examples, 3 times forward", 816675840, small * 1437 * 20),
    ) + digits(
        ("64-128-10, 30 epochs", "2.45e9", large * 1437 * 30),
        ("without the gradient in the inputs", "1.74e9", step.products() * 1437 * 30),
    )


def seconds(call: Callable[[], Any], count: int = 5) -> float:
    """Return the least time of a call, after one that compiles."""
    jax.block_until_ready(call())  # type: ignore[no-untyped-call]
    found = []
    for _ in range(count):
        start = time.perf_counter()
        jax.block_until_ready(call())  # type: ignore[no-untyped-call]
        found.append(time.perf_counter() - start)
    return min(found)


@add(
    67,
    "16 bits are twice as fast.",
    "depends",
    "It depends on the hardware, and on what float32 is compared: a product in bf16 is"
    f" {times_faster('matmul', 'bf16', 'tf32'):.1f} times as fast as in TF32 and"
    f" {times_faster('matmul', 'bf16', 'float32'):.0f} times as fast as in full float32 {ONCE}."
    " NumPy's product in fp16 is slower than in float32.",
    "gpu",
)
def speed(full: bool) -> list[Check]:
    """Read the record of a GPU; time NumPy here, which depends on machine and load."""
    a = np.ones((192, 192), np.float32)
    half = a.astype(np.float16)
    slower = seconds(lambda: half @ half, 3) / seconds(lambda: a @ a)
    return [
        recorded("matmul", "bf16", "tf32", 1.5, 2.5),
        recorded("matmul", "bf16", "float32", 8, 25),
        recorded("matmul", "fp16", "tf32", 1.5, 2.5),
        recorded("add", "bf16", "float32", 1.2, 2.1),
        inside("here, NumPy, 192 x 192: time in fp16 / in float32", 1, math.inf, slower),
    ]


@add(
    68,
    "ResNet-50 trains about twice as fast at equal accuracy.",
    "depends",
    "Its step in fp16 is"
    f" {times_faster('resnet50', 'fp16', 'tf32'):.1f} times as fast as in TF32 and"
    f" {times_faster('resnet50', 'fp16', 'float32'):.1f} times as fast as in full float32 {ONCE}."
    " Its accuracy is published elsewhere: 75.92 % in float32, 76.04 % mixed (arXiv 1710.03740).",
    "gpu",
)
def resnet50(full: bool) -> list[Check]:
    """Read the record of a GPU; synthetic images."""
    return [
        recorded("resnet50", "fp16", "tf32", 1.2, 2.5),
        recorded("resnet50", "fp16", "float32", 3, 9),
        recorded("resnet50", "bf16", "tf32", 1.2, 2.5),
        recorded("resnet50", "bf16", "float32", 3, 9),
    ]


@add(
    69,
    "BERT gains 4 to 6 % accuracy and is twice as fast.",
    "depends",
    "Twice as fast: yes, its step is"
    f" {times_faster('bert_base', 'bf16', 'tf32'):.1f} times as fast as in TF32 {ONCE}. More"
    " accurate: BERT's accuracy was not measured here; the small network of the digits gains"
    " nothing.",
    "gpu",
)
def bert(full: bool) -> list[Check]:
    """Read the record of a GPU; compare accuracies of the digits, paired by seed."""
    wide = trained.digits(FP32, full, rate=0.1).accuracy
    points = trained.digits(mixed("bf16"), full, rate=0.1).accuracy - wide
    return [
        mean("mixed bf16 minus float32 on the digits, points", 0, points, 0.3),
        recorded("bert_base", "bf16", "tf32", 1.7, 2.7),
        recorded("bert_base", "bf16", "float32", 5, 12),
    ]


@add(
    70,
    "Speech recognition is 1.5 times as fast; energy falls; a factory's yield rises by 15 %.",
    "depends",
    "Three claims. Energy falls: TF32 spends"
    f" {times_faster('bert_base', 'bf16', 'tf32', 'J'):.1f} times the joules of bf16 for a step of"
    f" BERT-base {ONCE}. The speed of speech recognition was not measured, and the yield of a"
    " factory names nothing that could be.",
    "gpu",
)
def energy(full: bool) -> list[Check]:
    """Read the record of a GPU."""
    return [
        inside(
            f"GPU, {ON_GPU['sizes'][what]}: joules of tf32 / of bf16 ({WHERE})",
            low, high, times_faster(what, "bf16", "tf32", "J"),
        )
        for what, low, high in (("resnet50", 1.3, 2.2), ("bert_base", 1.7, 2.8))
    ]  # fmt: skip


@add(
    71,
    "Special hardware is required; others say that demands on hardware are low.",
    "depends",
    "Speed needs the hardware. Results do not: a processor without fp16 units gives every bit.",
)
def emulation(full: bool) -> list[Check]:
    """Compare all codes, and products, with NumPy's own fp16."""
    codes = np.arange(2**16, dtype=np.uint16)
    values = codes.view(np.float16).astype(np.float32)
    finite = np.isfinite(values)
    ours = ps.decode(codes, "fp16")
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = (codes.view(np.float16) * codes[::-1].view(np.float16)).astype(np.float32)
    products = ps.multiply(values, values[::-1], "fp16")
    same = (products == theirs) | (np.isnan(products) & np.isnan(theirs))
    return equal(
        ("fp16 codes of another value", 0, int((ours[finite] != values[finite]).sum())),
        ("products of another value", 0, int((~same).sum())),
    )


@add(
    72,
    "Switching on a policy makes a training low precision.",
    "depends",
    "Published examples ran in float32 without a word. Ask which format each operation really has.",
)
def what_really_runs(full: bool) -> list[Check]:
    """Count the narrow products where inputs alone are narrow, and under autocast."""

    def model(w: Any, x: Any) -> Any:
        return jnp.sum(jnp.tanh(x.astype(jnp.bfloat16) @ w))

    def narrow(fun: Callable[..., Any]) -> int:
        rows = ps.coverage(fun, "fp32", jnp.ones((4, 4)), jnp.ones((2, 4))).rows
        products = [row for row in rows if row.primitive == "dot_general"]
        return sum(row.dtype == "bf16" for row in products)

    return equal(
        ("products in bf16, of 1, with inputs cast to bf16", 0, narrow(model)),
        ("products in bf16, of 1, under autocast", 1, narrow(ps.autocast(model, "bf16_mixed"))),
    )
