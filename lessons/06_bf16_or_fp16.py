"""Lesson 6: a marimo notebook."""

import marimo

app = marimo.App(app_title="6. bf16 or fp16")

with app.setup(hide_code=True):
    import functools
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn

    LESSON = Lesson(
        title="bf16 or fp16",
        goal="You can say what each of the two 16-bit formats loses in a training: one has too little"
        " range, the other too little precision.",
        minutes=20,
        needs="Lessons 1 and 2; that a network learns by small steps along a gradient.",
    )


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Sixteen bits, split in two ways

    Both formats have 16 bits, one of them for the sign. fp16 gives 5 bits to the exponent and 10 to the
    significand. bf16 gives 8 to the exponent, as many as fp32 has, and 7 to the significand.
    """)
    return


@app.cell(hide_code=True)
def _():
    rows = [
        f"| {name} | {f.exponent_bits} | {f.precision} | {float(f.max_finite):.5g} |"
        f" {float(f.min_normal):.2g} | {float(f.min_subnormal):.2g} | {float(f.unit_roundoff):.2g} |"
        for name in ("fp16", "bf16", "fp32")
        if isinstance(f := ps.get_format(name), ps.FloatFormat)
    ]
    head = "| format | exponent bits | precision | largest | smallest normal | smallest | u |"
    mo.md("\n".join([head, "|---|---|---|---|---|---|---|", *rows]))
    return


@app.function(hide_code=True)
def exercise_largest() -> Exercise:
    """Ask for the largest value of fp16."""
    right = int(ps.round_to(np.float64(1e9), "fp16:saturate"))
    return Exercise(
        question="**Exercise 1.** Compute the largest value of fp16. Its largest exponent field is 30"
        " (31 means infinity), its bias 15; the significand has 10 ones after the point.",
        right=right,
        why="(2 − 2⁻¹⁰) × 2¹⁵ = 65504. 256 × 256 is too large already: sums of squares overflow"
        " easily in fp16.",
        mistakes=(
            Mistake(answer=65536, hint="That is 2¹⁶. The significand stays a little below 2."),
            Mistake(answer=65535, hint="The last place of the largest value is not 1 but 2⁵ = 32."),
            Mistake(answer=32768, hint="That is 2¹⁵ alone. The significand is nearly 2."),
            Mistake(answer=2 * right, hint="The field 31 is kept for infinity and NaN."),
        ),
        hints=("The power is 30 − 15. The significand is 2 − 2⁻¹⁰.", "2¹⁶ − 2⁵ = ..."),
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


@app.function(hide_code=True)
def exercise_next() -> Exercise:
    """Ask for the value of bf16 above 1."""
    right = 1 + Fraction(float(ps.ulp(np.float64(1), "bf16")))
    return Exercise(
        question="**Exercise 2.** Which is the next value of bf16 above 1? (You can write"
        " `1 + 2**-3`.)",
        right=right,
        why="7 stored bits: the gap above 1 is 2⁻⁷. So bf16 keeps two to three decimal digits,"
        " fp16 three to four.",
        mistakes=(
            Mistake(
                answer=1 + Fraction(1, 256),
                hint="That is half a gap above 1: count the *stored* bits of the significand.",
            ),
            Mistake(answer=1 + Fraction(1, 1024), hint="That is the next value of fp16."),
            Mistake(answer=Fraction(1, 128), hint="That is the gap. Add it to 1."),
            Mistake(answer=2, hint="Between 1 and 2 bf16 has 127 further values."),
        ),
        hints=("bf16 stores 7 bits after the point.", "The last of these bits counts 2⁻⁷."),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="value")
    mo.vstack([exercise_next(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_next().check(answer_2.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The range: gradients that vanish

    A network learns from **gradients**: for each weight, a number that says in which direction to change
    it. As it gets better, its gradients get smaller. Here we train a small network on 1797 pictures of
    handwritten digits and look at the gradients at its output.
    """)
    return


