"""Section C: loss scales."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims import trained
from experiments.claims.a_formats import rounded
from experiments.claims.row import Section, digits, equal, inside, mean, near
from experiments.claims.training import (
    FP32,
    Recipe,
    spec_of,
    train,
)

SECTION = Section("C. Loss scales, accumulation, switching, compensation, distribution")
add = SECTION.add


@add(
    36,
    "Mixed precision needs no loss scale (most articles leave it out).",
    "depends",
    "With e4m3 gradients of a mean over many examples nothing is learnt without one. fp16, bf16 and"
    " e5m2 gradients do without here.",
    "run",
)
def loss_scale_matters(full: bool) -> list[Check]:
    """Train on all examples at once, with gradients in each format."""
    scored = {}
    for name, scale in (("fp32", 1), ("e4m3", 1), ("e4m3", 1024), ("e5m2", 1), ("fp16", 1)):
        recipe = Recipe(backward="" if name == "fp32" else spec_of(name))
        run = train(
            recipe, seeds=trained.seeds(full), rate=0.5, epochs=300, scale=scale, batch=1437
        )
        scored[name, scale] = run.accuracy
    wide = scored["fp32", 1]
    return [
        mean("float32, accuracy %", 97.06, wide, 1.5),
        inside("e4m3 gradients, S = 1 (guessing: 10)", 3, 18, scored["e4m3", 1].mean()),
        mean("e4m3, S = 1024, minus float32", 0, scored["e4m3", 1024] - wide, 1),
        mean("e5m2, S = 1, minus float32", 0, scored["e5m2", 1] - wide, 1),
        mean("fp16, S = 1, minus float32", 0, scored["fp16", 1] - wide, 1),
    ]


@add(
    37,
    "Gradients underflow.",
    "true",
    "So they do in fp16 and in 8 bits without a loss scale. In bf16 none does here.",
    "run",
)
def gradients_underflow(full: bool) -> list[Check]:
    """Count the logit gradients of all examples that become 0, after 20 epochs."""
    g = trained.logit_gradients(full)

    def share(name: str, scale: float = 1) -> float:
        rates = ps.errors.range_rates(np.float32(scale) * g, name)
        return 100 * float(rates.underflow_of_nonzero)

    return [
        near("fp16, S = 1, % that become 0", 31.8, share("fp16"), 6),
        near("fp16, S = 1024", 1.3, share("fp16", 1024), 1),
        inside("fp16, S = 65536", 0.003, 0.3, share("fp16", 65536)),
        near("e5m2, S = 1", 86, share("e5m2"), 6),
        near("e4m3, S = 1", 100, share("e4m3"), 0.5),
        *equal(("bf16, S = 1", 0, share("bf16"))),
    ]


@add(
    38,
    "A loss that is a mean over many numbers is harmless.",
    "false",
    "Each gradient of a mean absolute error over 32 images of 1024 x 1024 is 2^-25. That is 0 in"
    " fp16.",
)
def mean_losses(full: bool) -> list[Check]:
    """Round one gradient."""
    g = 1 / (32 * 1024 * 1024)
    return equal(
        ("the gradient", 2.0**-25, g),
        ("in fp16", 0, rounded(g, "fp16")),
        ("in fp16 with S = 1024, unscaled", g, rounded(1024 * g, "fp16") / 1024),
    )


@add(
    39,
    "Any loss scale works, and a larger one is safer.",
    "false",
    "A power of two is exact, others round. Too small a scale leaves zeros, too large a one makes"
    " infinities.",
    "run",
)
def which_loss_scale(full: bool) -> list[Check]:
    """Scale one gradient, and trainings in float32."""
    usual = trained.digits(FP32, full).weights
    changed = {}
    for scale in (1024, 65536, 1000):
        found = trained.digits(FP32, full, scale=scale).weights
        changed[scale] = int((trained.flat(found) != trained.flat(usual)).sum())
    least = next(s for s in (1, 2, 4, 8) if rounded(1e-8 * s, "fp16") > 0)
    error = abs(rounded(1024e-8, "fp16") / 1024e-8 - 1)
    largest = 65520 / 65536
    return [
        *equal(
            ("weights that S = 1024 changes in float32", 0, changed[1024]),
            ("that S = 65536 changes", 0, changed[65536]),
        ),
        inside("that S = 1000 changes", 1, 1e6, changed[1000]),
        *equal(
            ("least power of two that keeps 1e-8 in fp16", 4, least),
            ("gradient of 65520/65536 times 65536", np.inf, rounded(65536 * largest, "fp16")),
            ("65536 in fp16", np.inf, rounded(65536, "fp16")),
        ),
        *digits(
            ("that gradient", "0.99976", largest), ("error of 1e-8 at 1024, %", "0.12", 100 * error)
        ),
    ]


@add(
    40,
    "A loss scaler alone makes a training mixed precision.",
    "false",
    "Without casts to a narrow format it changes nothing.",
    "run",
)
def scaler_alone(full: bool) -> list[Check]:
    """Compare the weights of two trainings, and count narrow operations."""
    run = trained.digits(FP32, full, scale=1024)
    same = trained.flat(run.weights) == trained.flat(trained.digits(FP32, full).weights)
    x = jnp.zeros((32, 64))
    w = jnp.zeros((64, 10))

    def scaled_loss(w: Any, x: Any) -> Any:
        return 1024 * jnp.mean((x @ w) ** 2)

    rows = ps.coverage(jax.grad(scaled_loss), "fp32", w, x).rows
    narrow = [row for row in rows if "16" in row.dtype or "e4m3" in row.dtype]
    return equal(
        ("weights that the scaler changes", 0, int((~same).sum())),
        ("narrow operations of its program", 0, len(narrow)),
    )


@add(
    41,
    "Call backward on the loss, then on the scaled loss.",
    "false",
    "The two gradients add up: unscaled, the sum is g (1 + 1/S).",
)
def backward_twice(full: bool) -> list[Check]:
    """Add a gradient and the scaled one, and unscale."""

    def loss(w: float) -> Any:
        return 2.0 * w

    both = {}
    for scale in (8, 65536):
        total = jax.grad(loss)(1.0) + jax.grad(lambda w: scale * loss(w))(1.0)  # noqa: B023
        both[scale] = float(total / scale) / 2
    return digits(("S = 65536", "1.0000153", both[65536])) + equal(("S = 8", 1.125, both[8]))
