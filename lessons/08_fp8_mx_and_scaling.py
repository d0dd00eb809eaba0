"""Lesson 8: a marimo notebook."""

import marimo

app = marimo.App(app_title="8. fp8, MX and scaling")

with app.setup(hide_code=True):
    import math

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn, picture

    LESSON = Lesson(
        title="fp8, MX and scaling",
        goal="You can choose a scale for a tensor in 8 bits, say what an outlier does to it, and"
        " compute the scale and the values of a block in MXFP4.",
        minutes=20,
        needs="Lesson 1: exponent, significand, subnormal values. The decibel is explained here.",
    )

    def float_format(name: str) -> ps.FloatFormat:
        """Return a floating-point format by its name."""
        fmt = ps.get_format(name)
        assert isinstance(fmt, ps.FloatFormat)
        return fmt

    E4M3 = float_format("e4m3")
    BLOCK = np.array([100, 40, -20, 5, 3, -1, 0.5, 0.2], np.float32)


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Two ways to divide eight bits

    After the sign, seven bits are left for exponent and significand. Each bit that goes to the
    exponent squares the range, and each bit that goes to the significand halves the rounding error.
    Two divisions are in use: E4M3 has 4 exponent bits and 3 trailing bits, E5M2 has 5 and 2. E4M3
    is for weights and activations, which need precision; E5M2 is for gradients, which need range.

    Seven bits are so few that E4M3 does without infinities. Of the row of codes with the exponent
    field 1111, only the one with all significand bits set, `1111 111`, is NaN. The others are
    numbers.
    """)
    return


@app.function(hide_code=True)
def exercise_largest() -> Exercise:
    """Ask for the largest finite value of E4M3."""
    largest = int(E4M3.max_finite)
    step = int(E4M3.max_finite - ps.decode(np.uint8(0b01111101), "e4m3"))
    return Exercise(
        question="**Exercise 1.** E4M3 has the bias 7. Which value is its largest, with the bits"
        " `0 1111 110`?",
        right=largest,
        why="1.110 in binary is 1.75, and 1.75 × 2⁸ = 448.",
        mistakes=(
            Mistake(answer=largest + step, hint="1.111 with this exponent is kept for NaN."),
            Mistake(
                answer=int(float_format("ieee_e4m3").max_finite),
                hint="That is the largest value of a format that gives the whole exponent field"
                " 1111 to infinity and NaN, as IEEE 754 does. E4M3 does not.",
            ),
            Mistake(answer=largest - 2**8, hint="You forgot the hidden bit: 1.110, not 0.110."),
        ),
        hints=(
            "The exponent field 1111 is 15. Take off the bias: which power of two is that?",
            "The significand is 1.110 in binary: 1 + 1/2 + 1/4.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="value")
    mo.vstack([exercise_largest(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_largest().check(answer_1.value)
    return


@app.cell(hide_code=True)
def _():
    table = ["| format | largest | smallest normal | smallest | unit roundoff |"]
    table.append("|---|---|---|---|---|")
    for each in ("e4m3", "e5m2", "fp16"):
        found = float_format(each)
        table.append(
            f"| {each} | {found.max_finite:g} | 2^{math.log2(found.min_normal):.0f} |"
            f" 2^{math.log2(found.min_subnormal):.0f} | 2^{math.log2(found.unit_roundoff):.0f} |"
        )
    mo.md("\n".join(table))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## How good is it? Signal over noise

    Round a tensor x, and call the difference the noise. The **SQNR**, the signal-to-quantisation-
    noise ratio, compares their powers: 10 log₁₀(sum of x² / sum of noise²), in decibel (dB). Each
    bit of precision is worth 6 dB, as it halves the noise and so divides its power by 4. With
    `ps.sqnr(x, rounded)` you can measure it.
    """)
    return


@app.function(hide_code=True)
def prediction_scale_of_data() -> Prediction:
    """Ask how the quality of a float depends on the size of the data."""
    return Prediction(
        question="Take 2,000 normal random numbers, multiply them by 2^k, and round them to E4M3,"
        " where what is too large becomes the largest value. How does the SQNR depend on k?",
        options=(
            "It rises with k all the way: larger numbers are rounded better.",
            "It is nearly constant over many k, and falls at both ends.",
            "It has a sharp peak at k = 0 and falls on both sides.",
        ),
        right="B",
        why="A float rounds large and small numbers with the same *relative* error, as long as"
        " they are within its range. To the left the numbers become subnormal, then 0; to the right"
        " they saturate. E5M2 has one bit less, 6 dB, and a plateau twice as wide. Integers without"
        " a scale have no plateau at all: for them only the place just before the saturation is"
        " good.",
    )