@app.function
@functools.cache
def output_gradients() -> np.ndarray:
    """Return the gradients at the output of a small network after 100 steps, in float64."""
    digits = load_digits()
    x, y = digits.data / 16, np.eye(10)[digits.target]
    random = np.random.default_rng(6)
    w, v = random.normal(0, 0.2, (64, 32)), random.normal(0, 0.2, (32, 10))
    gradient: np.ndarray = np.zeros_like(y)
    for _ in range(100):
        hidden = np.tanh(x @ w)
        scores = np.exp(hidden @ v)
        gradient = (scores / scores.sum(axis=1, keepdims=True) - y) / len(x)
        back = (gradient @ v.T) * (1 - hidden**2)
        v -= 2.0 * hidden.T @ gradient
        w -= 2.0 * x.T @ back
    return gradient


@app.function(hide_code=True)
def lost(name: str) -> float:
    """Return the share of the gradients that a format makes 0."""
    return float(ps.errors.range_rates(output_gradients(), name).underflow_of_nonzero)


@app.function(hide_code=True)
def prediction_gradients() -> Prediction:
    """Ask which format loses gradients."""
    return Prediction(
        question="The figure shows how many gradients there are of each size: across stands the power"
        " of two. Which of the formats turns some of them into 0?",
        options=("neither", "fp16", "bf16", "both"),
        right="B",
        why=f"fp16 turns {lost('fp16'):.0%} of them into 0, bf16 {lost('bf16'):.0%}: its range is"
        " that of fp32. The hatched part of a bar is the range of the subnormals, where precision"
        " fades. Loss scaling, the subject of lesson 7, moves the gradients to the right.",
    )


@app.function(hide_code=True)
def figure_gradients() -> Figure:
    """Draw the histogram of the gradients under the ranges of the formats."""
    histogram = ps.errors.exponent_histogram(output_gradients())
    with ps.plots.figure(1, width=ps.plots.PAGE_WIDTH, height=7.0) as axes:
        ps.plots.plot_exponent_histogram(axes[0], {"gradients": histogram}, ["fp16", "bf16"])
        axes[0].set_title("Gradients at the output of a small network")
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter = mo.ui.radio(prediction_gradients().letters, inline=True)
    mo.vstack([prediction_gradients(), letter])
    return (letter,)


@app.cell
def _(letter):
    prediction_gradients().reveal(letter.value, figure_gradients())
    return


