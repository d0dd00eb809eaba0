"""Section C: Adam, accumulation, switching, compensation, distribution."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims import accumulated, switching, trained
from experiments.claims.a_formats import rounded
from experiments.claims.adam import first_step, train_adam
from experiments.claims.c_loss_scaling import SECTION
from experiments.claims.row import digits, equal, inside, mean
from experiments.claims.training import (
    FP32,
    compensated,
    mixed,
    pure,
    stochastic,
)

add = SECTION.add


@add(
    42,
    "Cast the model to fp16 and use Adam.",
    "false",
    "Adam's epsilon of 1e-8 is 0 in fp16, so a gradient of 0 becomes 0/0. In bf16 its 0.999 is 1."
    " With state and weights in float32 it works.",
    "run",
)
def adam_in_16_bits(full: bool) -> list[Check]:
    """Round Adam's constants, make one step, train."""
    beta = rounded(0.999, "bf16")
    tiny = float(ps.multiply(np.float32(rounded(1e-3, "fp16")), np.float32(5.45e-3**2), "fp16"))
    found = [
        *equal(
            ("1e-8 in fp16", 0, rounded(1e-8, "fp16")),
            ("0.999 in bf16", 1, beta),
            ("1 - β2 in bf16", 0, 1 - beta),
            ("(1 - β2) g^2 in fp16, g = 5.45e-3", 0, tiny),
            (
                "NaN among the first update of 1 gradient of 0, fp16",
                1,
                np.isnan(first_step(0.0, "fp16")),
            ),
        ),
    ]
    n = trained.seeds(full)
    wide = train_adam(FP32, n, 1e-8)
    runs = {
        "fp16, epsilon 1e-8": (train_adam(pure("fp16"), n, 1e-8), 10, 4),
        "fp16, epsilon 1e-7": (train_adam(pure("fp16"), n, 1e-7), 10, 8),
        "bf16, epsilon 1e-8": (train_adam(pure("bf16"), n, 1e-8), 10, 8),
        "bf16, epsilon 1e-4": (train_adam(pure("bf16"), n, 1e-4), 10, 8),
    }
    found += [mean(f"{name}, accuracy %", e, a, spread) for name, (a, e, spread) in runs.items()]
    coarse = train_adam(pure("fp16"), n, 1e-4)
    kept = train_adam(mixed("fp16"), n, 1e-8)
    return [
        *found,
        mean("fp16, epsilon 1e-4, minus float32", 0, coarse - wide, 2),
        mean("fp16, float32 state and weights, minus float32", 0, kept - wide, 1),
    ]


@add(
    43,
    "Gradient accumulation improves precision; others say that it worsens it.",
    "depends",
    "It gives the gradient of the larger batch, with the errors of the format in which the sum is"
    " kept. In float32 these are nothing, in 8 bits a tenth and more.",
    "run",
)
def accumulation(full: bool) -> list[Check]:
    """Add up the gradients of 44 microbatches in each format."""
    terms = np.full(1000, 1e-3, np.float32)
    parts = accumulated.gradients(full)
    expected = {"fp32": 9.6e-8, "fp16": 7.3e-4, "bf16": 6.2e-3, "e5m2": 0.21, "e4m3": 0.11}
    found = [
        mean(f"{n}: relative error", e, accumulated.errors(parts, n), 0.8 * e)
        for n, e in expected.items()
    ]
    first = accumulated.errors(parts, "e4m3", is_divided_first=True)
    return [
        *found,
        mean("e4m3, each divided before adding", 0.83, first, 0.17),
        *digits(("1,000 times 1e-3, fp16", "0.9785", float(ps.accumulate(terms, "fp16")))),
        *equal(("1,000 times 1e-3, bf16", 0.5, float(ps.accumulate(terms, "bf16")))),
    ]