@app.function(hide_code=True)
def sqnr_by_scale(spec: str, powers: np.ndarray) -> np.ndarray:
    """Return the SQNR of normal numbers times 2**k, each rounded without a scale, in decibel."""
    x = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    scaled = [x * np.float32(2.0**k) for k in powers]
    return np.array([float(ps.sqnr(each, ps.round_to(each, spec))) for each in scaled])


@app.function(hide_code=True)
def figure_scale_of_data() -> Figure:
    """Draw the SQNR of two 8-bit floats and an 8-bit fixed point over the size of the data."""
    powers = np.arange(-18, 19)
    with ps.plots.figure(1, width=12) as axes:
        curves = {
            label: (powers, sqnr_by_scale(spec, powers))
            for label, spec in (
                ("e4m3", "e4m3:saturate"),
                ("e5m2", "e5m2:saturate"),
                ("q3.4, fixed point", "q3.4"),
            )
        }
        ps.plots.plot_curves(axes[0], curves, markevery=4)
        axes[0].set(xlabel="size of the data: 2 to the power k", ylabel="SQNR (dB)", ylim=(0, 46))
        axes[0].set_title("Normal numbers times a power of two, rounded to 8 bits")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_1 = mo.ui.radio(prediction_scale_of_data().letters, inline=True)
    mo.vstack([prediction_scale_of_data(), letter_1])
    return (letter_1,)


@app.cell(hide_code=True)
def _(letter_1):
    prediction_scale_of_data().reveal(letter_1.value, figure_scale_of_data())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## One scale for a tensor

    So shift the data onto the plateau: multiply the tensor by a scale, round, and divide again. The
    scale follows from the largest magnitude of the tensor, its **amax**. With a power of two as
    scale, the multiplication and the division are exact.

    This is what the policy `fp8_current` does with every operand of a product. `fp8_delayed` takes
    the amax of earlier steps, which saves one pass over the data.
    """)
    return


@app.function(hide_code=True)
def exercise_scale() -> Exercise:
    """Ask for the largest power of two that leaves a tensor in the range of E4M3."""
    amax = 0.03
    scale = 2 ** math.floor(math.log2(E4M3.max_finite / amax))
    return Exercise(
        question=f"**Exercise 2.** A tensor has the amax {amax}. Which is the largest power of two"
        f" that you can multiply it by, if nothing may be larger than {E4M3.max_finite:g}?",
        right=scale,
        why=f"448 / 0.03 is about 14933. The power of two below it is {scale}.",
        mistakes=(
            Mistake(
                answer=2 * scale,
                hint=f"{amax} × {2 * scale} = {amax * 2 * scale:g}: more than 448. Round the"
                " quotient down to a power of two, not up.",
            ),
            Mistake(
                answer=13,
                hint="That is the exponent. The scale is the power of two itself.",
            ),
            Mistake(
                answer=2 ** math.floor(math.log2(1 / amax)),
                hint="You brought amax near 1. Bring it near the largest value of the format.",
            ),
        ),
        hints=(
            "How often does 0.03 fit into 448?",
            "448 / 0.03 is about 14933. The scale is a power of two, and not larger than that.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="scale")
    mo.vstack([exercise_scale(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_scale().check(answer_2.value)
    return


@app.function(hide_code=True)
def prediction_outlier() -> Prediction:
    """Ask what one large element does to all others."""
    return Prediction(
        question="Each tensor now has its own scale. One of 2,000 normal numbers grows to 10, 100,"
        " 1000, so the scale follows it. How well are the *other* 1,999 numbers rounded?",
        options=(
            "In all formats they are rounded as before: the scale takes care of the outlier.",
            "In all formats they get worse, by 6 dB for each doubling of the outlier.",
            "Integers get worse by 6 dB a doubling; E4M3 and blocks of 32 hardly change.",
        ),
        right="C",
        why="With integers the step is the same everywhere: it grows with the outlier. In E4M3 the"
        " step follows each number, and the others have room below the outlier. In MXFP4 one block"
        " of 32 suffers, and the other blocks have scales of their own.",
    )


@app.function(hide_code=True)
def sqnr_of_others(spec: str, outliers: np.ndarray) -> np.ndarray:
    """Return the SQNR of a tensor's other elements when one of them is an outlier, in decibel."""
    x = np.random.default_rng(1).standard_normal(2000).astype(np.float32)
    found = []
    for outlier in outliers:
        x[5] = outlier
        found.append(float(ps.sqnr(np.delete(x, 5), np.delete(ps.round_to(x, spec), 5))))
    return np.array(found)


