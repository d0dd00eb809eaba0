"""Section B: what mixed precision is."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims import trained
from experiments.claims.row import Section, digits, equal, inside, mean, near
from experiments.claims.training import FP32, Recipe, mixed, pure, stochastic

SECTION = Section("B. What mixed precision is")
add = SECTION.add


@add(
    21,
    "Mixed precision mixes float64 with float32 or fp16.",
    "false",
    "It mixes float32 with fp16, bf16 or 8 bits. float64 instead of float32 changes nothing here.",
    "run",
)
def float64_changes_nothing(full: bool) -> list[Check]:
    """Train in float64 and in float32."""
    wide, usual = trained.in_float64(full), trained.digits(FP32, full, rate=0.1)
    return [
        mean("float32, accuracy %", 96.72, usual.accuracy, 1.5),
        mean("float64 minus float32, points", 0, wide.accuracy - usual.accuracy, 0.3),
    ]


@add(
    22,
    "Inputs are kept in float32, weights and biases in fp16.",
    "false",
    "It is the weights that need the wide copy: their changes are small.",
    "run",
)
def weights_need_the_wide_copy(full: bool) -> list[Check]:
    """Train with a small learning rate: fp16 weights alone, and everything else in fp16."""
    narrow = trained.slowly(Recipe(weights="fp16", change="fp16"), full).accuracy
    wide = trained.slowly(FP32, full).accuracy
    return [
        mean("float32, accuracy %", 82.61, wide, 5),
        mean("fp16 weights alone minus float32, points", -15.8, narrow - wide, 6),
        mean("mixed fp16 minus float32", 0, trained.slowly(mixed("fp16"), full).accuracy - wide, 1),
    ]


@add(
    23,
    "Store the parameters in 16 bits, compute, and convert the result up.",
    "false",
    "With a small learning rate 16-bit weights stop changing. Stochastic rounding helps.",
    "run",
)
def stored_in_16_bits(full: bool) -> list[Check]:
    """Train with a small learning rate in one 16-bit format."""
    wide = trained.slowly(FP32, full).accuracy
    recipes = {
        "pure fp16": (pure("fp16"), -15.8, 6.0),
        "pure bf16": (pure("bf16"), -68.5, 9.0),
        "bf16, stochastic": (stochastic("bf16"), -0.4, 2.0),
    }
    return [
        mean(f"{name} minus float32, points", expected, trained.slowly(r, full).accuracy - wide, d)
        for name, (r, expected, d) in recipes.items()
    ]


@partial(jax.jit, static_argnames=("spec", "is_compensated"))
def added_up(start: Any, change: float, keys: Any, spec: str, is_compensated: bool) -> Any:
    """Return weights after a change for each key."""

    def step(state: tuple[Any, Any], key: Any) -> tuple[tuple[Any, Any], None]:
        w, lost = state
        given = {"key": key, "step": 0} if ":sr" in spec else {}
        by = jnp.full_like(w, change)
        if is_compensated:
            return ps.apply_updates(w, by, rounding=spec, compensation=lost), None
        return (ps.apply_updates(w, by, rounding=spec, **given), lost), None

    return jax.lax.scan(step, (start, jnp.zeros_like(start)), keys)[0][0]


def thousand(spec: str, *, is_compensated: bool = False, weights: int = 1) -> np.ndarray:
    """Return 1 after 1,000 additions of 1e-4."""
    keys = jax.random.split(jax.random.key(0), 1000)
    start = jnp.ones(weights)
    return np.asarray(added_up(start, 1e-4, keys, spec, is_compensated))


@add(
    24,
    "Compute gradients in single precision, update in half precision, and convert back.",
    "false",
    "An update in half precision stagnates: 1e-4 added to 1 a thousand times leaves 1. Float32,"
    " Kahan's sum or stochastic rounding keep it.",
)
def update_in_half(full: bool) -> list[Check]:
    """Add small changes to a weight of 1."""
    found = [
        *equal(("1,000 updates of 1e-4 from 1, fp16", 1, thousand("fp16").item())),
        *equal(("bf16", 1, thousand("bf16").item())),
        *digits(("float32", "1.1000166", thousand("fp32").item())),
    ]
    for name, expected in {"fp16": 1.099609375, "bf16": 1.1015625}.items():
        found += equal((f"{name}, Kahan", expected, thousand(name, is_compensated=True).item()))
    for name, spread in {"fp16": 0.0093, "bf16": 0.028}.items():
        weights = thousand(f"{name}:sr", weights=1000)
        found.append(near(f"{name}, stochastic, mean of 1,000", 1.1, weights.mean(), 0.003))
        found.append(near(f"{name}, standard deviation", spread, weights.std(), 0.1 * spread))
    return found


@add(
    25,
    "Small updates vanish.",
    "true",
    "At a weight of 1 an addition of at most the unit roundoff is lost. The smaller the learning"
    " rate, the more are lost.",
    "run",
)
def updates_vanish(full: bool) -> list[Check]:
    """Find the least update that counts, and count those that do not in a training."""
    found = []
    for name in ("fp16", "bf16"):
        half = float(ps.ulp(np.float32(1), name)) / 2
        lost = ps.add(np.float32(1), np.float32(half), name)
        kept = ps.add(np.float32(1), np.float32(half * (1 + 2**-20)), name)
        found += equal(
            (f"1 + unit roundoff in {name}", 1, float(lost)),
            (f"1 + a little more, minus 1, in {name}", 2 * half, float(kept) - 1),
        )
    expected = {("fp16", 0.1): 27, ("fp16", 0.01): 44, ("fp16", 0.001): 86}
    expected |= {("bf16", 0.1): 62, ("bf16", 0.01): 86, ("bf16", 0.001): 98}
    for (name, rate), share in expected.items():
        run = trained.digits(pure(name), full, rate=rate)
        found.append(mean(f"{name}, rate {rate}: lost updates %", share, run.swallowed, 7))
    return found


@add(
    26,
    "Gradients are computed in single precision.",
    "false",
    "The backward pass has the narrow format. Float32 has the update and the sums inside products.",
    "run",
)
def gradients_are_narrow(full: bool) -> list[Check]:
    """Compare gradients with those in float32, always of all seeds: single ones lie far apart."""
    errors = {name: trained.gradient_errors(name, True) for name in ("fp16", "bf16")}
    return [
        mean("fp16: relative L2 error", 2.0e-3, errors["fp16"], 1.2e-3),
        mean("bf16: relative L2 error", 1.9e-2, errors["bf16"], 1.1e-2),
    ]


@add(
    27,
    "The update of mixed precision uses half the learning rate.",
    "false",
    "Precision does not touch the learning rate. Half of it is another training, a worse one here.",
    "run",
)
def half_the_rate(full: bool) -> list[Check]:
    """Train with either rate, and mixed with the whole one."""
    whole = trained.digits(FP32, full).accuracy
    half = trained.digits(FP32, full, rate=0.005).accuracy
    both = trained.digits(mixed("fp16"), full).accuracy
    return [
        mean("float32, accuracy %", 89.67, whole, 3),
        mean("half the rate, difference", -7.4, half - whole, 3),
        mean("mixed fp16 with the whole rate, difference", 0, both - whole, 0.6),
    ]


@add(
    28,
    "Half precision halves the value of the gradient.",
    "false",
    "It halves the bits. The values stay what they are.",
    "run",
)
def gradients_keep_their_size(full: bool) -> list[Check]:
    """Divide gradients by those in float32."""
    return [
        mean(f"{name}: median ratio to float32", 1, trained.gradient_ratios(name, full), 0.01)
        for name in ("fp16", "bf16")
    ]


@add(
    29,
    "The gradient of the squared error of y = θx is -2(x - θx).",
    "false",
    "It is -2x(t - θx), with the target t.",
)
def gradient_of_squared_error(full: bool) -> list[Check]:
    """Differentiate by hand and by a finite difference, exact for a parabola."""
    x, theta, target = 2.0, 3.0, 1.0

    def error(theta: float) -> float:
        return (target - theta * x) ** 2

    slope = (error(theta + 0.5) - error(theta - 0.5)) / 1.0
    return equal(
        ("finite difference at x = 2, θ = 3, t = 1", 20, slope),
        ("-2x(t - θx)", 20, -2 * x * (target - theta * x)),
        ("-2(x - θx)", 8, -2 * (x - theta * x)),
    )


@add(
    30,
    "Fine-tuning the weights keeps the accuracy in half precision.",
    "false",
    "What keeps it here are float32 copies of the weights: as many epochs with them end higher. Who"
    " needs a loss scale too is another question (row 36).",
    "run",
)
def what_keeps_accuracy(full: bool) -> list[Check]:
    """Go on training in pure bf16 from trained weights, and with float32 copies."""
    start = trained.digits(pure("bf16"), full)
    tuned = trained.further(pure("bf16"), start, full).accuracy
    kept = trained.further(mixed("bf16"), start, full).accuracy
    return [
        inside("20 more epochs, pure bf16 minus float32 copies", -12, -0.5, (tuned - kept).mean()),
        inside("20 more with float32 copies, points gained", 4, 14, (kept - start.accuracy).mean()),
    ]


@add(
    31,
    "The precision loss is adjusted dynamically.",
    "false",
    "What is adjusted is the loss scale: halved where a gradient is infinite, doubled after a number"
    " of finite steps.",
)
def dynamic_loss_scale(full: bool) -> list[Check]:
    """Let a scale of 2^16 meet gradients of up to 10 in fp16."""
    scale = ps.DynamicLossScale(factor=2.0**16, growth_interval=2000)
    skipped = 0
    while True:
        product = ps.round_to(np.float32(10 * float(scale.factor)), "fp16")
        is_finite = bool(np.isfinite(product))
        scale = scale.adjust(np.asarray(is_finite))
        if is_finite:
            break
        skipped += 1
    return equal(("skipped steps", 4, skipped), ("scale after them", 4096, float(scale.factor)))


@add(
    32,
    "The accuracy of mixed precision is equal or better.",
    "depends",
    "Equal: it is, within less than what the seeds change. Better: no gain is seen beyond that.",
    "run",
)
def equal_accuracy(full: bool) -> list[Check]:
    """Compare mixed with float32, paired by seed."""
    wide = trained.digits(FP32, full, rate=0.1).accuracy
    means, single = [], []
    for name in ("bf16", "fp16"):
        points = trained.digits(mixed(name), full, rate=0.1).accuracy - wide
        means.append(mean(f"mixed {name} minus float32, points", 0, points, 0.3))
        single.append(near(f"mixed {name}: of the seed that loses most", 0, points.min(), 0.6))
        single.append(near(f"mixed {name}: of the seed that gains most", 0, points.max(), 0.6))
    seeds = inside("standard deviation of float32 over seeds", 0.3, 3, wide.std())
    return [*means, seeds, *single]


@add(
    33,
    "Some models generalise worse in mixed precision.",
    "not seen here",
    "One network was measured: its gap between training and test accuracy is that of float32. That"
    " refutes nothing of other models.",
    "run",
)
def generalisation(full: bool) -> list[Check]:
    """Compare the gaps, paired by seed."""
    gaps = {}
    for name, recipe in {"fp32": FP32, "fp16": mixed("fp16"), "bf16": mixed("bf16")}.items():
        run = trained.digits(recipe, full, rate=0.1)
        gaps[name] = run.training_accuracy - run.accuracy
    return [
        mean("gap of float32, points", 1.32, gaps["fp32"], 1.5),
        mean("mixed fp16 minus float32", 0, gaps["fp16"] - gaps["fp32"], 0.3),
        mean("mixed bf16 minus float32", 0, gaps["bf16"] - gaps["fp32"], 0.3),
    ]


@add(
    34,
    "Robustness to noise is worse in half precision.",
    "depends",
    "Noise in the inputs costs the same. Inputs that leave the range of fp16 cost everything.",
    "run",
)
def robustness(full: bool) -> list[Check]:
    """Disturb the inputs of trained networks."""
    usual = trained.disturbed("fp32", full, noise=0.3)
    found = [
        mean(
            f"noise 0.3: {n} minus float32, points",
            0,
            trained.disturbed(n, full, noise=0.3) - usual,
            0.5,
        )
        for n in ("fp16", "bf16")
    ]
    expected = {"fp32": 96.5, "bf16": 96.6, "fp16": 9.9}
    return found + [
        mean(f"inputs x 1e5: {n}, accuracy %", e, trained.disturbed(n, full, factor=1e5), 2.5)
        for n, e in expected.items()
    ]


@add(
    35,
    "Low precision hurts interpretability.",
    "cannot be tested",
    "Nobody says what would be measured. What can be: decisions (row 17) and gradients (row 26).",
    "run",
)
def interpretability(full: bool) -> list[Check]:
    """Measure what input gradients and decisions change."""
    return [
        mean(
            "bf16: input gradients, relative L2 error",
            0.02,
            trained.input_gradient_errors("bf16", full),
            0.015,
        ),
        mean("bf16: changed decisions of 360", 0.2, trained.changed_decisions("bf16", full), 0.8),
    ]
