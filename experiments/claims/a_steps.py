"""Section A: the errors of many steps."""

import math

import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims import a_formats
from experiments.claims.a_formats import FORMATS, rounded
from experiments.claims.row import digits, equal

SECTION = a_formats.SECTION
add = SECTION.add


@add(
    18,
    "The total error is the sum of the errors of the steps.",
    "depends",
    "In a sum it is, with their signs; the sum of their magnitudes is only a bound. A product"
    " multiplies the errors before it, and relative errors grow where numbers cancel. Errors of one"
    " sign pile up: a sum that has stalled loses every further term.",
)
def errors_of_steps(full: bool) -> list[Check]:
    """Take errors of steps and of the end, in sums, a product and a difference."""
    term, total, steps = rounded(0.1, "fp16"), 0.0, []
    for _ in range(500):
        new = float(ps.add(np.float32(total), np.float32(term), "fp16"))
        steps.append(new - (total + term))
        total = new
    end = total - 500 * term
    third = rounded(1 / 3, "fp16")
    near_one = rounded(1.0005, "fp16")
    checks = [
        *equal(("500 times 0.1 in fp16: total error", -1.95654296875, end)),
        *equal(("sum of the signed errors of its steps", -1.95654296875, math.fsum(steps))),
        *digits(("sum of their magnitudes", "2.33", math.fsum(map(abs, steps)))),
        *digits(("1/3 in fp16, then times 2048: sum of both errors", "-8.14e-5", third - 1 / 3)),
        *digits(("total error", "-0.1667", 2048 * third - 2048 / 3)),
        *digits(("1.0005 in fp16: relative error", "4.76e-4", near_one / 1.0005 - 1)),
        *digits(("less 1: relative error", "0.953", (near_one - 1) / 0.0005 - 1)),
    ]
    for name, total, ones in zip(FORMATS, (256, 32, 2, 1), (2048, 256, 16, 8), strict=True):
        x = np.full(10_000, ps.round_to(np.float32(0.1), name))
        found = ps.accumulate(x, name)
        checks += equal((f"10,000 times 0.1 in {name}", total, float(found)))
        counted = ps.accumulate(np.ones(4096, np.float32), name)
        checks += equal((f"ones counted in {name}", ones, float(counted)))
        if name in ("fp16", "bf16"):
            pairs = ps.accumulate(x, name, order="pairwise")
            checks += equal((f"0.1 in pairs in {name}", 1000, float(pairs)))
    return checks
