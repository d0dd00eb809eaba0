"""What a TPU printed: products of float32 arrays whose operands went to bf16.

Two issues of jax (#9973, 2022; #23159, 2024) report wrong products on a TPU. By default it rounds
float32 operands to bf16, to nearest, and adds exact products in float32. All seven numbers that the
issues print follow from that. Other formats of the operands, and rounding toward zero, give other
numbers. The prints cannot tell orders of summation apart: the first product has two terms, and the
integers of the second one have exact sums in any order. Nor do they tell ties to even from ties
away.
"""

from dataclasses import replace
from typing import Any

import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Seven numbers that a TPU printed: operands in bf16, sums in float32"
CITATION = "jax issues #9973 (2022) and #23159 (2024)"
CLASS: Grade = "A"
PANELS = 2
SECONDS = (1.5, 1.5)

PUBLISHED: dict[str, Any] = {
    "read in": "The two issues: the result of a 2 x 2 product on a TPU, and how an einsum of integers differs from "
    "NumPy's.",
    "product": [[0.17405128, 0.09669876], [0.21180916, 0.10805416]],
    "einsum": {"elements that differ": 16.0, "largest error": 345.0, "relative": 0.00333382},
}
X = ((0.3744, 0.1656), (0.4707, 0.1663))
Y = ((0.3946, 0.1186), (0.1569, 0.3145))
SIZES = {"b": 4, "d": 10, "a": 8, "r": 4}  # of einsum("bd,adr->bra"); its axis t has length 1
OTHERS = ("bf16", "bf16:rna", "bf16:rtz", "fp16", "tf32", "fp32")


def products(operands: str, order: str) -> list[np.ndarray]:
    """Return the 2 x 2 product and the einsum, as float32 matrices."""
    rounding = ps.RoundingSpec.parse(operands)
    spec = replace(ps.MatmulSpec.parse(f"bf16_bf16_fp32:{order}"), lhs=rounding, rhs=rounding)
    pairs = ((np.array(X, np.float32), np.array(Y, np.float32)), integers(np.float32))
    # The matrices are small: NumPy is faster than compilation.
    return [ps.matmul(x, y, spec, backend="reference") for x, y in pairs]


def integers(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the operands of the einsum as matrices (b, d) and (d, a r)."""
    b, d, a, r = (SIZES[axis] for axis in "bdar")
    left = np.arange(b * d, dtype=dtype).reshape(b, d)
    right = np.arange(a * d * r, dtype=dtype).reshape(a, d, r)
    return left, np.moveaxis(right, 1, 0).reshape(d, a * r)


def deviations(found: np.ndarray) -> np.ndarray:
    """Return how many elements differ from the exact ones, and the largest errors."""
    left, right = integers(np.int64)
    exact = left @ right
    errors = np.abs(found - exact)
    relative = errors[exact != 0] / exact[exact != 0]
    return np.array([np.count_nonzero(errors), errors.max(), relative.max()])


def compute(fast: bool, *, format_: str = "bf16", order: str = "sequential") -> Results:
    """Return both products with operands in one format, and in others.

    Parameters
    ----------
    fast : bool
        Not used: it takes seconds.
    format_ : str
        Rounding of the operands, for example "bf16:rtz".
    order : str
        Order of the sums, for example "pairwise".
    """
    operands = dict.fromkeys((format_, *OTHERS))
    results: Results = {"operands": np.array(list(operands))}
    results["exact"] = np.array(X) @ np.array(Y)
    for name in operands:
        small, large = products(name, order)
        results[f"product, {name}"], results[f"einsum, {name}"] = small, deviations(large)
    return results


def seven(results: Results, operands: str) -> list[Check]:
    """Return the seven numbers beside those of one format of the operands."""
    checks = []
    for (i, j), theirs in np.ndenumerate(np.array(PUBLISHED["product"])):
        ours = float(results[f"product, {operands}"][i, j])
        digits = 7 if theirs > 0.1 else 6
        checks.append(Check(f"product, row {i}, column {j}", float(theirs), ours, "digits", digits))
    for k, (name, theirs) in enumerate(PUBLISHED["einsum"].items()):
        ours = float(results[f"einsum, {operands}"][k])
        checks.append(Check(f"einsum, {name}", theirs, ours, "digits", 5))
    return checks


def check(results: Results) -> list[Check]:
    """Compare all digits."""
    return seven(results, str(results["operands"][0]))


def plot(results: Results, axes: list[Any]) -> None:
    """Draw the errors of the 2 x 2 product, and how many of the prints each format gives."""
    names = results["operands"].tolist()
    exact = results["exact"].reshape(-1)
    entries = np.arange(exact.size)
    errors = {
        name: (entries, results[f"product, {name}"].reshape(-1).astype(np.float64) / exact - 1)
        for name in names
    }
    ps.plots.plot_curves(axes[0], errors)
    printed = np.array(PUBLISHED["product"]).reshape(-1) / exact - 1
    ps.plots.plot_published(axes[0], entries, printed, "TPU")
    labels = [f"({i}, {j})" for i in range(2) for j in range(2)]
    axes[0].set_xticks(entries, labels)
    axes[0].set(xlabel="row, column", ylabel="relative error", title="2 x 2 product (#9973)")
    scores = [sum(number.matched for number in seven(results, name)) for name in names]
    axes[1].barh(range(len(names)), scores, 0.6, color="0.5")
    axes[1].set_yticks(range(len(names)), names)
    axes[1].invert_yaxis()
    axes[1].set(xlabel="of 7 printed numbers, equal", ylabel="operands", title="which format")
    for panel in axes:
        ps.plots.finish(panel)
