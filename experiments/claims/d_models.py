"""Section D: layers, families of models, fields."""

import math

import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims import families, trained
from experiments.claims.a_formats import rounded
from experiments.claims.row import Section, digits, equal, inside, mean
from experiments.claims.training import FP32, Recipe, pure

SECTION = Section("D. Layers, families of models, fields")
add = SECTION.add


@add(
    52,
    "Mixed precision works for convolutional, recurrent, attention and residual networks.",
    "true",
    "It does with float32 copies of the weights, in all families that are measured here: recurrent"
    " and residual networks, and with --full the others.",
    "run",
)
def all_families(full: bool) -> list[Check]:
    """Train small networks of each family with Adam, paired by seed."""
    expected = {"cnn": 97.9, "depthwise": 94.6, "rnn": 96.7, "attention": 91.6, "residual": 97.1}
    names = tuple(expected) if full else ("rnn", "residual")
    found = []
    for name in names:
        wide, fp16, bf16 = (families.accuracy(name, f, full) for f in ("fp32", "fp16", "bf16"))
        found.append(mean(f"{name}: float32, accuracy %", expected[name], wide, 6))
        found.append(mean(f"{name}: mixed fp16 minus float32", 0, fp16 - wide, 1))
        found.append(mean(f"{name}: mixed bf16 minus float32", 0, bf16 - wide, 1))
    return found


@add(
    53,
    "Softmax and cross-entropy, as they are written, are fine in 16 bits.",
    "false",
    "An exponential overflows fp16 above 11.09, and beyond a gap of 17.33 between two logits a"
    " probability is 0 and its logarithm infinite. A log-softmax in float32 has neither.",
)
def softmax_in_fp16(full: bool) -> list[Check]:
    """Take exponentials on both sides of the limits."""
    largest, gap = math.log(65520), 25 * math.log(2)

    def exp(x: float) -> float:
        return float(ps.exp(np.float64(x), "fp16"))

    below, above = exp(-gap + 1e-6), exp(-gap - 1e-6)
    return [
        *digits(("where exp overflows", "11.09", largest), ("gap", "17.33", gap)),
        *equal(
            ("exp just below 11.09", 65504, exp(largest - 1e-6)),
            ("exp just above", math.inf, exp(largest + 1e-6)),
            ("probability at a slightly smaller gap", 2.0**-24, below),
            ("at a slightly larger gap", 0, above),
            ("its logarithm", -math.inf, float(ps.log(np.float64(above), "fp16"))),
        ),
    ]


@add(
    54,
    "Normalisation layers need no care.",
    "false",
    "Squares of 256 overflow fp16, an epsilon of 1e-12 is 0 in it, and a mask of -1e9 is infinite.",
)
def normalisation(full: bool) -> list[Check]:
    """Compute the parts of a normalisation and of a masked softmax in fp16."""
    eps = rounded(1e-12, "fp16")
    zero = np.float32(0)
    with np.errstate(invalid="ignore"):
        constant = ps.divide(zero, ps.sqrt(ps.add(zero, np.float32(eps), "fp16"), "fp16"), "fp16")
        mask = np.float32(rounded(-1e9, "fp16"))
        row = ps.subtract(np.full(4, mask), mask, "fp16")
    return equal(
        ("255.875 squared in fp16", 65472, rounded(255.875**2, "fp16")),
        ("256 squared", math.inf, rounded(256.0**2, "fp16")),
        ("1e-12", 0, eps),
        ("NaN among 1 number of a constant row, normalised", 1, np.isnan(constant)),
        ("-1e9", -math.inf, float(mask)),
        ("NaN among 4 numbers of a row that is masked entirely", 4, np.isnan(row).sum()),
    )


@add(
    55,
    "Scale the attention scores when you like.",
    "false",
    "Before the product: 64 products of 32 and 32 overflow fp16, scaled first they do not.",
)
def attention_scores(full: bool) -> list[Check]:
    """Multiply queries and keys of 64 elements, scaled after and before."""
    q, k = np.full((1, 64), 32, np.float32), np.full((64, 1), 32, np.float32)
    spec = "fp16_fp16_fp16:sequential"
    after = ps.divide(ps.matmul(q, k, spec), np.float32(8), "fp16")
    before = ps.matmul(q / 8, k, spec)
    return equal(
        ("scaled after the product", math.inf, after.item()),
        ("scaled before", 8192, before.item()),
    )


@add(
    56,
    "Embeddings and recommenders gain most from half precision.",
    "depends",
    "Identifiers have to stay integers (row 20), and a popular item adds up many gradients: their"
    " sum stalls in 16 bits.",
)
def popular_items(full: bool) -> list[Check]:
    """Add 4096 gradients of 1 to one row of a table."""
    rows, item = np.ones((4096, 1), np.float32), np.zeros(4096, np.int32)
    return equal(
        *(
            (
                f"4,096 gradients of 1 in {n}",
                e,
                ps.segment_sum(rows, item, n, num_segments=1).item(),
            )
            for n, e in {"fp32": 4096, "fp16": 2048, "bf16": 256}.items()
        )
    )


@add(
    57,
    "Depthwise convolutions suit low precision better.",
    "false",
    "Here they suit it less: below 8 bits they lose more than usual convolutions.",
    "run",
)
def depthwise(full: bool) -> list[Check]:
    """Round weights and activations of trained networks to affine codes."""
    bits = (8, 5, 4, 3) if full else (8, 4)
    lost = {
        (name, b): families.loss_of_points(name, b, full)
        for name in ("depthwise", "cnn")
        for b in bits
    }
    found = [mean(f"{n}, {b} bits: points lost", 0, x, 1) for (n, b), x in lost.items() if b == 8]
    for b in bits[1:]:
        worse = lost["depthwise", b] - lost["cnn", b]
        low = {5: -0.3, 4: 0.5, 3: 2}[b]
        found.append(inside(f"{b} bits: points that depthwise loses more", low, 60, worse.mean()))
    return found


