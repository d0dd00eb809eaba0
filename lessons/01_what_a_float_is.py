"""Lesson 1: a marimo notebook."""

import marimo

app = marimo.App(app_title="1. What a float is")

with app.setup(hide_code=True):
    from decimal import Decimal
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn, picture

    LESSON = Lesson(
        title="What a float is",
        goal="You can read the bits of a floating-point number, write them for a value, and say"
        " which values a format has.",
        minutes=20,
        needs="Powers of two, such as 2³ = 8 and 2⁻² = 1/4.",
    )
    TINY = ps.FloatFormat(name="tiny", precision=3, exponent_bits=3)


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Fractions in binary

    In the decimal number 0.75, the digits count tenths and hundredths. In binary, the digits after
    the point count halves, quarters, eighths:

    | binary | means | decimal |
    |---|---|---|
    | 0.1 | 1/2 | 0.5 |
    | 0.01 | 1/4 | 0.25 |
    | 0.11 | 1/2 + 1/4 | 0.75 |
    | 0.101 | 1/2 + 1/8 | 0.625 |

    To find the digits of a fraction, double it again and again. Each time, the part before the
    point is the next digit; go on with the part after the point.
    """)
    return


@app.function(hide_code=True)
def exercise_binary_fraction() -> Exercise:
    """Ask for binary digits: those of x < 1 are the trailing bits of 1 + x."""
    code = int(ps.encode(1 + 13 / 16, "float(e=3,p=5)"))
    digits = f"{code & 15:04b}"
    return Exercise(
        question="**Exercise 1.** Write 13/16 = 0.8125 in binary. Which digits stand after the"
        " point? (Four digits.)",
        right=digits,
        why="13/16 = 1/2 + 1/4 + 1/16: the place of the eighths stays empty.",
        mistakes=(
            Mistake(
                answer=digits[::-1],
                hint="You wrote the digits from right to left. The first digit after the point"
                " counts halves: is 13/16 at least 1/2?",
            ),
            Mistake(
                answer="1110",
                hint="1/2 + 1/4 + 1/8 = 14/16, which is too much. What is left after 1/2 + 1/4?",
            ),
        ),
        hints=(
            "Double 13/16: that is 26/16 = 1 and 10/16. The first digit is 1; go on with 10/16.",
            "Write 13 as a sum of 8, 4, 2, 1. Sixteenths are counted in the same way.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="digits")
    mo.vstack([exercise_binary_fraction(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_binary_fraction().check(answer_1.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Three fields

    Scientific notation writes 0.00021 as 2.1 × 10⁻⁴: a number between 1 and 10, and a power of
    ten. A floating-point number does the same with a power of two. Its bits stand in three fields:

    ```text
    0    100        10
    sign exponent   trailing significand
    ```

    * The **sign** is 0 for plus, 1 for minus.
    * The **exponent** field E is a whole number. A fixed number is taken off, the **bias**, so that
      small powers of two can be written too: the power is E − bias.
    * The **significand** lies between 1 and 2. In binary it always begins with 1, so this **hidden
      bit** is not stored. The field has the digits after the point.

    The value is *significand × 2^(E − bias)*, with the sign before it. With a bias of 3, the bits
    above have E = 4 and mean 1.10 in binary × 2^(4 − 3).

    This format has 6 bits: 1 for the sign, 3 for the exponent, 2 for the significand, whose
    precision is 3 as the hidden bit counts too. We call it *tiny*. It is built like the formats
    of your machine, and you can look at all of it.
    """)
    return


