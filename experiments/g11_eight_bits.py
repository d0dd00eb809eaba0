"""How good are 8 bits? Quantisation error of floating point, integers and block formats.

A. Kuzmin et al., *FP8 Quantization: The Power of the Exponent*, NeurIPS 2022, arXiv 2208.09225: the
figure on uniform, Gaussian and Student-t data: 8 bits are divided between exponent and significand,
all codes are finite numbers, and the largest value is scaled to the least mean square error. C.
Blake et al., *Unit Scaling*, ICML 2023, arXiv 2303.11257: the figure on signal-to-noise ratio (SNR)
against the scale of Gaussian data. OCP Microscaling Formats (MX) v1.0, 2023, with *INT v.s. FP*,
arXiv 2510.25602: blocks of 32 with a shared scale.

Errors with a scaled largest value are integrals over the cells between neighbouring values, in
closed form. Those of standard formats and of blocks are those of `round_to`, on midpoints of
equally probable intervals and on random numbers. Ratios are 10 log10 of powers; for scaled values
-10 log10 of the mean square error, as in Kuzmin's script, which does not divide by the power of the
data.
"""

from typing import Any

import numpy as np
from scipy.special import beta, ndtr, ndtri, stdtr

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Quantisation to 8 bits: which exponent width, which scale, which block format"
CITATION = "Kuzmin et al., NeurIPS 2022; Blake et al., ICML 2023; OCP MX v1.0, 2023"
CLASS: Grade = "B"
PANELS = 4
SECONDS = (7.9,)
SEED = 1

_SPLITS = {f"E{w}M{7 - w}": w for w in (5, 4, 3, 2)}
PUBLISHED: dict[str, Any] = {
    "read in": "Which division of the 8 bits wins, and that MXINT8 beats MXFP8 in blocks of 32: the papers' text. All "
    "decibels: an emulator independent of precsim (the papers show bars and curves without numbers).",
    "E5M2, E4M3, E3M4, E2M5, INT8": {
        "uniform": (31.68, 37.51, 43.42, 49.26, 52.90),
        "normal": (25.58, 31.56, 37.56, 42.67, 40.57),
        "Student t(8)": (24.31, 30.29, 36.26, 37.17, 33.16),
    },
    "best": {"uniform": "INT8", "normal": "E2M5", "Student t(8)": "E2M5"},
    "SNR over the octave from s = 1": {"fp16": 73.67, "bf16": 55.60, "e4m3": 31.54, "e5m2": 25.56},
    "SNR at s": {
        "fp16": {0: 73.65},
        "bf16": {0: 55.59},
        "e4m3": {-8: 16.8, -6: 28.3, 0: 31.52, 6: 31.5, 8: 16.2},
        "e5m2": {-14: 22.3, 0: 25.54, 14: 25.5, 16: 7.0},
    },
    "blocks": {
        "mxfp8_e4m3": 30.64,
        "mxfp8_e5m2": 25.35,
        "mxfp6_e2m3": 30.94,
        "mxfp6_e3m2": 25.35,
        "mxfp4": 18.78,
        "mxint8": 41.66,
    },
}
_BARS = "E5M2, E4M3, E3M4, E2M5, INT8"
_WIDTHS = (*_SPLITS, "INT8")
_DEGREES = 8

MAXIMA = 2.0 ** np.arange(-1, 6, 1 / 64)  # largest values that are tried
OCTAVES = np.arange(-30, 19)
FORMATS = tuple(PUBLISHED["SNR at s"])
BLOCKS = tuple(PUBLISHED["blocks"])


def grid(name: str) -> np.ndarray:
    """Return the values of an 8-bit format, largest value 1, ascending."""
    if name == "INT8":
        return np.arange(-127, 128) / 127
    w = _SPLITS[name]
    fmt = ps.FloatFormat(name=name, precision=8 - w, exponent_bits=w, specials=ps.Specials.NONE)
    values = np.unique(ps.decode(np.arange(256, dtype=np.uint8), fmt).astype(np.float64))
    return values / fmt.max_finite


def moments(name: str, x: np.ndarray) -> np.ndarray:
    """Return the integrals of f, t f and t^2 f from -infinity to x for a density f."""
    if name == "uniform":
        x = np.clip(x, -1, 1)
        return np.stack([(x + 1) / 2, (x**2 - 1) / 4, (x**3 + 1) / 6])
    if name == "normal":
        density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        return np.stack([ndtr(x), -density, ndtr(x) - np.where(np.isinf(x), 0, x) * density])
    n = _DEGREES  # (1 + x^2 / n) f is a multiple of the density for n - 2, of sqrt((n - 2) / n) x
    peak = 1 / (np.sqrt(n) * beta(1 / 2, n / 2))
    first = -peak * n / (n - 1) * (1 + x**2 / n) ** ((1 - n) / 2)
    wider = (n - 1) / (n - 2) * stdtr(n - 2, np.sqrt((n - 2) / n) * x)
    return np.stack([stdtr(n, x), first, n * (wider - stdtr(n, x))])


def mean_square_error(values: np.ndarray, distribution: str) -> float:
    """Return the integral of (x - nearest value)^2 over a distribution."""
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    zeroth, first, second = np.diff(moments(distribution, edges), axis=-1)
    return float(np.sum(second - 2 * values * first + values**2 * zeroth))


def snr(spec: str, scale: float, x: np.ndarray) -> float:
    """Return the signal-to-noise ratio in dB of x, scaled by a number and rounded."""
    scaled = x * np.float32(scale)
    return ps.sqnr(ps.round_to(scaled, spec), scaled)