@app.function(hide_code=True)
def figure_outlier() -> Figure:
    """Draw how well the other elements are rounded, over the size of one outlier."""
    outliers = 2.0 ** np.arange(2, 12)
    with ps.plots.figure(1, width=12) as axes:
        curves = {
            label: (outliers, sqnr_of_others(spec, outliers))
            for label, spec in (
                ("int8, one scale", "int8_symmetric"),
                ("e4m3, one scale", "e4m3:scale=tensor"),
                ("mxfp8_e4m3, blocks", "mxfp8_e4m3"),
                ("mxfp4, blocks", "mxfp4"),
            )
        }
        ps.plots.plot_curves(axes[0], curves, markevery=1)
        axes[0].set_xscale("log", base=2)
        axes[0].set(xlabel="outlier", ylabel="SQNR of the others (dB)", ylim=(0, 44))
        axes[0].set_title("One element grows: how well are the others rounded?")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_outlier().letters, inline=True)
    mo.vstack([prediction_outlier(), letter_2])
    return (letter_2,)


@app.cell(hide_code=True)
def _(letter_2):
    prediction_outlier().reveal(letter_2.value, figure_outlier())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## One scale for 32 numbers: MX

    Four bits cannot do without many scales. The element E2M1 has only the values 0, 0.5, 1, 1.5, 2,
    3, 4, 6 and their negatives. In **MXFP4** each 32 neighbours share a scale, a power of two that
    is stored in 8 bits. The rule of the standard takes the largest magnitude of the block, amax:

    *scale = 2^(e − 2)*, where 2^e is the power of two at or just below amax, and 2 is the exponent
    of the element's largest value, 6 = 1.5 × 2².

    Each number is divided by the scale, rounded to an element, and multiplied again. Below are
    eight numbers of a block whose other numbers are 0: 100, 40, −20, 5, 3, −1, 0.5, 0.2.
    """)
    return


@app.function(hide_code=True)
def exercise_block_scale() -> Exercise:
    """Ask for the scale of a block by the rule of the standard."""
    scale = int(ps.decode(ps.quantize(BLOCK, "mxfp4").scales, "e8m0")[0])
    return Exercise(
        question="**Exercise 3.** Which scale has this block in MXFP4?",
        right=scale,
        why="64 ≤ 100 < 128, so e = 6, and the scale is 2^(6 − 2) = 16.",
        mistakes=(
            Mistake(
                answer=64, hint="You forgot to take off 2, the exponent of the largest element."
            ),
            Mistake(
                answer=2 * scale,
                hint="You rounded up to a power of two. The rule takes the one at or below amax;"
                " what is then too large saturates.",
            ),
            Mistake(answer=4, hint="That is the exponent. The scale is 2 to the power of it."),
        ),
        hints=(
            "amax is 100. Which power of two is just below it?",
            "2⁶ = 64 is just below 100. Take off 2 in the exponent.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="scale")
    mo.vstack([exercise_block_scale(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_block_scale().check(answer_3.value)
    return


@app.function(hide_code=True)
def exercise_small_element() -> Exercise:
    """Ask what becomes of a small element beside a large one."""
    after = ps.round_to(BLOCK, "mxfp4")
    return Exercise(
        question="**Exercise 4.** With this scale, which value does 5 become? And which of the"
        " eight numbers become 0? Answer the first question here.",
        right=int(after[3]),
        why="5/16 = 0.3125 lies between 0 and 0.5, nearer to 0.5, and 0.5 × 16 = 8. The numbers"
        f" {', '.join(f'{x:g}' for x in BLOCK[after == 0])} are nearer to 0: they are lost.",
        mistakes=(
            Mistake(answer=5, hint="5/16 = 0.3125 is no value of E2M1."),
            Mistake(answer=0, hint="5/16 = 0.3125 is nearer to 0.5 than to 0."),
            Mistake(answer=0.5, hint="That is the element. Multiply it by the scale again."),
            Mistake(
                answer=4,
                hint="You took 0.25, which E2M1 does not have: below 0.5 there is only 0.",
            ),
        ),
        hints=(
            "Divide 5 by the scale, 16, and look for the nearest value of E2M1.",
            "The smallest values of E2M1 are 0, 0.5 and 1.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="value")
    mo.vstack([exercise_small_element(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_small_element().check(answer_4.value)
    return


@app.function(hide_code=True)
def figure_block() -> Figure:
    """Draw the numbers of a block, and what MXFP4 and NVFP4 make of them."""
    x = np.random.default_rng(3).standard_normal(32).astype(np.float32)
    x[20] = 12
    with ps.plots.figure(1, width=15) as axes:
        panel = axes[0]
        place = np.arange(1, 33)
        panel.plot(place, x, "o", color="black", markerfacecolor="none", label="exact")
        for fmt, marker in (("mxfp4", "x"), ("nvfp4", "+")):
            after = ps.round_to(x, fmt)
            color, label = ps.plots.format_color(fmt), f"{fmt}: {np.sum(after == 0)} are 0"
            panel.plot(place, after, marker, color=color, markeredgewidth=1, label=label)
        panel.axvline(16.5, color="0.5", linewidth=0.6, linestyle="--")
        panel.set(xlabel="place in the block of 32", ylabel="value")
        panel.set_title("A block with one outlier, at 21 (dashed: where NVFP4 has a new scale)")
        ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    picture(figure_block())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    In MXFP4 the outlier decides for all 32 numbers. **NVFP4** has the same elements, but a scale
    for every 16, and this scale is an E4M3 number, not a power of two. So the first half of the
    block keeps its small numbers. As E4M3 has a short range, there is a further scale in float32
    for the whole tensor.

    More scales cost bits: each one is stored with its block.
    """)
    return


