"""Errors of matrix products on tensor cores: five machines, and what promotion to float32 mends.

F. A. Khattak, M. Mikaitis, *Accurate Models of NVIDIA Tensor Cores*, ACM TACO, doi 10.1145/3830409,
arXiv 2512.07004: the error curves for one word an entry. Scripts and results:
north-numerical-computing/MATLAB-tensor-core, b12b5a7 (`experiments/matmul_test.m`,
`experiments/data/`). Each curve draws the same matrices (see `scaled_gemm`), rounds them to the
operands' format and multiplies them by the machine's rule.

The scripts round operands to nearest at the first n of the first machine run in a session, and
toward zero at every other point: V100 and H100 begin to nearest here, the other three toward zero
throughout. (Inferred from the numbers: CPFloat seems to keep the rounding mode that the model sets
for its accumulator.)

Companion: DeepSeek-V3 Technical Report, arXiv 2412.19437, 3.3.2 and Fig. 7b: dot products in E4M3
on Hopper, with about 14 bits in the accumulator, against promotion to float32 after every 128
products. The report's "nearly 2 %" for K = 4096 depends on data that it does not state; only the
growth with K is checked.
"""

from typing import Any

import numpy as np

import precsim as ps
from experiments import matlab_random, scaled_gemm
from experiments.check import Check, Grade, Results, Tables

TITLE = "Tensor cores: error against the inner dimension, and promotion to float32"
CITATION = "Khattak & Mikaitis, ACM TACO, doi 10.1145/3830409, error curves; DeepSeek-V3, Fig. 7b"
CLASS: Grade = "A"
PANELS = 2
SECONDS = (14.1, 64)
SEED = 1
INPUTS = ("matlab_random.py", "scaled_gemm.py")

SIZES = scaled_gemm.sizes(20)
FAST_SIZE = 1274
_FILES = {  # curve: the end of its file's name
    "v100:fp16": "binary16_binary32_words_1_model_v100.dat",
    "a100:fp16": "binary16_binary32_words_1_model_a100.dat",
    "b200:fp16": "binary16_binary32_words_1_model_b200.dat",
    "a100:bf16": "bfloat16_binary32_words_1_model_a100.dat",
    "h100:e5m2": "fp8-e5m2_binary32_words_1_model_h100.dat",
}
SPECS = {curve: curve for curve in _FILES}
TABLES = tuple(_FILES.values())
FIRST_TO_NEAREST = ("v100:fp16", "h100:e5m2")
DOT_LENGTHS = 128 * 2 ** np.arange(8)
DOTS = {"to the end": "h100:e4m3", "promoted every 128": "h100:e4m3:promote128"}

_TYPED = """
  10  2.533386e-05 1.283168e-04 1.283168e-04 1.469606e-03 1.026486e-02
  18  1.508825e-04 1.508825e-04 1.508825e-04 3.555061e-03 1.204863e-01
  33  2.227115e-04 2.227363e-04 2.227364e-04 1.424942e-03 4.384564e-02
  61  1.484188e-04 1.484215e-04 1.484161e-04 1.121651e-03 4.371811e-02
 112  1.434194e-04 1.434364e-04 1.434395e-04 9.231988e-04 3.418907e-02
 206  2.140825e-04 2.140915e-04 2.140915e-04 1.191711e-03 4.126769e-02
 379  1.483552e-04 1.484317e-04 1.484374e-04 1.168148e-03 3.079078e-02
 695  9.194010e-05 9.200353e-05 9.201701e-05 6.131915e-04 1.776513e-02
1274  4.736983e-05 4.744350e-05 4.745446e-05 3.561456e-04 8.073880e-03
"""
PUBLISHED: dict[str, Any] = {
    "read in": "experiments/data/matmul_test_*_words_1_model_*.dat, column error, 7 digits; nine of the 20 sizes are "
    "typed here, the others are read from the files under --data-dir. Promotion: 3.3.2 of the report says that "
    "the error grows with K, and is mended by promotion; the ranges, for K >= 1024, are ours",
    **{
        curve: {int(n): float(value) for n, value in zip(rows[0], column, strict=True)}
        for rows in [np.array(_TYPED.split()).reshape(-1, 6).T]
        for curve, column in zip(_FILES, rows[1:], strict=True)
    },
    "growth for 4 times the length": (3.0, 5.0),
    "promoted": (0.0, 1e-3),
}
_DIGITS = 6  # after the first
_BOUND = "bound "


