"""Section F: what the articles contradict each other on, each with an experiment of its own."""

import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims import families, trained
from experiments.claims.cart_pole import lengths
from experiments.claims.e_cost import BERT_BASE, WHERE, times_faster
from experiments.claims.row import Section, equal, inside, mean
from experiments.claims.training import FP32, mixed, pure

SECTION = Section("F. Where the articles contradict each other")
add = SECTION.add


@add(
    73,
    "Reinforcement learning does not work in half precision.",
    "false",
    "A policy that balances a pole is learnt in mixed fp16 and bf16 as well as in float32. Seeds"
    " change more than formats do.",
    "run",
)
def pole(full: bool) -> list[Check]:
    """Learn to balance a pole, in three formats."""
    n = families.seeds(full)
    wide = lengths(FP32, n)
    fp16, bf16 = lengths(mixed("fp16"), n, 1024) - wide, lengths(mixed("bf16"), n) - wide
    among_seeds, by_format = float(wide.std()), max(abs(fp16).max(), abs(bf16).max())
    text = (
        f"float32: steps of 100 that the pole stands, mean of {n} seeds, standard deviation"
        f" {among_seeds:.2g}"
    )
    return [
        inside(text, 60, 100, wide.mean()),
        inside("largest difference by a format, of one seed", 0, among_seeds, by_format),
        mean("mixed fp16, S = 1024, minus float32", 0, fp16, 6),
        mean("mixed bf16 minus float32", 0, bf16, 6),
    ]


def three_formats(name: str, low: float, full: bool) -> list[Check]:
    """Compare a family under float32, mixed fp16 and mixed bf16."""
    wide, fp16, bf16 = (families.accuracy(name, f, full) for f in ("fp32", "fp16", "bf16"))
    return [
        inside(f"float32, accuracy %, mean of {len(wide)} seeds", low, 100, wide.mean()),
        mean("mixed fp16, S = 1024, minus float32, points", 0, fp16 - wide, 2),
        mean("mixed bf16 minus float32, points", 0, bf16 - wide, 2),
    ]


@add(
    74,
    "Segmentation is unsuited to half precision.",
    "false",
    "A network that says of each pixel which shape it shows is as good in mixed fp16 and bf16.",
    "run",
)
def segmentation(full: bool) -> list[Check]:
    """Segment squares and discs."""
    return three_formats("segmentation", 85, full)


@add(
    75,
    "Speech is unsuited to half precision.",
    "false",
    "A recurrent network that recognises melodies is as good in mixed fp16 and bf16.",
    "run",
)
def speech(full: bool) -> list[Check]:
    """Recognise melodies of two tones in noise."""
    return three_formats("speech", 60, full)


@add(
    76,
    "The cost halves and the accuracy is unchanged.",
    "depends",
    "Split it: stored weights halve, and so do activations. The state of a training stays. Time"
    " depends on the machine. Accuracy is unchanged with float32 copies of the weights.",
    "gpu",
)
def split(full: bool) -> list[Check]:
    """Take bytes, state, time and accuracy apart."""
    stored = [ps.cost(BERT_BASE, policy=name).weights for name in ("fp32", "fp16")]
    state = [ps.cost(BERT_BASE, policy=n, optimizer="adam").total for n in ("fp32", "fp16_mixed")]
    products = [
        ps.cost(jnp.matmul, np.ones((8, 8), np.float32), np.ones((8, 8), np.float32), policy=name)
        for name in ("fp32", "fp16")
    ]
    wide = trained.digits(FP32, full).accuracy
    kept, narrow = (trained.digits(r, full).accuracy for r in (mixed("bf16"), pure("bf16")))
    return [
        *equal(("bytes of the weights, fp16 / float32", 0.5, stored[1] / stored[0])),
        *equal(("operations, fp16 / float32", 1, products[1].operations / products[0].operations)),
        inside("bytes of a training with Adam, mixed / float32", 0.999, 1.001, state[1] / state[0]),
        inside(
            f"time of a step of BERT-base, tf32 / bf16 ({WHERE})",
            1.7, 2.7, times_faster("bert_base", "bf16", "tf32"),
        ),
        mean("accuracy, mixed bf16 minus float32, points", 0, kept - wide, 0.7),
        mean("accuracy, pure bf16 minus float32, points", -6.2, narrow - wide, 5),
    ]  # fmt: skip
