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
from experiments.check import Check, Grade, Results

TITLE = "Log-probabilities of one model: whole sequences, chunks and single tokens, in any batch"
CITATION = "a miniature; questions: NeMo-RL #3743, verl #6280, OpenRLHF #1155, vLLM #28326"
CLASS: Grade = "A"
PANELS = 3
INPUTS: tuple[str, ...] = ("decoder.py", "decoder.npz", "log_probabilities.py")
RECORDED = {"bf16": "c0d3424362f2", "fp16": "43d89dd20c32"}
PUBLISHED: dict[str, Any] = {
    "read in": "Nothing is published: stated orders have to give equal bits. SHA-256, 48 bits: our own first run, on a CPU.",
    "numbers that differ": 0.0,
    "SHA-256": RECORDED,
}

DTYPES = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
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
    batch: int = 3,
    chunk: int = 5,
    sequences: int = 2,
    length: int = 18,
    clip: float = 0.2,
) -> Results:
    """Return, for each arithmetic and way, how far it is from the reading of whole sequences.

    The first format is also read token by token. The full run gives each product alone the other
    kernel, and reads all formats token by token.

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
    if not 1 <= chunk <= 7:
        raise ValueError(f"chunk is {chunk}; allowed are integers from 1 to 7")
    tokens, lengths = lp.sequences(sequences, length)
    whole, single = lp.Way(batch=64), lp.Way(batch=1, chunk=chunk)
    left = lp.Way(batch=batch, padding="left", chunk=chunk)
    shifted = replace(left, is_aligned=False)
    results: Results = {"clip": np.asarray(clip)}
    for name in formats:
        stated = decoder.Stated(
            format=name, products=f"{machine}:{name}->{name}", order=order, backend="reference"
        )
        kernel = ps.MatmulSpec.parse(f"{name}_{name}_{few_rows}->{name}")
        by_shape = replace(stated, few_rows=kernel)
        first = lp.read(stated, tokens, lengths, whole)
        results[f"{name}, SHA-256"] = np.asarray(float(int(lp.digest(first)[:12], 16)))
        is_all = not fast or name == formats[0]
        decoding = replace(left, chunk=1)
        compared: dict[str, tuple[Any, lp.Way]] = {
            f"stated, {way}": (stated, way) for way in (left, single, *([decoding] * is_all))
        }
        compared[f"by column, {shifted}"] = stated, shifted
        compared[f"by shape, {single}"] = by_shape, single
        for product in () if fast else PRODUCTS:
            alone = replace(by_shape, few_rows_of=(product,))
            compared[f"by shape in {product}, {single}"] = alone, single
        for key, (using, way) in compared.items():
            found = lp.read(using, tokens, lengths, way)
            results[f"{name}, {key}"] = _measures(found, first, tokens, lengths, clip)
        platform = decoder.Platform(DTYPES[name])
        first = lp.read(platform, tokens, lengths, whole, runs="program")
        for way in (shifted, single):
            found = lp.read(platform, tokens, lengths, way, runs="program")
            results[f"{name}, platform, {way}"] = _measures(found, first, tokens, lengths, clip)
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
            theirs = float(int(RECORDED[name][:12], 16))
            checks.append(Check(f"{name}: 48 bits of SHA-256", theirs, float(values)))
        if kind == "stated":
            checks.append(Check(f"{name}, {way}: differing", 0.0, values[0]))
        if kind in ("by column", "by shape"):
            changed += values[0]
        if kind == "platform":
            largest = values[MEASURES.index("largest")]
            label = f"{name}, platform, {way}: largest difference"
            checks.append(Check(label, (0.0, 0.5), largest, "range", grade="C"))
    label = "differing where keys stand by column or kernels follow the shape"
    checks.append(Check(label, (1.0, np.inf), changed, "range", grade="B"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the largest differences by way, the ratios of sequences, and what each product adds."""
    kinds = ("stated", "by column", "by shape", "platform")
    formats = list(dict.fromkeys(key.split(",")[0] for key in results if "," in key))
    for k, name in enumerate(formats):
        color = ps.plots.format_color(name)
        for row, kind in enumerate(reversed(kinds)):
            for panel, measure in ((axes[0], "largest"), (axes[1], "sequence ratio")):
                values = [
                    x[MEASURES.index(measure)]
                    for key, x in results.items()
                    if key.startswith(f"{name}, {kind}, ")
                ]
                places = row + 0.25 * (k - (len(formats) - 1) / 2) + np.zeros(len(values))
                label = name if row == 0 else None
                panel.plot(values, places, "os"[k % 2], color=color, label=label, alpha=0.7)
        heights = [
            (product, x[MEASURES.index("mean")])
            for key, x in results.items()
            for product in PRODUCTS
            if key.startswith(f"{name}, by shape in {product}, ")
        ]
        if heights:
            places = np.arange(len(heights)) + 0.3 * (k - (len(formats) - 1) / 2)
            axes[2].barh(places, [y for _, y in heights], 0.3, color=color, label=name)
            axes[2].set_yticks(range(len(heights)), [product for product, _ in heights])
    axes[0].set_xscale("symlog", linthresh=1e-6)
    axes[0].set(xlabel="largest difference of a log-probability", title="one token")
    clip = float(results["clip"])
    for edge in (1 - clip, 1 + clip):
        axes[1].axvline(edge, color="0.5", linestyle=":")
    axes[1].set(xlabel="importance ratio farthest from 1", title="one sequence")
    if axes[2].has_data():
        axes[2].ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    axes[2].set(xlabel="mean difference", title="by shape in one product only")
    for panel in axes[:2]:
        panel.set(yticks=range(len(kinds)), yticklabels=kinds[::-1], ylim=(-0.5, len(kinds) - 0.5))
    for panel in axes:
        if panel.has_data():
            ps.plots.finish(panel)