def curve_errors(curve: str, n: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Return the errors of one machine's products for the first sizes n."""
    spec = ps.MatmulSpec.parse(SPECS.get(curve, curve))
    operand = _operand(curve)
    stream = matlab_random.rng(seed)
    theta = scaled_gemm.largest_entry(n, operand, "fp32")
    errors = []
    for k, product in enumerate(scaled_gemm.products(stream, n, theta)):
        is_nearest = k == 0 and curve in FIRST_TO_NEAREST
        rounding = f"{operand}:{'rne' if is_nearest else 'rtz'}"
        a, b = (ps.round_to(x, rounding).astype(np.float32) for x in (product.a, product.b))
        errors.append(product.error(scaled_gemm.multiply(a, b, spec)))
    return np.array(errors)


def _operand(machine: str) -> str:
    """Return the format of the operands, of ``h100:e4m3:promote128`` e4m3."""
    _, _, rest = machine.partition(":")
    operand = rest.partition(":")[0]
    if not operand:
        raise ValueError(f"machines has {machine!r}; allowed are such as 'h100:e4m3'")
    return operand


def dot_errors(spec: str) -> np.ndarray:
    """Return the largest relative error of 100 E4M3 dot products in [0, 1], for each length."""
    rng = np.random.default_rng(SEED)
    errors = []
    for length in DOT_LENGTHS.tolist():
        x, y = ps.round_to(rng.random((2, scaled_gemm.ROWS, length), np.float32), "e4m3")
        exact = x.astype(np.float64) @ y.T.astype(np.float64)  # 32 bits: float64 holds every sum
        computed = scaled_gemm.multiply(x, y.T, ps.MatmulSpec.parse(spec))
        errors.append(np.abs(computed / exact - 1).max())
    return np.array(errors)


def compute(fast: bool, *, machines: tuple[str, ...] = tuple(_FILES), seed: int = SEED) -> Results:
    """Return the errors and bounds of all machines, and those of the dot products.

    Parameters
    ----------
    fast : bool
        Whether to stop at inner dimensions of 1274, not a million.
    machines : tuple of str
        Tensor cores with the format of their operands.
    seed : int
        Of MATLAB's stream of random numbers.
    """
    n = SIZES[SIZES <= FAST_SIZE] if fast else SIZES
    results: Results = {"n": n}
    for curve in machines:
        results[curve] = curve_errors(curve, n, seed)
        results[f"{_BOUND}{curve}"] = scaled_gemm.bounds(n, _operand(curve), "fp32")[0]
    results["dot length"] = DOT_LENGTHS
    return results | {name: dot_errors(spec) for name, spec in DOTS.items()}


def published(curve: str, column: str, tables: Tables | None) -> dict[int, float]:
    """Return the published column of one curve: that of its file, else the errors typed here."""
    table = (tables or {}).get(_FILES.get(curve, ""))
    if table is None:
        return dict(PUBLISHED.get(curve, {})) if column == "error" else {}
    return dict(zip(table["n"].astype(int).tolist(), table[column].tolist(), strict=True))


def check(results: Results, tables: Tables | None = None) -> list[Check]:
    """Compare errors, bounds (where their files exist) in 7 digits, and the growth with length."""
    checks = []
    for curve in SPECS:
        for column, name in {"error": curve, "bound": f"bound {curve}"}.items():
            known = published(curve, column, tables)
            for n, ours in zip(results["n"].tolist(), results[name].tolist(), strict=True):
                if n in known:
                    checks.append(Check(f"{name}, n = {n}", known[n], ours, "digits", _DIGITS))
    plain, promoted = (results[name] for name in DOTS)
    for k in np.flatnonzero(DOT_LENGTHS >= 1024)[:-2]:
        growth, label = float(plain[k + 2] / plain[k]), f"{DOT_LENGTHS[k]} to {DOT_LENGTHS[k + 2]}"
        limits = PUBLISHED["growth for 4 times the length"]
        checks.append(Check(f"growth, {label}", limits, growth, "range", grade="C"))
    for length, ours in zip(DOT_LENGTHS, promoted, strict=True):
        label = f"promoted, K = {length}"
        checks.append(Check(label, PUBLISHED["promoted"], float(ours), "range", grade="C"))
    return checks


def plot(results: Results, axes: list[Any], tables: Tables | None = None) -> None:
    """Draw the machines' products, the published points on top, and the dot products."""
    n = results["n"]
    curves = [key.removeprefix(_BOUND) for key in results if key.startswith(_BOUND)]
    ps.plots.plot_curves(axes[0], {curve: (n, results[curve]) for curve in curves})
    for curve in curves:
        known = published(curve, "error", tables)
        shown = [size for size in n.tolist() if size in known]
        ps.plots.plot_published(axes[0], shown, [known[size] for size in shown])
    axes[0].set(xlabel="inner dimension n", ylabel="‖C - AB‖$_∞$ / (‖A‖$_∞$ ‖B‖$_∞$)")
    axes[0].set_title("five tensor cores (Khattak & Mikaitis)")
    dots = {f"h100:e4m3, {name}": (results["dot length"], results[name]) for name in DOTS}
    ps.plots.plot_curves(axes[1], dots)
    axes[1].set(xlabel="length K of the dot product", ylabel="largest relative error of 100")
    axes[1].set_title("E4M3 on H100 (DeepSeek-V3)")
    for panel in axes:
        panel.set(xscale="log", yscale="log")
        ps.plots.finish(panel)
