"""Euler's method in low precision: the error falls with the step, then rounding takes over.

N. J. Higham, S. Pranesh, *Simulating Low Precision Floating-Point Arithmetic*, SIAM J. Sci. Comput.
41(5), C585-C602, 2019: the figure on Euler's method for y' = -y, y(0) = 0.01 on [0, 1] (their
scripts `euler_exp.m`, `euler_exp_results.mat`). Each of the n steps computes fl(y + fl(h * (-y))),
h = fl(1/n); all four arithmetics start from 0.01 rounded to bfloat16, as in the script. "No
subnormals" replaces a subnormal result by zero after it is rounded; all 16 published numbers come
out. They also do if the number is replaced before it is rounded, which is the rule of the first
releases of `chop` (2019). The rule of its present releases, `flush_as_chop`, gives 13 of the 16.

Companion, in full runs only: N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd
edition, SIAM, 2002, Fig. 4.2: y(0) = 1 in single precision, with and without compensated summation.
By the text the plain error rises after about n = 20000. Here rounding errors first cancel part of
the truncation error, of opposite sign, from there to n = 80000, and only then the plain error
rises; the compensated one never does.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps
from experiments.check import Check, Grade, Results

TITLE = "Euler's method for y' = -y: error against the number of steps"
CITATION = (
    "Higham & Pranesh, SIAM J. Sci. Comput. 41(5), 2019, doi 10.1137/19M1251308, Euler figure"
)
CLASS: Grade = "A"
PANELS = 2
SECONDS = (4.2,)

STEPS = tuple(np.round(10 ** np.linspace(1, 5, 16)).astype(int).tolist())
ARITHMETICS = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp16, no subnormals": "fp16:flush_after_rounding",
    "fp32": "fp32",
}
COMPANION_STEPS = np.round(10 ** np.linspace(1, 6, 31)).astype(np.int32)

_TABLE = """
1.692729273e-04  1.864390650e-04  1.864390650e-04  1.886046229e-04
1.234965602e-04  9.870102793e-05  9.870102793e-05  1.011315470e-04
4.720261484e-05  5.101731211e-05  5.101731211e-05  5.123314611e-05
1.359028539e-04  2.622177988e-05  1.530689916e-04  2.582829609e-05
4.105610570e-04  1.096299082e-05  3.427986594e-03  1.219769172e-05
5.507426539e-04  8.110495512e-06  6.330971213e-03  4.987392347e-06
6.330971213e-03  4.529526621e-05  6.330971213e-03  1.036023493e-06
6.330971213e-03  3.333596285e-06  6.330971213e-03  1.092281420e-06
6.330971213e-03  8.821913809e-05  6.330971213e-03  2.238506679e-06
6.330971213e-03  5.964760276e-03  6.330971213e-03  2.858767514e-06
6.330971213e-03  6.330971213e-03  6.330971213e-03  3.194276471e-06
6.330971213e-03  6.330971213e-03  6.330971213e-03  3.375884373e-06
6.330971213e-03  6.330971213e-03  6.330971213e-03  3.475070228e-06
6.330971213e-03  6.330971213e-03  6.330971213e-03  3.524430324e-06
6.330971213e-03  6.330971213e-03  6.330971213e-03  3.582405154e-06
6.330971213e-03  6.330971213e-03  6.330971213e-03  3.660403420e-06
"""
PUBLISHED: dict[str, Any] = {
    "read in": (
        "euler_exp_results.mat of SrikaraPranesh/LowPrecision_Simulation: doubles there, 10 significant"
        " digits here; a number matches if it is equal when printed with 10 digits"
    ),
    **dict(zip(ARITHMETICS, np.array(_TABLE.split(), float).reshape(-1, 4).T, strict=True)),
    # From an emulator independent of precsim, 4 digits: the book gives no numbers.
    "companion, n = 10**6": {"plain": 2.565e-05, "compensated": 1.697e-07},
}
_DIGITS = 9  # after the first


@partial(jax.jit, static_argnames=("spec", "is_compensated"))
def integrate(steps: Any, minus_h: Any, start: Any, spec: str, is_compensated: bool) -> Any:
    """Return y(1) of one lane for each number of steps, every operation rounded by `spec`."""

    def advance(state: tuple[Any, ...]) -> tuple[Any, ...]:
        k, y, lost, _ = state
        slope = ps.multiply(minus_h, y, spec)  # the same bits as fl(h * (-y))
        slope = ps.add(slope, lost, spec) if is_compensated else slope
        new = ps.add(y, slope, spec)
        rest = ps.add(ps.subtract(y, new, spec), slope, spec) if is_compensated else lost
        moves = (k < steps) & ((new != y) | (rest != lost))
        return k + 1, jnp.where(moves, new, y), jnp.where(moves, rest, lost), jnp.any(moves)

    # A lane that does not move once never moves again.
    state = (jnp.int32(0), start, jnp.zeros_like(start), jnp.bool_(True))
    return jax.lax.while_loop(lambda state: state[3], advance, state)[1]


def error(steps: np.ndarray, y0: float, spec: str, *, is_compensated: bool = False) -> np.ndarray:
    """Return |y - y(1)| in float64, for each number of steps.

    A float32 carrier is exact for all four arithmetics: precsim rounds the exact result of an
    operation, so that no second rounding comes from the carrier.
    """
    h = ps.divide(np.float32(1), steps.astype(np.float32), spec)
    start = np.full(steps.shape, ps.round_to(y0, "bf16"), np.float32)
    y = integrate(steps, -h, start, spec=spec, is_compensated=is_compensated)
    return np.asarray(np.abs(np.asarray(y, np.float64) - y0 * np.exp(-1.0)))


def compute(
    fast: bool,
    *,
    specs: tuple[str, ...] = tuple(ARITHMETICS.values()),
    steps: tuple[int, ...] = STEPS,
) -> Results:
    """Return the errors of all arithmetics; in full runs those of the companion too.

    Parameters
    ----------
    fast : bool
        Whether to leave out the companion.
    specs : tuple of str
        Roundings of every operation.
    steps : tuple of int
        Numbers of steps n; the step size is 1/n.
    """
    n = np.array(steps, np.int32)
    names = {spec: name for name, spec in ARITHMETICS.items()}
    results = {"n": n}
    results |= {names.get(spec, spec): error(n, 0.01, spec) for spec in specs}
    if not fast:
        results["companion n"] = COMPANION_STEPS
        results["plain"] = error(COMPANION_STEPS, 1.0, "fp32")
        results["compensated"] = error(COMPANION_STEPS, 1.0, "fp32", is_compensated=True)
    return results


def check(results: Results) -> list[Check]:
    """Compare all 64 errors to 10 digits, and in full runs the companion's last ones to 4."""
    checks = [
        Check(f"{name}, n = {n}", float(published), float(ours), "digits", _DIGITS)
        for name in ARITHMETICS
        for n, published, ours in zip(results["n"], PUBLISHED[name], results[name], strict=True)
    ]
    if "companion n" in results:
        for name, published in PUBLISHED["companion, n = 10**6"].items():
            label, ours = f"y(0) = 1, {name}, n = 10**6", float(results[name][-1])
            checks.append(Check(label, published, ours, "digits", 3, grade="B"))
    return checks


def plot(results: Results, axes: list[Any]) -> None:
    """Draw errors against the number of steps, the published points on top."""
    others = {"n", "companion n", "plain", "compensated"}
    names = [name for name, array in results.items() if name not in others and array.ndim == 1]
    names = [name for name in names if not name.startswith("parameter ")]
    ps.plots.plot_curves(axes[0], {name: (results["n"], results[name]) for name in names})
    for name in names:
        if name in PUBLISHED:
            ps.plots.plot_published(axes[0], STEPS, PUBLISHED[name])
    axes[0].set_title("y(0) = 0.01 (Higham & Pranesh 2019)")
    if "companion n" in results:
        sums = {f"fp32, {name}": results[name] for name in ("plain", "compensated")}
        curves = {label: (results["companion n"], errors) for label, errors in sums.items()}
        ps.plots.plot_curves(axes[1], curves)
    axes[1].set_title("y(0) = 1 (Higham 2002, Fig. 4.2)")
    for panel in axes:
        panel.set(xlabel="number of steps n (step size 1/n)", ylabel="absolute error of y(1)")
        panel.set(xscale="log", yscale="log")
        ps.plots.finish(panel)
