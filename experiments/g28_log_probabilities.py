"""Log-probabilities in training and in sampling: why they differ, and how they become the same.

A trainer reads whole sequences, a sampler one token at a time from a cache, in other batches, with
other padding. Both have the same weights, and yet other log-probabilities, because libraries take
other kernels for other shapes. Reinforcement learning then corrects by importance ratios for
something that is rounding. Threads: NVIDIA-NeMo/RL #3743, #4039, #4243; verl #6280; OpenRLHF #1155;
transformers #31267; vllm #28326; torchforge #513.

Nothing here is published: a number of class A is a difference that has to be 0, or a hash that an
H200's tensor cores gave too (`python -m conformance.log_probabilities`, longer texts).
"""

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

import precsim as ps
from experiments import decoder
from experiments import log_probabilities as lp
from experiments import operation_differences as od
from experiments.check import Check, Grade, Results

TITLE = "Log-probabilities of one model: whole sequences, chunks and single tokens, in any batch"
CITATION = "a miniature; questions: NeMo-RL #3743, verl #6280, OpenRLHF #1155, vLLM #28326"
CLASS: Grade = "A"
PANELS = 3
SECONDS = (35, 90)
INPUTS = ("decoder.py", "decoder.npz", "log_probabilities.py", "operation_differences.py")
RECORDED = {"bf16": "c0d3424362f2", "fp16": "43d89dd20c32"}
PUBLISHED: dict[str, Any] = {
    "read in": "Nothing is published: stated orders have to give equal bits. SHA-256, 48 bits: our own first run, on a CPU.",
    "numbers that differ": 0.0,
    "SHA-256": RECORDED,
}

DTYPES: dict[str, Any] = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
KINDS = {
    "stated": "stated",
    "by column": "keys by column",
    "by shape": "kernels by shape",
    "platform": "platform",
    "one at a time": "platform, one\noperation at a time",
}
MEASURES = (
    "differing", "largest", "mean", "token ratio", "clipped tokens", "sequence ratio",
    "clipped sequences", "divergence", "argmax",
)  # fmt: skip
PRODUCTS = ("qkv", "scores", "values", "projection", "expand", "contract", "output")


def compute(
    fast: bool,
    *,
    formats: tuple[str, ...] = ("bf16", "fp16"),
    machine: str = "h100",
    few_rows: str = "fp32:pairwise",
    order: str = "pairwise",
    whole: int = 8,
    batch: int = 3,
    chunk: int = 5,
    sequences: int = 2,
    length: int = 18,
    clip: float = 0.2,
) -> Results:
    """Return, for each arithmetic and way, how far it is from the reading of whole sequences.

    The fast run reads token by token in the first format, in chunks in the others, and with kernels
    by shape in the last; the full run does all of it in each, and has further ways.

    Parameters
    ----------
    fast : bool
        Whether to leave that out.
    formats : tuple of str
        Formats of weights and of all between the operations: bf16, fp16 or both.
    machine : str
        Whose tensor cores the stated products are.
    few_rows : str
        Accumulator and order of products of fewer than 8 rows, where they are another kernel's.
    order : str
        Order of all other sums.
    whole : int
        Whole sequences at once, 8 and more.
    batch : int
        Sequences at once where they are padded on the left.
    chunk : int
        Tokens at once, 1 to 7, so that a chunk has few rows.
    sequences : int
        Number of texts, up to 64.
    length : int
        Tokens of the longest, up to 48.
    clip : float
        Importance ratios outside 1 - clip to 1 + clip count as clipped.
    """
    if unknown := set(formats) - set(DTYPES):
        raise ValueError(f"formats has {min(unknown)!r}; allowed are {', '.join(DTYPES)}")
    for name, value, lowest, highest in (("chunk", chunk, 1, 7), ("whole", whole, 8, 64)):
        if not lowest <= value <= highest:
            raise ValueError(f"{name} is {value}; allowed are integers from {lowest} to {highest}")
    tokens, lengths = lp.sequences(sequences, length)
    given = tokens, lengths
    first_way, single = lp.Way(batch=whole), lp.Way(batch=1, chunk=chunk)
    left = lp.Way(batch=batch, padding="left", chunk=chunk)
    shifted = replace(left, is_aligned=False)
    results: Results = {"clip": np.asarray(clip)}
    for name in formats:
        stated = decoder.Stated(
            format=name, products=f"{machine}:{name}->{name}", order=order, backend="reference"
        )
        accumulator, _, rest = few_rows.partition(":")
        kernel = ":".join((f"{name}_{name}_{accumulator}->{name}", *filter(None, (rest,))))
        kept = od.results_of(stated, *given, first_way)
        first = kept[list(kept)[-1]]
        results[f"{name}, SHA-256"] = np.asarray(float(int(lp.digest(first)[:12], 16)))
        decoding = replace(left, chunk=1)
        ways = (decoding if name == formats[0] else left,)
        for way in ways if fast else (left, decoding, single, shifted):
            kind = "stated" if way.is_aligned else "by column"
            found = lp.read(stated, *given, way)
            results[f"{name}, {kind}, {way}"] = _measures(found, first, *given, clip)
        if not fast or name == formats[-1]:
            by_shape = replace(stated, few_rows=kernel)
            own = od.results_of(by_shape, *given, single)
            found = own[list(own)[-1]]
            results[f"{name}, by shape, {single}"] = _measures(found, first, *given, clip)
            equal = od.results_of(by_shape, *given, single, instead=kept)
            sizes = [x[0, 0].size * lengths.sum() for x in kept.values()]
            results[f"{name}, operations"] = np.array(list(kept))
            results[f"{name}, differing by operation"] = od.differing(own, kept) / sizes
            results[f"{name}, made by operation"] = od.differing(equal, kept)
        platform = decoder.Platform(DTYPES[name])
        first = lp.read(platform, *given, first_way, runs="program")
        for way in (single,) if fast else (single, shifted):
            found = lp.read(platform, *given, way, runs="program")
            results[f"{name}, platform, {way}"] = _measures(found, first, *given, clip)
        if not fast:
            first, found = (lp.read(platform, *given, x, runs="jax") for x in (first_way, single))
            results[f"{name}, one at a time, {single}"] = _measures(found, first, *given, clip)
    return results