@app.function(hide_code=True)
def exercise_bits() -> Exercise:
    """Ask for the bits of an element of NVFP4, with its part of the scale."""
    return Exercise(
        question="**Exercise 5.** How many bits does a number take in NVFP4, if the 8 bits of each"
        " scale are shared out among the 16 numbers? (The scale of the tensor does not count.)",
        right=quality("nvfp4")[0],
        why=f"4 + 8/16 = 4.5 bits. MXFP4 takes 4 + 8/32 = {quality('mxfp4')[0]:g} bits.",
        mistakes=(
            Mistake(answer=4, hint="You forgot the scale."),
            Mistake(answer=quality("mxfp4")[0], hint="That is MXFP4, with 32 numbers to a scale."),
            Mistake(answer=12, hint="The scale is there once for 16 numbers, not for each."),
            Mistake(answer=4.0625, hint="The scale has 8 bits, not 1."),
        ),
        hints=(
            "An element has 4 bits. How much of a scale falls to each of 16 numbers?",
            "8 bits divided by 16 is half a bit.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="bits")
    mo.vstack([exercise_bits(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_bits().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What does it all give?

    The same normal numbers, without an outlier. Compare formats with equal numbers of bits.
    """)
    return


@app.function(hide_code=True)
def quality(name: str) -> tuple[float, float]:
    """Return the bits of a number and the SQNR in decibel, for normal numbers."""
    x = np.random.default_rng(0).standard_normal(2048).astype(np.float32)
    fmt = ps.get_format(name)
    bits = fmt.bits_per_element if isinstance(fmt, ps.BlockFormat) else float_format(name).width
    return float(bits or 0), float(ps.sqnr(x, ps.round_to(x, name)))


@app.cell(hide_code=True)
def _():
    rows = ["| format | bits a number | SQNR in dB |", "|---|---|---|"]
    for name in ("e4m3", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8", "mxfp6_e2m3", "nvfp4", "mxfp4"):
        width, decibel = quality(name)
        rows.append(f"| {name} | {width:g} | {decibel:.1f} |")
    mo.md("\n".join(rows))
    return


@app.function(hide_code=True)
def exercise_best() -> Exercise:
    """Ask which format of about eight bits is best for normal numbers."""
    names = ("e4m3", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8")
    best = max(names, key=lambda name: quality(name)[1])
    return Exercise(
        question="**Exercise 6.** Normal numbers without an outlier: which of "
        + ", ".join(names)
        + " has the highest SQNR?",
        right=best,
        why="Within a block of normal numbers the magnitudes differ little. Exponent bits are"
        " wasted on them, and integers with a scale per block have more bits for the digits."
        " Numbers with long tails, or with outliers inside of blocks, are another matter.",
        mistakes=(
            Mistake(
                answer="e4m3",
                hint="Look at the table. E4M3 spends 4 bits on an exponent that these numbers"
                " hardly need.",
            ),
            Mistake(
                answer="mxfp8_e4m3",
                hint="Scales of blocks do not help a float whose range is wide enough: they even"
                " cost a little here, where the largest element of a block saturates.",
            ),
            Mistake(answer="mxfp8_e5m2", hint="It has the fewest bits of precision of the four."),
        ),
        hints=(
            "The answer is in the table.",
            "The less the magnitudes within a block differ, the less an exponent is worth.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_6 = mo.ui.text(label="format")
    mo.vstack([exercise_best(), answer_6])
    return (answer_6,)


@app.cell
def _(answer_6):
    exercise_best().check(answer_6.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * A float keeps its relative precision over its range; a scale brings the data into the range.
    * An outlier takes the digits of all that share a scale with it, unless the elements have
      exponents of their own.
    * The narrower the element, the smaller the blocks: E4M3 does with one scale per tensor, E2M1
      needs one per 16 or 32.
    * Scales cost bits too, and the rule by which they are chosen is part of the format.

    At home: `ps.recommend(your_array, sqnr=25)` names the cheapest format and scale for an array of
    yours. The page *Block formats* of the documentation compares five rules for a block's scale.
    """)
    return


if __name__ == "__main__":
    app.run()
