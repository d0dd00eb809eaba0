"""Lesson 9: a marimo notebook."""

import marimo

app = marimo.App(app_title="9. Fixed point and affine quantisation")

with app.setup(hide_code=True):
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn, picture

    LESSON = Lesson(
        title="Fixed point and affine quantisation",
        goal="You can write numbers in fixed point, say what happens at the end of the range, and"
        " choose the scale and the zero point of 8-bit integers.",
        minutes=20,
        needs="Lesson 1, and rounding from lesson 2. Two's complement helps, but is not needed.",
    )
    Q34, Q38 = (
        ps.FixedPointFormat(name=f"q3.{bits}", integer_bits=3, fraction_bits=bits)
        for bits in (4, 8)
    )
    RANGE = np.array([-1, 3], np.float32)


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A fixed point

    Money is counted in cents: 3.14 is stored as the whole number 314, and everybody knows that the
    point stands before the last two digits. Fixed point does the same in binary. The format
    **q3.8** has a sign, 3 bits before the point and 8 bits after it. So the whole number that is
    stored, the **code**, counts steps of 2⁻⁸ = 1/256.

    * From a value to its code: multiply by 2⁸, and round to a whole number.
    * From a code to its value: divide by 2⁸.

    Rounding is the only place where something is lost. A processor without floating-point units
    adds the codes as whole numbers; that is why small devices compute in fixed point.
    """)
    return


@app.function(hide_code=True)
def code_of(value: float, spec: str) -> int:
    """Return the code of a value, rounded to q3.8 by a rule."""
    return int(ps.round_to(np.float64(value), spec) * 2**Q38.fraction_bits)


@app.function(hide_code=True)
def exercise_code() -> Exercise:
    """Ask for the code of a value in q3.8."""
    return Exercise(
        question="**Exercise 1.** Which code has 0.3 in q3.8, rounded to nearest? (A whole number.)",
        right=code_of(0.3, "q3.8"),
        why="0.3 × 256 = 76.8, and 77 is the nearest whole number. It stands for 77/256 = 0.30078.",
        mistakes=(
            Mistake(
                answer=code_of(0.3, "q3.8:rtz"),
                hint="You cut off the fraction of 76.8 instead of rounding to nearest.",
            ),
            Mistake(
                answer=0,
                hint="You divided by 2⁸. From a value to its code you multiply; this is a common"
                " slip, in articles too.",
            ),
            Mistake(
                answer=round(0.3 * 2**7),
                hint="You multiplied by 2⁷. The sign does not take one of the 8 fraction bits.",
            ),
            Mistake(answer=Fraction("76.8"), hint="The code is a whole number: round."),
        ),
        hints=("Multiply by 2⁸ = 256.", "0.3 × 256 = 76.8. Which whole number is nearest?"),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="code")
    mo.vstack([exercise_code(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_code().check(answer_1.value)
    return


@app.function(hide_code=True)
def exercise_largest() -> Exercise:
    """Ask for the largest value of q3.4."""
    largest = float(ps.round_to(np.float64(100), Q34))
    return Exercise(
        question="**Exercise 2.** Which is the largest value of q3.4: a sign, 3 bits before the"
        " point, 4 after it?",
        right=largest,
        why="111.1111 in binary: one step of 1/16 less than 8. The smallest value is −8.",
        mistakes=(
            Mistake(answer=8, hint="8 is 1000 in binary, which needs four bits before the point."),
            Mistake(
                answer=2 * largest + 2.0**-Q34.fraction_bits,
                hint="You counted the sign as a bit before the point.",
            ),
            Mistake(answer=7, hint="The bits after the point can be 1 too."),
            Mistake(
                answer=2**7 - 1,
                hint="That is the code. Divide it by 2⁴ for the value.",
            ),
        ),
        hints=(
            "All seven bits are 1: 111.1111 in binary.",
            "It is one step less than 8. How large is a step with 4 bits after the point?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="value")
    mo.vstack([exercise_largest(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_largest().check(answer_2.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Fixed or floating?

    Both q3.4 and the 8-bit float E4M3 have 256 codes. In q3.4 the step is 1/16 everywhere. In E4M3
    each power of two begins with steps twice as wide as before: there are 8 values from 1 to 2, 8
    values from 2 to 4, and so on.
    """)
    return