def _measures(
    ours: np.ndarray, whole: np.ndarray, tokens: np.ndarray, lengths: np.ndarray, clip: float
) -> np.ndarray:
    """Return `MEASURES` of a reading; "differing" counts log-probabilities with other bits."""
    found = lp.differences(ours, whole, tokens, lengths, clip)
    found["differing"] = float(np.sum(ours.view(np.uint32) != whole.view(np.uint32)))
    return np.array([found[name] for name in MEASURES])


def check(results: Results) -> list[Check]:
    """Stated orders: no difference. Orders that depend on the batch: some. Platform: a range."""
    checks, changed = [], 0.0
    for key, values in results.items():
        name, _, rest = key.partition(", ")
        kind, _, way = rest.partition(", ")
        if kind == "SHA-256" and name in RECORDED:
            theirs = float(int(RECORDED[name], 16))
            checks.append(Check(f"{name}: 48 bits of SHA-256", theirs, float(values)))
        if kind == "stated":
            checks.append(Check(f"{name}, {way}: differing", 0.0, values[0]))
        if kind == "made by operation":
            operations = results[f"{name}, operations"]
            is_product = [label.split()[0] in PRODUCTS for label in operations.tolist()]
            label = f"{name}, kernels by shape: differences made outside products"
            checks.append(Check(label, 0.0, float(values[np.logical_not(is_product)].sum())))
        if kind in ("by column", "by shape"):
            changed += values[0]
        if kind in ("platform", "one at a time"):
            largest = values[MEASURES.index("largest")]
            label = f"{name}, {kind}, {way}: largest difference"
            checks.append(Check(label, (0.0, 0.5), largest, "range", grade="C"))
    label = "differing where keys stand by column or kernels follow the shape"
    checks.append(Check(label, (1.0, np.inf), changed, "range", grade="B"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw differences of tokens and of sequences by way, and where they are made and grow."""
    parts = [key.split(", ") for key in results]
    formats = list(dict.fromkeys(part[0] for part in parts if len(part) > 1))
    kinds = [kind for kind in KINDS if any(part[1:2] == [kind] for part in parts)][::-1]
    for k, name in enumerate(formats):
        style = {"color": ps.plots.format_color(name), "alpha": 0.7}
        for row, kind in enumerate(kinds):
            found = [x for key, x in results.items() if key.startswith(f"{name}, {kind}, ")]
            rows = np.full(len(found), row + 0.25 * (k - (len(formats) - 1) / 2))
            for panel, measure in ((axes[0], "largest"), (axes[1], "sequence ratio")):
                values = [x[MEASURES.index(measure)] for x in found]
                label = name if row == 0 else None
                panel.plot(values, rows, "os"[k % 2], label=label, **style)
        if f"{name}, operations" not in results:
            continue
        shares, made = (results[f"{name}, {what} by operation"] for what in ("differing", "made"))
        is_made = np.flatnonzero(made)
        axes[2].plot(100 * shares, label=f"{name}: differ", **style)
        axes[2].plot(is_made, 100 * shares[is_made], "os"[k % 2], label="made there", **style)
        operations = results[f"{name}, operations"].tolist()
        shown = [n for n, label in enumerate(operations) if label.startswith(("qkv", "output"))]
        axes[2].set_xticks(shown, [operations[n] for n in shown], rotation=30)
    axes[0].set_xscale("symlog", linthresh=1e-6)
    axes[0].set(xlabel="largest difference of a log-probability", title="one token")
    clip = float(results["clip"])
    for edge in (1 - clip, 1 + clip):
        axes[1].axvline(edge, color="0.5", linestyle=":")
    axes[1].set(xlabel="importance ratio farthest from 1", title="one sequence")
    axes[2].set(ylabel="numbers that differ, %", title="kernels by shape, by operation")
    for panel in axes[:2]:
        names = [KINDS[kind] for kind in kinds]
        panel.set(yticks=range(len(kinds)), yticklabels=names, ylim=(-0.5, len(kinds) - 0.5))
    for panel in axes:
        if panel.has_data():
            ps.plots.finish(panel)