@add(
    44,
    "Gradient accumulation reduces the computation.",
    "false",
    "It does the same products for each example, and makes fewer updates. What it saves is the"
    " memory of activations. Who forgets to divide by K multiplies the learning rate by K.",
)
def accumulated_work(full: bool) -> list[Check]:
    """Count the work of a batch of 32, and of 4 times 8."""
    whole, part = (
        ps.cost(ps.TrainConfig(policy=ps.Policy.parse("fp32"), batch_size=n)) for n in (32, 8)
    )
    means = np.array([1.0, 2, 3, 6])
    return equal(
        ("products of 4 times 8 examples / of 32", 1, 4 * part.products() / whole.products()),
        ("activations of 8 examples / of 32", 0.25, part.activations / whole.activations),
        ("a sum of 4 means / their mean", 4, means.sum() / means.mean()),
    )


@add(
    45,
    "Use float32 while the loss is above a threshold, and low precision below it.",
    "false",
    "It is backwards: late updates are the small ones. The training stalls where it switches.",
    "run",
)
def switch_late(full: bool) -> list[Check]:
    """Switch from float32 to pure bf16 where the loss falls below 0.5."""
    found = switching.by_threshold(3 if not full else 10)
    wide, narrow, rule = (found[name] for name in ("float32", "bf16", "rule"))
    return [
        mean("float32, accuracy % after 60 epochs", 94.67, wide.accuracy, 2.5),
        mean("pure bf16 minus float32", -4.3, narrow.accuracy - wide.accuracy, 3),
        mean("the rule minus float32", -1.8, rule.accuracy - wide.accuracy, 1.7),
        inside("the rule: loss minus that of float32", 0.03, 0.35, (rule.loss - wide.loss).mean()),
    ]


@add(
    46,
    "Choose the precision by the type of operation.",
    "true",
    "That is what autocast does: products are narrow; exponentials, logarithms and large sums are"
    " in float32.",
)
def by_operation(full: bool) -> list[Check]:
    """Read the dtypes of a program under autocast; compute a log-softmax in both."""

    def model(w: Any, x: Any) -> Any:
        return jnp.sum(jnp.exp(x @ w))

    w, x = jnp.ones((4, 4)), jnp.ones((2, 4))
    rows = ps.coverage(ps.autocast(model, "bf16_mixed"), "fp32", w, x).rows
    dtypes = {row.primitive: row.dtype for row in rows}

    def log_softmax(z: Any) -> Any:
        return jnp.log(jnp.exp(z) / jnp.sum(jnp.exp(z)))

    gap = jnp.array([0.0, -20.0])
    return equal(
        ("products in bf16, of 1", 1, dtypes["dot_general"] == "bf16"),
        ("exponentials in float32, of 1", 1, dtypes["exp"] == "fp32"),
        (
            "log of a probability of e^-20, fp16",
            -np.inf,
            float(ps.emulate(log_softmax, "fp16")(gap)[1]),
        ),
        ("float32, rounded", -20, round(float(log_softmax(gap)[1]))),
    )


@add(
    47,
    "Compensate the error by e <- e - a (e - predicted).",
    "false",
    "That is an average of e, and nothing of it reaches the weights. What works: Kahan's sum,"
    " stochastic rounding, a float32 copy.",
    "run",
)
def remedies(full: bool) -> list[Check]:
    """Follow the formula, and train with each remedy."""
    e = 1.0
    for _ in range(50):
        e -= 0.1 * (e - 0.0)
    wide = trained.digits(FP32, full).accuracy
    recipes = {
        "pure bf16": (pure("bf16"), -6.2, 5.0),
        "Kahan": (compensated("bf16"), 0, 0.7),
        "stochastic": (stochastic("bf16"), 0, 1.0),
        "float32 copy": (mixed("bf16"), 0, 0.7),
    }
    return [
        *digits(("e after 50 steps, from 1", "0.00515", e)),
        *(
            mean(f"{n} minus float32, points", d, trained.digits(r, full).accuracy - wide, spread)
            for n, (r, d, spread) in recipes.items()
        ),
    ]


