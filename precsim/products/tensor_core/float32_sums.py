"""Steps of an `ExactBlock` by float32 additions: exact sums of a few products, rounded once.

They have the bits of `exact_sum` for finite operands, as long as nothing overflows and nothing is
a nonzero subnormal number; see `QuickSteps`. Products are exact in float32.

* **Up to two products**: the sum of three numbers is rounded once through an odd intermediate
  (`add_three`).
* **More of them**: windows. A window starts at sigma = 1.5 * 2**k. As long as its sum stays in the
  binade of sigma, adding x rounds x to a multiple of 2**(k - 23), and the rest of x is exact
  (Dekker 1971). The rest goes to the next window, 23 - h places lower, where 2**h is at least the
  number of terms of a step: half a last place of each of them leaves no binade there. After the
  lowest window the rests are multiples of the products' last place, few enough that 24 bits hold
  their sum. So the sum of a step is L_n + ... + L_1 + L_0 exactly, L_n first.

  ``A, e = fast_two_sum(A, L_i)``, from the top, has no error, since A is a multiple of the last
  place of L_i. Then ``rest = odd(e + rest)``, from below, starting with L_0. Where e is not 0, it
  is at least the unit of window i, and the odd number below it is finer than that by the distance
  of the windows; where it is 0, the rest stays. Either way A + rest lies on the same side of every
  number between two float32 numbers as the exact sum does, and float32 rounds it to the same one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax.numpy as jnp

from precsim._arrays import Array, bitcast, entry
from precsim._calls import kept_apart
from precsim._loops import unrolled
from precsim.formats.carrier import FLOAT32
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.products.orders.float32 import add_three, jam
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import ExactBlock
from precsim.products.tensor_core.plan import Step
from precsim.products.tensor_core.quick_steps import QuickSteps
from precsim.rounding.spec import RoundingSpec

_PAIR = 2
"""Products that `add_three` adds to a total."""
_MOST_WINDOWS = 3

Product: TypeAlias = Callable[[Any], Array]
"""``product(lane)``: a product of the step, exact in float32."""


def sums(spec: MatmulSpec) -> list[QuickSteps]:
    """Return the steps of an `ExactBlock` by float32 additions, if there are such."""
    assert isinstance(spec.order, ExactBlock)
    formats = [part.format for part in (spec.lhs, spec.rhs) if part is not None]
    floats = [fmt for fmt in formats if isinstance(fmt, FloatFormat)]
    is_plain = spec.accumulator == RoundingSpec(format=get_format("fp32"))
    if len(floats) < 2 or not is_plain or spec.product is not None:
        return []
    lhs, rhs = floats
    length = spec.order.length
    if lhs.precision + rhs.precision > FLOAT32.precision:
        return []
    if length <= _PAIR:
        # Two binades are left to `two_sum`.
        steps = partial(_steps, length=length, windows=())
        return [QuickSteps(steps, FLOAT32.emin)]
    places = [fmt.emin - fmt.precision + 1 for fmt in floats]
    lowest, largest = sum(places), lhs.emax + rhs.emax + 2
    windows = _windows(lowest, largest, length + 1)
    # Half a binade of sigma, and a binade for the roundings of totals.
    highest = windows[0] - 2
    if max(places) > 0 or lowest < FLOAT32.emin or highest < largest:
        return []
    return [QuickSteps(partial(_steps, length=length, windows=windows), lowest, highest)]


def _steps(columns: Array, rows: Array, *, length: int, windows: tuple[int, ...]) -> Step:
    x, y = (bitcast(part, jnp.float32) for part in (columns, rows))
    # XLA would add two constants first.
    sigmas = kept_apart(tuple(jnp.asarray(1.5 * 2.0**k, jnp.float32) for k in windows))

    def step(total: Array, n: Any) -> Array:
        def product(lane: Any) -> Array:
            return entry(x, n * length + lane) * entry(y, n * length + lane)

        value = bitcast(total, jnp.float32)
        if windows:
            value = _add_in_windows(value, product, length, sigmas)
        else:
            second = product(1) if length == _PAIR else jnp.zeros_like(value)
            value = add_three(value, product(0), second)
        return bitcast(value, jnp.uint32)

    return step


def _windows(lowest: int, largest: int, terms: int) -> tuple[int, ...]:
    """Return k of each window, highest first, for terms that are multiples of 2**lowest.

    Enough of them for one product below 2**largest, if `_MOST_WINDOWS` are enough.
    """
    h = (terms - 1).bit_length()
    windows = [lowest + 2 * FLOAT32.precision - h]
    while windows[-1] - 2 < largest and len(windows) < _MOST_WINDOWS:
        windows.append(windows[-1] + FLOAT32.trailing - h)
    return tuple(reversed(windows))


def _add_in_windows(
    total: Array, product: Product, length: int, sigmas: tuple[Array, ...]
) -> Array:
    def deposit(x: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        changed = []
        for s in sums[:-1]:
            changed.append(s + x)
            x = x - (changed[-1] - s)
        return (*changed, sums[-1] + x)

    start = deposit(
        total, (*(jnp.broadcast_to(s, total.shape) for s in sigmas), jnp.zeros_like(total))
    )
    sums = unrolled(length, lambda lane, sums: deposit(product(lane), sums), start)
    high, *others = (s - sigma for s, sigma in zip(sums, sigmas, strict=False))
    errors = []
    for part in others:
        high, error = _fast_two_sum(high, part)
        errors.append(error)
    rest = sums[-1]
    for error in reversed(errors):
        rest = jam(*_fast_two_sum(error, rest))
    return high + rest


def _fast_two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """Return sum and error, where x is a multiple of the last place of y (Dekker 1971)."""
    total = x + y
    return total, y - (total - x)