@app.function(hide_code=True)
def prediction_errors() -> Prediction:
    """Ask which of two 8-bit formats errs less, and where."""
    return Prediction(
        question="Round numbers between 0.01 and 8 to both formats, and compare the largest errors"
        " |rounded − exact|. Which format errs less?",
        options=(
            "q3.4 everywhere: it spends no bits on an exponent.",
            "E4M3 everywhere: floating point is finer.",
            "E4M3 for small numbers, q3.4 for large ones.",
        ),
        right="C",
        why="The error of fixed point is at most half a step, 1/32, whatever the number. That of a"
        " float is in proportion to the number: below 1/2 it is smaller, above 1 larger. Which"
        " format is better depends on where your numbers are.",
    )


@app.function(hide_code=True)
def figure_errors() -> Figure:
    """Draw the largest errors of q3.4 and E4M3, for values from one power of two to the next."""
    edges = 2.0 ** np.arange(-7, 4)
    with ps.plots.figure(1, width=12) as axes:
        panel = axes[0]
        for name in ("q3.4", "e4m3"):
            largest = []
            for start in edges[:-1]:
                x = np.linspace(start, min(2 * start, 7.9), 400)
                largest.append(np.abs(ps.round_to(x, name) - x).max())
            panel.stairs(largest, edges, color=ps.plots.format_color(name), label=name)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set(xlabel="value", ylabel="error", ylim=(2.0**-12, 0.5))
        panel.set_title("Largest error between powers of two")
        ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_1 = mo.ui.radio(prediction_errors().letters, inline=True)
    mo.vstack([prediction_errors(), letter_1])
    return (letter_1,)


@app.cell(hide_code=True)
def _(letter_1):
    prediction_errors().reveal(letter_1.value, figure_errors())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Rounding by a shift

    The product of two q3.8 numbers has 16 bits after the point. To get back to 8, programs shift
    the whole number by 8 bits to the right. A shift drops bits, so it rounds **down**, to the next
    smaller number. Converting to an integer, `int(x)`, rounds **toward zero**. For negative numbers
    these are not the same.
    """)
    return


@app.function(hide_code=True)
def exercise_shift() -> Exercise:
    """Ask for the code of a negative value, rounded down."""
    down, to_zero = code_of(-0.2, "q3.8:rtn"), code_of(-0.2, "q3.8:rtz")
    return Exercise(
        question="**Exercise 3.** −0.2 × 256 = −51.2. Which code does rounding *down*, as a shift"
        " does, give for −0.2 in q3.8?",
        right=down,
        why="The next smaller whole number is −52. A shift makes every number a little smaller,"
        " positive or negative, by half a step on average. Over many products that adds up.",
        mistakes=(
            Mistake(
                answer=to_zero,
                hint="That is toward zero (and to nearest too). Which whole number is next *below*"
                " −51.2?",
            ),
            Mistake(answer=-down, hint="The number is negative, so the code is negative."),
        ),
        hints=(
            "Between which two whole numbers does −51.2 lie?",
            "It lies between −52 and −51. Down is toward minus infinity.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="code")
    mo.vstack([exercise_shift(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_shift().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Beyond the range

    A fixed-point format has no infinity. A result beyond the range can **saturate**, that is, stay
    at the largest value. Or the bits that do not fit are simply lost, as in the integers of NumPy:
    then the result **wraps** around.
    """)
    return


@app.function(hide_code=True)
def prediction_overflow() -> Prediction:
    """Ask what wrapping does to a wave that is too high."""
    return Prediction(
        question="A sine wave of height 10 is stored in q3.4, whose largest value is 7.9375. The"
        " device wraps. What becomes of the peaks of the wave?",
        options=(
            "They are cut flat at 7.9375.",
            "They jump to the other end of the range, near −8.",
            "They become 0.",
        ),
        right="B",
        why="Wrapping takes 16, the width of the range, off what is too large: 10 becomes −6. The"
        " error is as large as the range. Saturation errs by what is too much, here by 2. In a"
        " control loop or in sound, a wrapped peak is a bang, a saturated one is a distortion.",
    )