@app.function(hide_code=True)
def exercise_vanish() -> Exercise:
    """Ask for the largest number that becomes 0."""
    smallest = Fraction(float(ps.ulp(np.float64(0), "fp16")))
    return Exercise(
        question="**Exercise 3.** The smallest positive value of fp16 is 2^(−24). Which is the"
        " largest number that is rounded to 0 (to nearest, ties to even)?",
        right=smallest / 2,
        why="2^(−25) is a tie between 0 and 2^(−24), and 0 is even. All smaller numbers vanish too.",
        mistakes=(
            Mistake(answer=smallest, hint="2^(−24) is a value of the format: it stays as it is."),
            Mistake(
                answer=Fraction(1, 2**14),
                hint="That is the smallest *normal* value. Below it are the subnormal ones.",
            ),
            Mistake(answer=smallest / 4, hint="It vanishes, but a larger number vanishes too."),
        ),
        hints=(
            "What lies in the middle between 0 and 2^(−24)?",
            "The middle is a tie. Which of 0 and 2^(−24) has the last bit 0?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="number")
    mo.vstack([exercise_vanish(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_vanish().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The precision: weights that do not move

    In each step, a small number is added to each weight. By lesson 3, a sum swallows numbers below half
    a gap. A weight near 1 has a gap of 2⁻⁷ in bf16: steps below 2⁻⁸ = 0.0039 do not change it.
    """)
    return


@app.function(hide_code=True)
def prediction_weight() -> Prediction:
    """Ask where the weight ends."""
    return Prediction(
        question="A weight starts at 1, and 0.002 is added to it 250 times. Exactly, it ends at 1.5."
        " Where does it end in fp16, and where in bf16?",
        options=(
            "both near 1.5",
            "fp16 near 1.5, bf16 at 1",
            "bf16 near 1.5, fp16 at 1",
            "both at 1",
        ),
        right="B",
        why="In bf16 each step is swallowed. In fp16 each step is rounded to two gaps, 0.00195, so"
        " that the weight ends a little low. With stochastic rounding bf16 moves too, in jumps. The"
        " common remedy is another: keep the weights in fp32, and round only copies of them to 16"
        " bits (*mixed precision*).",
    )


@app.function(hide_code=True)
def figure_weight() -> Figure:
    """Draw a weight that is changed by small steps, in four ways."""
    steps = 250
    coins = np.random.default_rng(6).integers(2**32, size=steps, dtype=np.uint32)
    weights = {name: np.ones(steps + 1) for name in ("fp16", "bf16", "bf16, stochastic")}
    for k in range(steps):
        for name, weight in weights.items():
            total = weight[k] + 0.002
            if "stochastic" in name:
                weight[k + 1] = ps.round_to(total, "bf16:sr", random_bits=coins[k])
            else:
                weight[k + 1] = ps.round_to(total, name)
    with ps.plots.figure(1, width=ps.plots.PAGE_WIDTH, height=6.0) as axes:
        count = np.arange(steps + 1)
        axes[0].plot(count, 1 + 0.002 * count, "--", color="black", label="exact")
        ps.plots.plot_curves(axes[0], {name: (count, weight) for name, weight in weights.items()})
        axes[0].set(xlabel="steps", ylabel="weight", title="A weight at 1, and 250 steps of 0.002")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_weight().letters, inline=True)
    mo.vstack([prediction_weight(), letter_2])
    return (letter_2,)


@app.cell
def _(letter_2):
    prediction_weight().reveal(letter_2.value, figure_weight())
    return


@app.function(hide_code=True)
def exercise_stuck() -> Exercise:
    """Ask for a weight after many small steps."""
    step = 0.003
    right = float(ps.accumulate(np.array([1.0] + [step] * 8), "bf16"))
    return Exercise(
        question=f"**Exercise 4.** A weight of 1 is kept in bf16, and {step:g} is added a thousand"
        " times. What is it at the end?",
        right=right,
        why="0.003 is less than half a gap, 2⁻⁸ = 0.0039, so no step changes the weight.",
        mistakes=(
            Mistake(answer=4, hint="That is the exact sum. What does the *first* step give?"),
            Mistake(
                answer=1 + Fraction(1, 128), hint="Is 0.003 nearer to 0 or to the gap of 0.0078?"
            ),
        ),
        hints=(
            "The neighbours of 1.003 are 1 and 1.0078. Which is nearer?",
            "What the first step does, the other steps do too.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="weight")
    mo.vstack([exercise_stuck(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_stuck().check(answer_4.value)
    return


@app.function(hide_code=True)
def exercise_choose() -> Exercise:
    """Ask which format loses small gradients."""
    small = 1e-8
    (right,) = [name for name in ("fp16", "bf16") if ps.round_to(np.float64(small), name) == 0]
    return Exercise(
        question="**Exercise 5.** A training has activations up to 1000 and gradients near 10⁻⁸. Which"
        " of fp16 and bf16 loses the gradients altogether?",
        right=right,
        why="10⁻⁸ is below 2^(−25) = 3 × 10⁻⁸. Either take bf16, or multiply the loss by a large number"
        " before the gradients are computed, which is lesson 7.",
        mistakes=(
            Mistake(answer="bf16", hint="bf16 has the range of fp32: it goes down to 10⁻³⁸."),
            Mistake(answer="both", hint="One of them has a range down to 10⁻³⁸."),
            Mistake(answer="neither", hint="Compare 10⁻⁸ with your answer to exercise 3."),
        ),
        hints=("Write 10⁻⁸ as a power of two: about 2^(−26.6).", "Compare it with exercise 3."),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="format")
    mo.vstack([exercise_choose(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_choose().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * fp16 lacks range: small gradients become 0 and large sums infinite. Loss scaling helps.
    * bf16 lacks precision: small steps do not move a weight. Weights in fp32 help, or stochastic
      rounding.
    * With weights in fp32 and the right scale, both train like fp32 in most cases.

    At home: `precsim train --policy fp32 bf16 bf16_mixed fp16 fp16_mixed` trains one network in five ways
    and counts swallowed updates and vanished gradients.
    """)
    return


if __name__ == "__main__":
    app.run()