def compute(
    fast: bool,
    *,
    formats: tuple[str, ...] = FORMATS,
    blocks: tuple[str, ...] = BLOCKS,
    seed: int = SEED,
) -> Results:
    """Return errors by largest value, ratios by scale, and those of block formats.

    Parameters
    ----------
    fast : bool
        Whether to take 65,536 numbers and 10,000 blocks, not 16 and 4 times as many.
    formats : tuple of str
        Formats without scales.
    blocks : tuple of str
        Block formats.
    seed : int
        Of the numbers in blocks.
    """
    results: Results = {"largest value": MAXIMA, "octave": OCTAVES}
    for name in _WIDTHS:
        for distribution in PUBLISHED[_BARS]:
            errors = [mean_square_error(grid(name) * top, distribution) for top in MAXIMA]
            results[f"{distribution}, {name}"] = -10 * np.log10(errors)
    count = 1 << (16 if fast else 20)
    normal = ndtri((np.arange(count) + 0.5) / count).astype(np.float32)
    for name in formats:
        spec = f"{name}:rne:saturate"
        results[name] = np.array([snr(spec, 2.0**k, normal) for k in OCTAVES])
        octave = [snr(spec, 2.0 ** (k / 8), normal) for k in range(8)]
        results[f"octave {name}"] = np.asarray(np.mean(octave))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((10_000 if fast else 40_000, 32), np.float32)
    return results | {name: np.asarray(snr(f"{name}:rne:saturate", 1, x)) for name in blocks}


def check(results: Results) -> list[Check]:
    """Compare decibels within 0.1 (scaled) and 0.05 (standard formats and blocks), and who wins."""
    checks = []
    for distribution, published in PUBLISHED[_BARS].items():
        ours = {name: float(results[f"{distribution}, {name}"].max()) for name in _WIDTHS}
        for name, theirs in zip(_WIDTHS, published, strict=True):
            label = f"{distribution}, {name}, dB"
            checks.append(Check(label, theirs, ours[name], "absolute", 0.1, "B"))
        best = PUBLISHED["best"][distribution]
        rank = float(sum(ours[best] <= x for x in ours.values()))
        checks.append(Check(f"{distribution}: rank of {best}", 1.0, rank, grade="B"))
    for name, theirs in PUBLISHED["SNR over the octave from s = 1"].items():
        ratio = float(results[f"octave {name}"])
        checks.append(Check(f"{name}, mean of an octave, dB", theirs, ratio, "absolute", 0.05, "B"))
    for name, points in PUBLISHED["SNR at s"].items():
        for k, theirs in points.items():
            ratio = float(results[name][k == OCTAVES][0])
            checks.append(Check(f"{name}, s = 2^{k}, dB", theirs, ratio, "absolute", 0.05, "B"))
    for name, theirs in PUBLISHED["blocks"].items():
        checks.append(Check(f"{name}, dB", theirs, float(results[name]), "absolute", 0.05, "B"))
    gain = float(results["mxint8"] - results["mxfp8_e4m3"])
    checks.append(Check("mxint8 above mxfp8_e4m3, dB", (0.0, np.inf), gain, "range", grade="B"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw Kuzmin's bars, the choice of the largest value, ratios by scale, blocks."""
    for k, (distribution, published) in enumerate(PUBLISHED[_BARS].items()):
        x = np.arange(len(_WIDTHS)) + 0.27 * (k - 1)
        ours = [results[f"{distribution}, {name}"].max() for name in _WIDTHS]
        look = {"facecolor": ("0.35", "0.6", "0.85")[k], "hatch": ("", "///", "..")[k]}
        axes[0].bar(x, ours, 0.25, label=distribution, **look)
        ps.plots.plot_published(axes[0], x, published, "reference")
    axes[0].set_xticks(range(len(_WIDTHS)), _WIDTHS)
    axes[0].set(title="scaled to the least error", xlabel="division of the 8 bits")
    curves = {name: (MAXIMA, results[f"normal, {name}"]) for name in _WIDTHS}
    ps.plots.plot_curves(axes[1], curves)
    axes[1].set(title="normal data", xlabel="largest value, in standard deviations", xscale="log")
    for panel in axes[:2]:
        panel.set_ylabel("-10 log$_{10}$ of the MSE, dB")
    numbers = [name for name, x in results.items() if not (x.ndim or name[:9] == "parameter")]
    formats = [name.removeprefix("octave ") for name in numbers if name.startswith("octave ")]
    blocks = [name for name in numbers if not name.startswith("octave ")]
    ps.plots.plot_curves(axes[2], {name: (OCTAVES, results[name]) for name in formats})
    for points in PUBLISHED["SNR at s"].values():
        ps.plots.plot_published(axes[2], list(points), list(points.values()), "reference")
    axes[2].set(xlabel="log2 of the standard deviation s", ylabel="signal-to-noise ratio, dB")
    axes[2].set(title="standard formats, saturated, no scaling")
    heights = [float(results[name]) for name in blocks]
    colors = [ps.plots.format_color(name) for name in blocks]
    axes[3].bar(range(len(blocks)), heights, 0.6, color=colors)
    points = list(PUBLISHED["blocks"].values())
    ps.plots.plot_published(axes[3], range(len(points)), points, "reference")
    axes[3].set_xticks(range(len(blocks)), [name.replace("_", "\n") for name in blocks])
    axes[3].set(ylabel="signal-to-noise ratio, dB", xlabel="block format")
    sizes = {getattr(ps.get_format(name), "block_size", None) for name in blocks}
    axes[3].set_title(f"blocks of {' or '.join(map(str, sizes))} normal numbers, shared scale")
    for panel in axes:
        ps.plots.finish(panel)