@add(
    48,
    "Train a network to predict the rounding errors.",
    "false",
    "Nothing has to be predicted: where nothing overflows, the error of an addition can be computed"
    " exactly, and that of a product too where it does not underflow.",
)
def errors_are_computable(full: bool) -> list[Check]:
    """Compute the errors of fp16 operations in fp16, and count where they are not exact."""
    rng = np.random.default_rng(0)
    a, b = (ps.round_to(np.float64(rng.normal(size=5000)), "fp16") for _ in range(2))
    plus, minus = (partial(f, spec="fp16") for f in (ps.add, ps.subtract))
    s = plus(a, b)
    t = minus(s, a)
    error = plus(minus(a, minus(s, t)), minus(b, t))
    p = ps.multiply(a, b, "fp16")
    rest = ps.fma(a, b, -p, "fp16")
    kept = np.abs(a * b) >= 2.0**-3  # the error of a smaller product may underflow
    return equal(
        ("of 5,000 sums: errors that are not exact", 0, int((s + error != a + b).sum())),
        ("of the products above 1/8", 0, int((p + rest != a * b)[kept].sum())),
    )


@add(
    49,
    "Asynchronous mixed precision is faster and as accurate.",
    "depends",
    "How fast it is depends on the machines. What it costs is decided by how late the gradients"
    " are, in any format.",
    "run",
)
def late_gradients(full: bool) -> list[Check]:
    """Apply gradients some steps late."""
    expected = (
        {0: (96.3, 2.5), 16: (59.6, 25), 64: (15.3, 12)}
        if full
        else {0: (96.3, 2.5), 64: (15.3, 12)}
    )
    found = []
    for delay, (points, spread) in expected.items():
        wide = switching.delayed(FP32, delay, trained.seeds(full))
        narrow = switching.delayed(mixed("bf16"), delay, trained.seeds(full))
        found.append(mean(f"float32, {delay} steps late, accuracy %", points, wide, spread))
        found.append(mean(f"mixed bf16 minus float32, {delay} steps", 0, narrow - wide, 6))
    return found


@add(
    50,
    "Distributed training works the same in half precision.",
    "depends",
    "It depends on the format and the order in which the gradients are added up.",
    "run",
)
def all_reduce(full: bool) -> list[Check]:
    """Add up large gradients, small ones, and 44 real ones in two orders."""
    large = ps.accumulate(np.full(1024, 100, np.float32), "fp16")
    parts = accumulated.gradients(full)
    found = equal(
        ("1024 gradients of 100 in fp16", np.inf, float(large)),
        ("2^-15, divided by 1024 before adding, fp16", 0, rounded(2.0**-15 / 1024, "fp16")),
    )
    for name in ("fp32", "fp16", "bf16"):
        share = accumulated.changed_by_order(parts, name)
        found.append(mean(f"{name}: % of sums that the reverse order changes", 60, share, 15))
    return found


@add(
    51,
    "Pruning and half precision combine freely.",
    "true",
    "The accuracy of a pruned network is the same in fp16. The bits that say which weights are left"
    " count too.",
    "run",
)
def pruning(full: bool) -> list[Check]:
    """Prune trained networks, and score them in both formats."""
    found = []
    usual = {0.5: (96.2, 3), 0.8: (83.8, 8), 0.9: (54.9, 8)}
    for share, (expected, spread) in usual.items():
        wide, narrow = (trained.pruned(name, share, full) for name in ("fp32", "fp16"))
        found.append(mean(f"{share:.0%} pruned, float32, accuracy %", expected, wide, spread))
        found.append(mean(f"{share:.0%} pruned, fp16 minus float32", 0, narrow - wide, 0.6))
    n = 64 * 64 + 64 * 10
    kept = n - round(0.9 * n)
    return found + equal(
        ("bytes of 4,736 weights in float32", 18944, 4 * n),
        ("in fp16", 9472, 2 * n),
        ("90 % pruned, fp16 and a bit mask", 1540, 2 * kept + n // 8),
    )