@app.function(hide_code=True)
def figure_overflow() -> Figure:
    """Draw a wave that is too high, saturated and wrapped."""
    time = np.linspace(0, 2, 400)
    wave = 10 * np.sin(2 * np.pi * time)
    with ps.plots.figure(2, height=4.6) as axes:
        for panel, overflow in zip(axes, ("saturate", "wrap"), strict=True):
            panel.plot(time, wave, color="0.6", linestyle="--", label="exact")
            stored = ps.round_to(wave, "q3.4", overflow=overflow)
            color = ps.plots.format_color("q3.4")
            panel.plot(time, stored, color=color, label=f"q3.4, {overflow}")
            panel.set(xlabel="time", ylabel="value", ylim=(-11, 11))
            panel.set_title(f"A wave of height 10 in q3.4: {overflow}")
            ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_overflow().letters, inline=True)
    mo.vstack([prediction_overflow(), letter_2])
    return (letter_2,)


@app.cell(hide_code=True)
def _(letter_2):
    prediction_overflow().reveal(letter_2.value, figure_overflow())
    return


@app.function(hide_code=True)
def exercise_wrap() -> Exercise:
    """Ask for a sum that wraps."""
    total, width = 7.5 + 1.25, 2.0 ** (Q34.integer_bits + 1)
    largest = float(ps.round_to(np.float64(total), "q3.4:saturate"))
    return Exercise(
        question="**Exercise 4.** 7.5 + 1.25 is computed in q3.4, and overflow wraps. What is the"
        " result?",
        right=float(ps.round_to(np.float64(total), "q3.4:wrap")),
        why="8.75 − 16 = −7.25: the sum of two positive numbers is negative.",
        mistakes=(
            Mistake(answer=largest, hint="That is what saturation gives. Here the result wraps."),
            Mistake(answer=total, hint="8.75 is beyond the largest value, 7.9375."),
            Mistake(
                answer=total - width / 2,
                hint="The range is 16 wide, from −8 to 8: take 16 off, not 8.",
            ),
            Mistake(
                answer=total - width + 0.25,
                hint="Nothing is lost by wrapping but the width of the range, exactly 16.",
            ),
        ),
        hints=(
            "The exact sum is 8.75. By how much does wrapping change what is too large?",
            "The range is 16 wide. Take 16 off 8.75.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="result")
    mo.vstack([exercise_wrap(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_wrap().check(answer_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A scale and a zero point

    In q3.8 the step is a power of two that was chosen once. **Affine quantisation** takes the step
    from the data. A tensor has values from a to b, with a ≤ 0 ≤ b. Unsigned 8-bit codes run from 0
    to 255, so

    * the **scale** is s = (b − a) / 255, the step;
    * the **zero point** is z = −a / s, rounded to a whole number: the code that stands for 0;
    * the code of x is x / s, rounded, plus z; and a code stands for s × (code − z).

    The zero point is rounded so that 0 is exact. Neural networks are full of zeros, from padding
    and from ReLU, and an error in each of them would add up.
    """)
    return


@app.function(hide_code=True)
def exercise_zero_point() -> Exercise:
    """Ask for the zero point of a tensor."""
    zero = int(np.asarray(ps.quantize(RANGE, "uint8").zero_points)[0])
    return Exercise(
        question=f"**Exercise 5.** The values of a tensor go from {RANGE[0]:g} to {RANGE[1]:g}."
        " Which zero point do they have in unsigned 8-bit codes?",
        right=zero,
        why="s = 4/255, and 1 / s = 63.75, which is rounded to 64. So −1 has the code 0, 0 has the"
        " code 64, and 3 has the code 255.",
        mistakes=(
            Mistake(answer=-zero, hint="The code of 0 is not negative: z = −a / s, and a is −1."),
            Mistake(answer=63, hint="63.75 is rounded to nearest, not cut off."),
            Mistake(answer=0, hint="Code 0 stands for the smallest value, −1."),
            Mistake(
                answer=85,
                hint="You divided 255 by 3. The scale is the whole width, 3 − (−1) = 4, over 255.",
            ),
            Mistake(answer=63.75, hint="The zero point is one of the codes: a whole number."),
        ),
        hints=(
            "The scale is 4/255. How many steps is 0 above −1?",
            "1 divided by 4/255 is 63.75. Round it.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="zero point")
    mo.vstack([exercise_zero_point(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_zero_point().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    small = np.array([-1, -0.25, 0, 0.5, 3], np.float32)
    stored = ps.quantize(small, "uint8")
    lines = ["| value | code | stands for | error |", "|---|---|---|---|"]
    for value, code, again in zip(small, stored.codes, ps.dequantize(stored), strict=True):
        lines.append(f"| {value:g} | {code} | {again:.5f} | {again - value:+.5f} |")
    mo.md("\n".join(lines))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    The ends, −1 and 3, have an error too, because the zero point was rounded: the codes are shifted
    by a quarter of a step.

    Weights lie on both sides of 0. For them the **symmetric** form is common: the zero point is 0,
    signed codes run from −127 to 127, and the scale is amax / 127. It makes products cheaper. What
    does it cost where all values are positive?
    """)
    return


@app.function(hide_code=True)
def codes_used(name: str) -> int:
    """Return how many codes values from 0 to 6 take."""
    activations = np.linspace(0, 6, 3001).astype(np.float32)
    return int(np.unique(ps.quantize(activations, name).codes).size)


@app.function(hide_code=True)
def exercise_symmetric() -> Exercise:
    """Ask how many codes are of use for positive values in the symmetric form."""
    used = codes_used("int8_symmetric")
    return Exercise(
        question="**Exercise 6.** After a ReLU, all values of a tensor lie between 0 and 6. How many"
        " different codes do they take in the symmetric form?",
        right=used,
        why="Codes 0 to 127 are used, the negative ones stay idle: that is one bit, 6 dB. With a"
        f" zero point all {codes_used('uint8')} codes are used.",
        mistakes=(
            Mistake(
                answer=codes_used("uint8"),
                hint="That is the number of all codes, those for negative values included.",
            ),
            Mistake(answer=used - 1, hint="0 has a code too."),
            Mistake(answer=2 * used - 1, hint="Those are the codes from −127 to 127."),
            Mistake(answer=7, hint="Not only whole numbers occur: the step is 6/127."),
        ),
        hints=(
            "The codes run from −127 to 127. Which of them stand for values from 0 to 6?",
            "0 has the code 0 and 6 the code 127.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_6 = mo.ui.text(label="codes")
    mo.vstack([exercise_symmetric(), answer_6])
    return (answer_6,)


@app.cell
def _(answer_6):
    exercise_symmetric().check(answer_6.value)
    return


@app.function(hide_code=True)
def figure_channels() -> Figure:
    """Draw the SQNR of each channel with one scale for all, and with a scale for each."""
    sizes = 2.0 ** -np.arange(8)
    normal = np.random.default_rng(0).standard_normal((8, 256))
    weights = (sizes[:, None] * normal).astype(np.float32)
    with ps.plots.figure(1, width=12) as axes:
        panel = axes[0]
        for fmt, marker, label in (
            ("int8_symmetric", "o", "one scale for the tensor"),
            ("int8_symmetric_channel", "s", "one scale per channel"),
        ):
            after = ps.dequantize(ps.quantize(weights, fmt, axis=0))
            quality = [float(ps.sqnr(a, b)) for a, b in zip(weights, after, strict=True)]
            panel.plot(np.arange(1, 9), quality, marker=marker, label=label)
        panel.set(xlabel="channel (each half as large as the one before)", ylabel="SQNR (dB)")
        panel.set(ylim=(-2, 46))
        panel.set_title("Eight channels of weights in 8-bit integers")
        ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## More scales

    One scale for a whole tensor wastes the codes on its smaller parts. Below, each of eight
    channels of weights is half as large as the one before it. With one scale each channel loses
    6 dB, one bit, against its neighbour. With a scale for each channel all are as good as the
    first.
    """)
    return


@app.cell(hide_code=True)
def _():
    picture(figure_channels())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * Fixed point is a whole number of steps. Its error is the same everywhere, half a step.
    * To code, multiply by 2 to the power of the fraction bits, and round. A shift rounds down.
    * Beyond the range, saturation errs by what is too much, wrapping by the whole range.
    * Affine integers take their step from the data; the zero point makes 0 exact.
    * One outlier, or one large channel, sets the step for all that share its scale.

    At home: `precsim show 0.3 q3.8 uint8` shows codes and errors.
    """)
    return


if __name__ == "__main__":
    app.run()
