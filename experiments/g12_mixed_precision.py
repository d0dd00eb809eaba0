"""Mixed precision: what fp16 loses of gradients and updates, and what brings it back.

P. Micikevicius et al., *Mixed Precision Training*, ICLR 2018, arXiv 1710.03740, sections 3.1 and
3.2, Figs. 2 and 3: gradients below half the smallest number of fp16 become 0, unless the loss is
multiplied by a scale; an update of less than half an ulp leaves an fp16 weight as it was, unless a
float32 master copy is kept. Their data are those of large models. Here it is the mechanism at small
scale: a perceptron 784-256-256-256-10 on 4,000 digits of MNIST; with `fast` scikit-learn's digits
and 64-64-64-64-10. Weights, activations and gradients are rounded to fp16, sums are float32.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import precsim as ps
from experiments import perceptron
from experiments.check import Check, Grade, Results
from experiments.perceptron import Digits, Layers

TITLE = "Mixed precision: gradients that vanish in fp16, loss scales, master weights"
CITATION = "Micikevicius et al., ICLR 2018, arXiv 1710.03740, 3.1-3.2, Figs. 2-3"
CLASS: Grade = "B"
PANELS = 4
SEED = 0
INPUTS = ("perceptron.py",)
NEEDS = "the package mlxtend for the full run"
SECONDS = (29, 120)

PUBLISHED: dict[str, Any] = {
    "read in": "Micikevicius et al., as quoted: values below 2^-24 vanish; a weight swallows updates 2048 times "
    "smaller. Exact facts: the format. Shares and errors: recomputed by an independent script of ours on 4000 of "
    "MNIST's digits (full run), in percent.",
    "fl(1 + 2^-11)": 1.0,
    "fl(1 + 2^-11 + 2^-20)": 1 + 2.0**-10,
    "fl(2^-25)": 0.0,
    "fl(2^-25 + 2^-35)": 2.0**-24,
    "a weight swallows an update so many times smaller": 2048.0,
    "vanished by loss scale": {1: 5.51, 8: 2.37, 128: 0.57, 1024: 0.25, 32768: 0.06},
    "updates lost": 84.0,
    "test error": {"no master weights": 20.3, "fp32 master weights": 15.4},
    "master weights better by more than": 2.0,
}
TASKS = {False: "mnist5k", True: "digits"}
HIDDEN = {"mnist5k": 256, "digits": 64}
MEASURED_BATCHES = 10


@partial(jax.jit, static_argnames="fmt")
def train_epoch(
    layers: Layers, batches: Any, rate: Any, loss_scale: Any, has_masters: Any, fmt: str
) -> tuple[Layers, Any]:
    """Return the layers after all batches, and counts of each.

    The counts: nonzero activation gradients, those that vanish; nonzero updates, those that are
    lost.
    """

    def step(layers: Layers, batch: Any) -> tuple[Layers, Any]:
        pictures, labels = batch
        nonzero, vanished = [], []

        def rounded(values: Any, place: str) -> Any:
            result = ps.round_to(values, fmt)
            if place == "cotangent":
                nonzero.append(jnp.sum(values != 0))
                vanished.append(jnp.sum((values != 0) & (result == 0)))
            return result

        (old, restore), scale = ravel_pytree(layers), jnp.float32(loss_scale)
        copies = restore(ps.round_to(old, fmt))
        _, found = perceptron.gradients(copies, pictures, labels, scale, rounded)
        gradient = ps.round_to(ravel_pytree(found)[0], fmt) / scale
        is_finite = jnp.all(jnp.isfinite(gradient))  # else the step is skipped
        update = jnp.where(is_finite, -rate * gradient, 0)
        narrow, wide = (ps.apply_updates(old, update, rounding=spec) for spec in (fmt, "fp32"))
        new = jnp.where(has_masters, wide, narrow)
        lost = jnp.sum((update != 0) & (new == old))
        return restore(new), (sum(nonzero), sum(vanished), jnp.sum(update != 0), lost)

    return jax.lax.scan(step, layers, batches)


@jax.jit
def exact_gradients(layers: Layers, pictures: Any, labels: Any) -> tuple[Any, Any]:
    """Return the gradients of layer outputs, as they come up, and of weights, all in float32."""
    cotangents = []

    def noted(values: Any, place: str) -> Any:
        if place == "cotangent":
            cotangents.append(values.ravel())
        return values

    _, found = perceptron.gradients(layers, pictures, labels, jnp.float32(1), noted)
    return jnp.concatenate(cotangents), jnp.concatenate([w.ravel() for w, _ in found])


def train(
    digits: Digits,
    fmt: str,
    rate: float,
    loss_scale: float,
    has_masters: bool,
    batches: np.ndarray,
    seed: int,
) -> tuple[Layers, np.ndarray, np.ndarray]:
    """Return the layers, test errors by epoch in percent, and counts, shape (epochs, 4)."""
    hidden = HIDDEN[digits.name]
    sizes = (digits.pictures.shape[1], hidden, hidden, hidden, 10)
    stored = "fp32" if has_masters else fmt
    first = perceptron.first_layers(sizes, seed)
    layers = jax.tree.map(lambda w: ps.round_to(w.astype(np.float32), stored), first)
    pictures, test_pictures = (
        ps.round_to(x.astype(np.float32), fmt) for x in (digits.pictures, digits.test_pictures)
    )
    errors, counts = [], []
    for batch in batches:
        layers, found = train_epoch(
            layers,
            (pictures[batch], digits.labels[batch]),
            np.float32(rate),
            np.float32(loss_scale),
            has_masters,
            fmt,
        )
        layers = jax.tree.map(np.asarray, layers)
        copies = jax.tree.map(lambda w: ps.round_to(w, fmt), layers)
        logits = perceptron.outputs(copies, test_pictures, lambda y, _: ps.round_to(y, fmt))[-1]
        errors.append(perceptron.test_error(logits, digits))
        counts.append([int(count.sum()) for count in found])
    return layers, np.array(errors), np.array(counts)


def facts(fmt: str) -> dict[str, float]:
    """Return four roundings, and by how much an update may be smaller than 1 and yet change it."""
    values = {
        "fl(1 + 2^-11)": 1 + 2.0**-11,
        "fl(1 + 2^-11 + 2^-20)": 1 + 2.0**-11 + 2.0**-20,
        "fl(2^-25)": 2.0**-25,
        "fl(2^-25 + 2^-35)": 2.0**-25 + 2.0**-35,
    }
    found = {name: float(ps.round_to(np.float64(value), fmt)) for name, value in values.items()}
    times = np.arange(1.0, 8193.0)
    stays = ps.add(np.ones_like(times), 1 / times, fmt) == 1
    name = "a weight swallows an update so many times smaller"
    return found | {name: float(times[stays].min(initial=np.inf))}


def weights_kept(fmt: str) -> dict[str, tuple[str, bool]]:
    """Return the format of everything else, and whether float32 master weights are kept."""
    return {
        "no master weights": (fmt, False),
        "fp32 master weights": (fmt, True),
        "all fp32": ("fp32", True),
    }


def compute(
    fast: bool,
    *,
    format_: str = "fp16",
    loss_scales: tuple[float, ...] = (1.0, 8.0, 128.0, 1024.0, 32768.0),
    epochs: int = 20,
    batch_size: int = 100,
    learning_rate: float = 0.05,
    small_rate: float = 0.002,
    seed: int = SEED,
) -> Results:
    """Return roundings, vanished gradients by loss scale, and errors with and without masters.

    Parameters
    ----------
    fast : bool
        scikit-learn's digits instead of MNIST's.
    format_ : str
        Format of weights, activations and gradients.
    loss_scales : tuple of float
        Factors on the loss, with master weights.
    epochs : int
        Passes over the digits.
    batch_size : int
        Digits in a step.
    learning_rate : float
        Step size of the runs with loss scales.
    small_rate : float
        Step size of the runs with and without master weights.
    seed : int
        Decides split, first weights and order.
    """
    digits = perceptron.load_digits(TASKS[fast], seed)
    order = perceptron.batches(digits, batch_size, epochs, seed)
    run = partial(train, digits, batches=order, seed=seed)
    results: Results = {
        "task": np.array(digits.name),
        "format": np.array(format_),
        "loss scales": np.array(loss_scales, np.float64),
        "epochs": np.arange(1, epochs + 1),
    }
    results |= {name: np.asarray(value) for name, value in facts(format_).items()}
    shares = []
    for scale in loss_scales:
        layers, _, counts = run(format_, learning_rate, scale, True)
        shares.append(100 * counts[:, 1] / counts[:, 0])
    results["vanished"] = np.array(shares)
    measured = order[-1, :MEASURED_BATCHES]
    found = [
        exact_gradients(layers, digits.pictures[b].astype(np.float32), digits.labels[b])
        for b in measured
    ]
    for name, arrays in zip(("activations", "weights"), zip(*found, strict=True), strict=True):
        histogram = ps.errors.exponent_histogram(np.concatenate(arrays))
        results[f"exponents, {name}"] = np.asarray(histogram.exponents)
        results[f"counts, {name}"] = np.asarray(histogram.counts)
    for name, (fmt, has_masters) in weights_kept(format_).items():
        _, errors, counts = run(fmt, small_rate, 1.0, has_masters)
        results[f"error, {name}"] = errors
        results[f"lost, {name}"] = 100 * counts[:, 3] / np.maximum(counts[:, 2], 1)
    return results


def check(results: Results) -> list[Check]:
    """Compare roundings exactly, the order of shares, and on MNIST the reference."""
    checks = [
        Check(name, theirs, float(results[name]), grade="A")
        for name, theirs in PUBLISHED.items()
        if isinstance(theirs, float) and name in results
    ]
    scales, shares = results["loss scales"].tolist(), results["vanished"][:, -1].tolist()
    ends = list(zip(scales, shares, strict=True))
    for (scale, share), (larger, smaller_share) in pairwise(ends):
        name = f"vanish at loss scale {larger:g}, of each that does at {scale:g}"
        ratio = smaller_share / share if share else np.nan  # 0: none vanishes any more
        checks.append(Check(name, (0, 1 / 1.5), ratio, "range", 0, "C"))
    errors = {name: float(results[f"error, {name}"][-1]) for name in PUBLISHED["test error"]}
    gain = errors["no master weights"] - errors["fp32 master weights"]
    least = PUBLISHED["master weights better by more than"]
    checks.append(Check("error without master weights, above", (least, 100), gain, "range", 0, "C"))
    rest = errors["fp32 master weights"] - float(results["error, all fp32"][-1])
    checks.append(Check("error with master weights, above fp32", (-2, 2), rest, "range", 0, "C"))
    lost = float(results["lost, no master weights"][-1])
    checks.append(Check("updates lost", PUBLISHED["updates lost"], lost, "absolute", 4, "C"))
    kept = float(results["lost, fp32 master weights"][-1])
    checks.append(Check("updates lost by master weights", (0, 2), kept, "range", 0, "C"))
    if str(results["task"]) == TASKS[False]:
        for scale, theirs in PUBLISHED["vanished by loss scale"].items():
            name = f"vanish at loss scale {scale}, percent"
            around = (theirs / 2.5, 2.5 * theirs)
            checks.append(Check(name, around, dict(ends)[scale], "range", 0, "C"))
        for label, theirs in PUBLISHED["test error"].items():
            checks.append(Check(f"error, {label}", theirs, errors[label], "absolute", 10, "C"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw exponents of gradients, what vanishes by loss scale, lost updates and test errors."""
    fmt, epochs = str(results["format"]), results["epochs"]
    histograms = {
        f"gradients of {name}": (results[f"exponents, {name}"], results[f"counts, {name}"])
        for name in ("activations", "weights")
    }
    ps.plots.plot_exponent_histogram(axes[0], histograms, [fmt])
    axes[0].set_title(f"gradients in float32 ({results['task']})")
    scales, shares = results["loss scales"], results["vanished"][:, -1]
    ps.plots.plot_curves(axes[1], {f"{fmt}, last epoch": (scales, shares)})
    if str(results["task"]) == TASKS[False]:
        points = PUBLISHED["vanished by loss scale"]
        ps.plots.plot_published(axes[1], list(points), list(points.values()), "reference")
    axes[1].set(xscale="log", yscale="log", xlabel="loss scale")
    axes[1].set(ylabel="share that becomes 0 (%)", title="activation gradients that vanish")
    for panel, name in zip(axes[2:], ("lost", "error"), strict=True):
        curves = {kept: (epochs, results[f"{name}, {kept}"]) for kept in weights_kept(fmt)}
        ps.plots.plot_curves(panel, curves)
        panel.set(xlabel="epoch", ylim=(-4, 104))
    axes[2].set(ylabel="nonzero updates (%)", title=f"updates that change no weight ({fmt})")
    axes[3].set(ylabel="test error (%)", title=f"small learning rate ({fmt})")
    for panel in axes[1:]:
        ps.plots.finish(panel)
