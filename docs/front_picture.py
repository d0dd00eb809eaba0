"""The picture of the home page: `python -m docs.front_picture` writes `docs/front.svg`."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import precsim as ps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

VALUE = 0.1
FORMATS = ("fp16", "bf16", "e4m3", "e2m1")
PARTS = {"sign": "#882255", "exponent": "#E69F00", "significand": "#56B4E9"}
ADDEND, COUNT, EVERY = 0.01, 1000, 20
SUMS = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "bf16, stochastic": "bf16:sr"}


def bits_of(value: float, name: str) -> list[tuple[str, str]]:
    """Return the bits of a value in a format, each with the part that it belongs to."""
    fmt = ps.get_format(name)
    assert isinstance(fmt, ps.FloatFormat)
    assert fmt.exponent_bits is not None
    assert fmt.width is not None
    code = int(ps.encode(ps.round_to(np.float64(value), name), name))
    text = f"{code:0{fmt.width}b}"
    parts = ["sign"] + ["exponent"] * fmt.exponent_bits
    parts += ["significand"] * (fmt.width - len(parts))
    return list(zip(text, parts, strict=True))


def box(axes: "Axes", column: float, row: float, color: str) -> None:
    """Draw the box of a bit."""
    axes.barh(row, 0.92, left=column, height=0.84, align="center", color=color, alpha=0.55, lw=0)


def draw_bits(axes: "Axes") -> None:
    """Draw what each format stores of the value: its bits, and what they stand for."""
    for row, name in enumerate(FORMATS):
        bits = bits_of(VALUE, name)
        for column, (bit, part) in enumerate(bits):
            box(axes, column, -row, PARTS[part])
            axes.text(column + 0.46, -row, bit, ha="center", va="center", fontsize=7)
        axes.text(-0.6, -row, name, ha="right", va="center")
        stored = ps.round_to(np.float64(VALUE), name).item()
        text = f"{stored:.7g}, {100 * (stored - VALUE) / VALUE:+.3g} %"
        axes.text(len(bits) + 0.4, -row, text, ha="left", va="center")
    for place, (part, color) in zip((0, 4.6, 12.2), PARTS.items(), strict=True):
        box(axes, place, 1.17, color)
        axes.text(place + 1.2, 1.17, part, ha="left", va="center")
    axes.set(xlim=(-3, 28), ylim=(-len(FORMATS) + 0.4, 1.7), title=f"{VALUE} as it is stored")
    axes.set_axis_off()


def running_sums(spec: str) -> list[float]:
    """Return the sum after each `EVERY` terms."""
    random = np.random.default_rng(0).integers(0, 2**32, COUNT, np.uint32)
    found: list[float] = []
    total: NDArray[np.float32] = np.zeros((), np.float32)
    for count in range(1, COUNT + 1):
        bits = random[count - 1] if ":sr" in spec else None
        total = np.asarray(ps.add(total, np.float32(ADDEND), spec, random_bits=bits))
        if count % EVERY == 0:
            found.append(float(total))
    return found


def draw_sums(axes: "Axes") -> None:
    """Draw how sums of one small number grow, or stop."""
    counts = range(EVERY, COUNT + 1, EVERY)
    curves = {label: (counts, running_sums(spec)) for label, spec in SUMS.items()}
    ps.plots.plot_curves(axes, curves, markevery=10)
    axes.set(xlabel="number of terms", ylabel="sum", title=f"{ADDEND}, added {COUNT} times")
    ps.plots.finish(axes)


def main() -> None:
    """Write the picture."""
    path = Path(__file__).parent / "front.svg"
    with ps.plots.figure(2, width=ps.plots.COLUMN_WIDTH, height=4.2, path=path) as axes:
        draw_bits(axes[0])
        draw_sums(axes[1])


if __name__ == "__main__":
    main()