@app.function(hide_code=True)
def exercise_value_of_bits() -> Exercise:
    """Ask for the value of one code of the tiny format."""
    value = Fraction(float(ps.decode(np.uint8(0b010010), TINY)))
    return Exercise(
        question="**Exercise 2.** Which value do the bits `0 100 10` have in the tiny format"
        " (bias 3)?",
        right=value,
        why="1.10 in binary is 1.5, and 1.5 × 2¹ = 3.",
        mistakes=(
            Mistake(
                answer=value - 2,
                hint="You forgot the hidden bit: the significand is 1.10 in binary, not 0.10.",
            ),
            Mistake(
                answer=value * 2**TINY.bias,
                hint="You forgot the bias: the power is E − 3, not E.",
            ),
            Mistake(
                answer=(value - 2) * 2**TINY.bias,
                hint="You forgot both the hidden bit and the bias.",
            ),
            Mistake(
                answer=Fraction(110, 100) * 2,
                hint="1.10 is binary here: the first digit after the point counts halves.",
            ),
        ),
        hints=(
            "The exponent field 100 is 4. Which power of two is that, with the bias 3?",
            "The significand is 1.10 in binary: one and one half.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="value")
    mo.vstack([exercise_value_of_bits(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_value_of_bits().check(answer_2.value)
    return


@app.function(hide_code=True)
def exercise_bits_of_value() -> Exercise:
    """Ask for the code of a value in the tiny format."""
    code = f"{int(ps.encode(5.0, TINY)):06b}"
    bits = f"{code[0]} {code[1:4]} {code[4:]}"
    return Exercise(
        question="**Exercise 3.** The other way round: which bits has 5 in the tiny format? Write"
        " sign, exponent and trailing significand, such as `0 100 10`.",
        right=bits,
        why="5 = 1.01 in binary × 2², and the exponent field is 2 + 3 = 5.",
        mistakes=(
            Mistake(
                answer="0 010 01",
                hint="You forgot the bias: the exponent field is the power plus 3.",
            ),
            Mistake(
                answer="0 101 10",
                hint="You stored the hidden bit. The field has only the digits after the point"
                " of 1.01.",
            ),
            Mistake(
                answer="0 010 10",
                hint="The field has only the digits after the point of 1.01, and the exponent"
                " field is the power plus 3.",
            ),
        ),
        hints=(
            "5 is 101 in binary. Move the point until one digit stands before it: 1.01 × 2².",
            "Sign 0; the exponent field is 2 + bias; then the digits after the point.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="bits")
    mo.vstack([exercise_bits_of_value(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_bits_of_value().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Where the values lie

    Two exponent fields are special. All ones (111) is kept for infinity and for NaN, *not a
    number*. All zeros (000) is for zero and its neighbours; we come to them below the figure.
    """)
    return


@app.function(hide_code=True)
def prediction_number_line() -> Prediction:
    """Ask how the values of a format are spread."""
    return Prediction(
        question="Mark every positive value of the tiny format on a line from 0 to 14. What do"
        " you see?",
        options=(
            "The values are spread evenly.",
            "The gaps double again and again toward the right; next to zero they are even.",
            "The gaps halve again and again toward zero, without an end.",
        ),
        right="B",
        why=f"Between two powers of two there are {2 ** (TINY.precision - 1)} values, so each gap"
        " is twice as wide from one power of two to the next. Only below the smallest normal"
        f" value, {TINY.min_normal}, the gap stays the same down to zero.",
    )


@app.function(hide_code=True)
def tiny_values() -> np.ndarray:
    """Return the positive finite values and zero, in the order of their codes."""
    values = np.asarray(ps.decode(np.arange(32, dtype=np.uint8), TINY), np.float64)
    return values[np.isfinite(values)]


@app.function(hide_code=True)
def figure_number_line() -> Figure:
    """Draw every value of the tiny format from zero on: all of them, and those near zero."""
    values = tiny_values()
    is_subnormal = values < TINY.min_normal
    with ps.plots.figure(2, height=4.2) as axes:
        for panel, end, title in (
            (axes[0], 14.5, "All positive values of the tiny format"),
            (axes[1], 1.05, "The values up to 1"),
        ):
            for mask, row, label in (
                (~is_subnormal, 1, "normal"),
                (is_subnormal, 0, "zero and subnormal"),
            ):
                shown = values[mask & (values <= end)]
                panel.plot(shown, np.full(shown.shape, row), "|", markersize=16, label=label)
            panel.set_yticks([0, 1], ["E = 0", "E > 0"])
            panel.set(xlabel="value", ylabel="exponent field", ylim=(-0.6, 1.6), title=title)
            panel.grid(axis="y", visible=False)
            ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter = mo.ui.radio(prediction_number_line().letters, inline=True)
    mo.vstack([prediction_number_line(), letter])
    return (letter,)


@app.cell
def _(letter):
    prediction_number_line().reveal(letter.value, figure_number_line())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The whole format in a table

    Here are the values with sign 0: one row for each exponent field, one column for each trailing
    significand. In a row the values go up in equal steps. From row to row the step doubles.

    In the row E = 0 the hidden bit is 0 instead of 1, and the power is that of the row above it,
    1 − bias. These values are called **subnormal**. Without them, there would be a hole between
    zero and the smallest normal value.
    """)
    return


@app.function(hide_code=True)
def figure_table() -> Figure:
    """Draw the table of all values with sign 0: exponent fields down, significands across."""
    codes = np.arange(32, dtype=np.uint8).reshape(8, 4)
    values = np.asarray(ps.decode(codes, TINY), np.float64)
    with ps.plots.figure(1, height=7.5) as axes:
        panel = axes[0]
        for (row, column), value in np.ndenumerate(values):
            text = str(Fraction(value)) if np.isfinite(value) else str(value)
            panel.text(column, row, text, ha="center", va="center")
        panel.axhspan(-0.5, 0.5, color="0.9", zorder=0)
        panel.set_xticks(range(4), [f"{k:02b}" for k in range(4)])
        panel.set_yticks(range(8), [f"{k:03b}" for k in range(8)])
        panel.set(xlim=(-0.5, 3.5), ylim=(7.5, -0.5))
        panel.set(xlabel="trailing significand", ylabel="exponent field E")
        panel.set_title("Values of the tiny format (grey: subnormal)")
        panel.grid(visible=False)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    picture(figure_table())
    return


@app.function(hide_code=True)
def exercise_smallest() -> Exercise:
    """Ask for the smallest positive value."""
    smallest = Fraction(TINY.min_subnormal)
    return Exercise(
        question="**Exercise 4.** Do not look at the table: compute the smallest positive value"
        " of the tiny format, that of the bits `0 000 01`.",
        right=smallest,
        why="0.01 in binary is 1/4, and the power is 1 − 3 = −2: 1/4 × 1/4 = 1/16.",
        mistakes=(
            Mistake(
                answer=Fraction(TINY.min_normal),
                hint="That is the smallest *normal* value. Subnormal values are smaller.",
            ),
            Mistake(
                answer=smallest / 2,
                hint="With E = 0 the power is 1 − bias, not 0 − bias.",
            ),
            Mistake(
                answer=Fraction(5, 4) * Fraction(TINY.min_normal),
                hint="With E = 0 the hidden bit is 0: the significand is 0.01, not 1.01.",
            ),
            Mistake(
                answer=Fraction(5, 4) * Fraction(TINY.min_normal) / 2,
                hint="With E = 0 the hidden bit is 0, and the power is 1 − bias.",
            ),
        ),
        hints=(
            "E = 0, so this is a subnormal value: the hidden bit is 0.",
            "The significand is 0.01 in binary, 1/4. The power is 1 − bias = −2.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="value")
    mo.vstack([exercise_smallest(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_smallest().check(answer_4.value)
    return


@app.function(hide_code=True)
def exercise_count() -> Exercise:
    """Ask how many finite values there are."""
    every = np.asarray(ps.decode(np.arange(64, dtype=np.uint8), TINY))
    finite = every[np.isfinite(every)]
    return Exercise(
        question="**Exercise 5.** How many different finite values does the tiny format have?"
        " Count 0 and −0 as one value.",
        right=len(set(finite.tolist())),
        why="7 exponent fields × 4 significands × 2 signs = 56 codes, and two of them are zeros.",
        mistakes=(
            Mistake(
                answer=64, hint="That is the number of codes. Not each code is a finite value."
            ),
            Mistake(
                answer=finite.size,
                hint="You counted 0 and −0 twice: they have two codes, but are equal.",
            ),
            Mistake(
                answer=finite.size // 2,
                hint="You counted one sign only: negative values belong to the format too.",
            ),
            Mistake(
                answer=63, hint="Codes with E = 111 are infinities and NaN, which are not finite."
            ),
        ),
        hints=(
            "How many exponent fields are left without 111? How many codes has each?",
            "Do not forget the negative values, and that 0 and −0 are equal.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="number")
    mo.vstack([exercise_count(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_count().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Why 0.1 is not 0.1

    Double 0.1 again and again: 0.2, 0.4, 0.8, 1.6, then 0.6 goes on as 1.2, and 0.2 was there
    before. The digits repeat without an end: 0.1 is 0.0001100110011... in binary. No format has
    room for all of them, so the nearest value is stored instead. Only fractions whose denominator
    is a power of two come to an end.
    """)
    return


@app.function(hide_code=True)
def stored_tenth(name: str) -> float:
    """Return what a format stores for 0.1."""
    return float(ps.round_to(np.float64(0.1), name))


@app.cell(hide_code=True)
def _():
    names = ("e4m3", "bf16", "fp16", "fp32", "fp64")
    rows = [f"| {name} | {Decimal(stored_tenth(name))} |" for name in names]
    mo.md("\n".join(["| format | what is stored for 0.1, all digits |", "|---|---|", *rows]))
    return


@app.function(hide_code=True)
def exercise_exponent_of_tenth() -> Exercise:
    """Ask for the exponent field of 0.1 in fp16."""
    code = int(ps.encode(np.float32(stored_tenth("fp16")), "fp16"))
    field = f"{code >> 10 & 31:05b}"
    bias = ps.FloatFormat(name="like fp16", precision=11, exponent_bits=5).bias
    return Exercise(
        question="**Exercise 6.** fp16 has 1 sign bit, 5 exponent bits with a bias of"
        f" {bias}, and 10 bits of trailing significand. Which exponent field has 0.1? (Five bits.)",
        right=field,
        why="0.1 = 1.6 × 2⁻⁴, and the exponent field is −4 + 15 = 11.",
        mistakes=(
            Mistake(
                answer=f"{bias - 3:05b}",
                hint="You took 0.8 × 2⁻³. The significand must be at least 1.",
            ),
            Mistake(
                answer=f"{bias + 4:05b}",
                hint="0.1 is smaller than 1, so its power of two is negative.",
            ),
            Mistake(answer="00100", hint="You forgot the bias: the field is the power plus 15."),
        ),
        hints=(
            "Double 0.1 until you reach a number between 1 and 2. How often did you double?",
            "0.1 = 1.6 × 2⁻⁴. Add the bias to −4, and write the sum in binary.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_6 = mo.ui.text(label="bits")
    mo.vstack([exercise_exponent_of_tenth(), answer_6])
    return (answer_6,)


@app.cell
def _(answer_6):
    exercise_exponent_of_tenth().check(answer_6.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * A float is a sign, a significand between 1 and 2, and a power of two.
    * The first bit of the significand is hidden; the exponent is stored with a bias.
    * From each power of two to the next, the gap between values doubles. Next to zero, subnormal
      values keep the gap even.
    * Most decimal fractions, such as 0.1, lie between two values. Which one is taken is the
      subject of lesson 2.

    At home: `precsim show 0.1 fp16` prints the fields of any number in any format.
    """)
    return


if __name__ == "__main__":
    app.run()