@add(
    58,
    "Casting a finished model keeps its accuracy.",
    "depends",
    "Down to 8 bits it does here, and affine codes of 4 bits cost about a point. Those of 2 bits cost"
    " tens of points.",
    "run",
)
def casts_after_training(full: bool) -> list[Check]:
    """Cast trained weights and activations, or the weights alone to affine codes."""
    wide = trained.cast("fp32", full)
    expected = {"uint2": (-19, 15), "uint4": (-0.6, 1.5), "uint8": (0, 0.4), "e5m2": (-0.4, 1.2)}
    expected |= {"e4m3": (-0.1, 0.8), "fp16": (0, 0.3), "bf16": (0, 0.3)}
    found = [mean("float32, accuracy %", 96.72, wide, 1.5)]
    for name, (points, spread) in expected.items():
        change = trained.cast(name, full) - wide
        found.append(mean(f"{name} minus float32, points", points, change, spread))
    return found


@add(
    59,
    "Training in fixed point keeps the accuracy.",
    "depends",
    "It depends on the rounding. 12 bits learn nothing to nearest, and all with stochastic"
    " rounding.",
    "run",
)
def fixed_point(full: bool) -> list[Check]:
    """Train with everything in 12 bits of fixed point."""
    wide = trained.digits(FP32, full).accuracy
    everything = Recipe(compute="q3.8:sr", weights="q3.8:sr")
    random = trained.digits(everything, full).accuracy
    return [
        mean("to nearest, accuracy %", 13.06, trained.digits(pure("q3.8"), full).accuracy, 5),
        mean("stochastic minus float32, points", -0.4, random - wide, 1.5),
    ]


RATE, TARGET, STEPS = 0.01, 101, 5000


def learnt_value(spec: str) -> float:
    """Return where TD(0) ends, from 0, with each result rounded."""
    step, target, value = (np.float32(ps.round_to(np.float32(x), spec)) for x in (RATE, TARGET, 0))
    for _ in range(STEPS):
        change = ps.multiply(step, ps.subtract(target, value, spec), spec)
        new = ps.add(value, change, spec)
        if new == value:
            break
        value = np.float32(new)
    return float(value)


@add(
    60,
    "Reinforcement learning is unsuited to half precision; others call it an application.",
    "depends",
    "It depends on the update. A value that is learnt by small steps stalls in 16 bits; with float32"
    " copies it does not (row 73).",
)
def temporal_difference(full: bool) -> list[Check]:
    """Learn one value."""
    how = f"rate {RATE}, target {TARGET}, at most {STEPS:,} steps"
    return [
        *digits((f"{how}: value in float32", "100.9996", learnt_value("fp32"))),
        *equal(("fp16", 97.875, learnt_value("fp16")), ("bf16", 76, learnt_value("bf16"))),
    ]


GROWTHS = 250


def grown(growth: float, spec: str) -> float:
    """Return 1 after many steps of growth."""
    factor = np.float32(ps.round_to(np.float32(1 + growth), spec))
    value = np.float32(1)
    for _ in range(GROWTHS):
        value = np.float32(ps.multiply(value, factor, spec))
    return float(value)


@add(
    61,
    "Finance, control and long recurrences gain as well.",
    "depends",
    "It depends on the size of a step. A growth of at most half an ulp of 1 vanishes: 0.049 % in"
    " fp16, 0.39 % in bf16. A larger one is kept, rounded to whole ulps.",
)
def growth(full: bool) -> list[Check]:
    """Multiply many times, by factors below and above half an ulp."""
    ulps = {name: 100 * float(ps.ulp(np.float32(1), name)) / 2 for name in ("fp16", "bf16")}
    exact = {rate: (1 + rate) ** GROWTHS for rate in (4e-4, 1e-3)}
    return [
        *equal((f"{GROWTHS} steps of 0.04 %, fp16", 1, grown(4e-4, "fp16"))),
        *digits((f"{GROWTHS} of 0.1 %, fp16", "1.244", grown(1e-3, "fp16"))),
        *equal((f"{GROWTHS} of 0.1 %, bf16", 1, grown(1e-3, "bf16"))),
        *equal((f"{GROWTHS} of 0.04 %, bf16", 1, grown(4e-4, "bf16"))),
        *digits((f"{GROWTHS} of 0.04 %, exact", "1.105", exact[4e-4])),
        *digits((f"{GROWTHS} of 0.1 %, exact", "1.284", exact[1e-3])),
        *digits(("half an ulp of 1 in fp16, %", "0.049", ulps["fp16"])),
        *digits(("in bf16, %", "0.39", ulps["bf16"])),
    ]


@add(
    62,
    "The precision of fp16 is enough, because small changes of the loss do not matter.",
    "false",
    "It is enough for the forward pass. Updates and ranges are what it is not enough for.",
    "run",
)
def both_halves(full: bool) -> list[Check]:
    """Count decisions that change, and add a small update."""
    stalled = ps.add(np.float32(1), np.float32(1e-4), "fp16")
    small = ps.round_to(np.float32(1e-8), "fp16")
    return [
        mean("changed decisions of 360", 0, trained.changed_decisions("fp16", full), 0.5),
        *equal(("1 + 1e-4 in fp16", 1, float(stalled)), ("1e-8 in fp16", 0, float(small))),
    ]
