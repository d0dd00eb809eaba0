"""Section A: the rows that trained networks decide."""

from experiments.check import Check
from experiments.claims import trained
from experiments.claims.a_steps import SECTION
from experiments.claims.row import inside, mean
from experiments.claims.training import FP32, Recipe, stochastic

add = SECTION.add


@add(
    9,
    "An affine code is cruder than floating point.",
    "depends",
    "Weights of a network lie in a narrow range, where an affine code of the same bits is finer."
    " Over a wide range floating point is (row 5).",
    "run",
)
def affine_of_weights(full: bool) -> list[Check]:
    """Code the weights of a trained network."""
    expected = {"fp16": 73.8, "bf16": 55.6, "e4m3": 31.3, "e5m2": 25.5}
    expected |= {"uint16": 89.2, "uint8": 41.0, "uint4": 16.4}
    return [
        mean(f"SQNR of {name}, dB", value, trained.sqnr_of_weights(name, full), 2)
        for name, value in expected.items()
    ]


@add(
    14,
    "The rounding modes are ceiling, floor, round and nearest.",
    "false",
    "IEEE 754 has five: to nearest with ties to even or away, toward zero, up, down. There are also"
    " stochastic rounding and rounding to odd, and it matters which one updates the weights.",
    "run",
)
def rounding_modes(full: bool) -> list[Check]:
    """Train with bf16 weights that are rounded in each mode."""
    points = {"rne": 83.5, "rna": 83.6, "rtz": 80.5, "rtp": 90.6, "rtn": 75.6}
    wide = trained.digits(FP32, full)
    found = [mean("float32, accuracy %", 89.67, wide.accuracy, 3)]
    runs = {}
    for mode, expected in points.items():
        recipe = Recipe(compute="bf16", weights=f"bf16:{mode}", change=f"bf16:{mode}")
        runs[mode] = trained.digits(recipe, full)
        found.append(mean(f"weights in bf16:{mode}", expected, runs[mode].accuracy, 6))
    found.append(mean("bf16:sr", 89.75, trained.digits(stochastic("bf16"), full).accuracy, 3))
    loss = runs["rtp"].loss - wide.loss
    return [*found, mean("rtp: loss minus that of float32", 0.28, loss, 0.25)]


@add(
    17,
    "Lower precision reduces floating-point errors.",
    "false",
    "It enlarges them. Decisions of a trained network bear much of it.",
    "run",
)
def errors_of_logits(full: bool) -> list[Check]:
    """Compute the logits of a trained network in each format."""
    expected = {"fp32": 1.4e-7, "fp16": 3.3e-4, "bf16": 3.0e-3, "e4m3": 4.3e-2, "e5m2": 1.0e-1}
    changed = {
        "fp32": (0, 0.0),
        "fp16": (0, 0.5),
        "bf16": (0, 0.7),
        "e4m3": (1, 7),
        "e5m2": (3, 12),
    }
    found = [
        mean(
            f"{name}: relative L2 error of the logits", e, trained.logit_errors(name, full), 0.6 * e
        )
        for name, e in expected.items()
    ]
    for name, (low, high) in changed.items():
        decisions = trained.changed_decisions(name, full).mean()
        found.append(inside(f"{name}: changed decisions of 360", low, high, decisions))
    return found
