"""Lesson 3: a marimo notebook."""

import marimo

app = marimo.App(app_title="3. The error of a sum")

with app.setup(hide_code=True):
    import functools
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn

    LESSON = Lesson(
        title="The error of a sum",
        goal="You can say when a sum stops growing, and name three ways to add the same numbers"
        " with a smaller error.",
        minutes=20,
        needs="Lesson 2: ulps, ties to even.",
    )
    TINY = "float(e=3,p=3)"


@app.function(hide_code=True)
def unit_roundoff(name: str) -> Fraction:
    """Return half the gap above 1."""
    return Fraction(float(ps.ulp(np.float64(1), name))) / 2


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A number too small to count

    A computer adds two numbers at a time and rounds each sum. As the sum grows, so does the gap
    between its neighbours. A new number that is smaller than half a gap changes nothing: the sum
    **swallows** it, or, as one also says, the number is *swamped*.

    bf16 has precision 8. From 256 to 512 its gap is 2: there is no 257. So 256 + 1 is a tie between 256
    and 258, and ties go to even: the sum stays 256. Add a million ones in bf16, one after the other, and
    you get 256.
    """)
    return


@app.function(hide_code=True)
def exercise_ones() -> Exercise:
    """Ask where a sum of ones stops."""
    right = int(1 / unit_roundoff("fp16"))
    return Exercise(
        question="**Exercise 1.** fp16 has precision 11. Add ones, one after the other. At which"
        " sum does it stop?",
        right=right,
        why=f"From {right} on the gap is 2, and {right} + 1 is a tie that goes back to {right}.",
        mistakes=(
            Mistake(
                answer=right // 2,
                hint="Between 1024 and 2048 the gap is 1, so ones still count. Did you forget the"
                " hidden bit?",
            ),
            Mistake(
                answer=2 * right,
                hint="There the gap is 4. Ones stop to count earlier, when the gap is 2.",
            ),
            Mistake(answer=65504, hint="That is the largest value; the sum stops long before it."),
            Mistake(
                answer=right - 1, hint="One more one can be added there: the result is a value."
            ),
        ),
        hints=(
            "In bf16, with precision 8, the sum stops at 256. What is 256 as a power of two?",
            "Where does the gap become 2? A gap is 2^(1 − p) times the power of two below.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="sum")
    mo.vstack([exercise_ones(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_ones().check(answer_1.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A series without an end

    The harmonic series 1 + 1/2 + 1/3 + 1/4 + ... grows without an end, as slowly as a logarithm: after
    one thousand terms it is near 7.5, after a million near 14.4. What does a computer say?
    """)
    return


@app.function(hide_code=True)
def prediction_harmonic() -> Prediction:
    """Ask what becomes of the harmonic series."""
    return Prediction(
        question="Each term 1/n is rounded to the format, then added to the sum, for n = 1, 2, 3 and"
        " so on to 1200. What do the sums in bf16 (precision 8) and fp16 (precision 11) do?",
        options=(
            "Both follow the exact sum, with a small error.",
            "Both stop; bf16 stops first.",
            "bf16 stops; fp16 goes on until it overflows.",
        ),
        right="B",
        why=f"bf16 stops at {running_sums('bf16')[-1]:g} and fp16 at {running_sums('fp16')[-1]:g}."
        " Terms shrink and gaps grow, so that in every format the time comes when a term is less"
        " than half a gap. On a computer, the series has an end.",
    )


@app.function
@functools.cache
def running_sums(spec: str, n: int = 1200) -> np.ndarray:
    """Return the sums of the first 1, 2, ..., n terms; float64 holds each exact sum of two."""
    terms = ps.round_to(1 / np.arange(1.0, n + 1), spec)
    sums = [terms[0]]
    for term in terms[1:]:
        sums.append(ps.round_to(sums[-1] + term, spec))
        if sums[-1] == sums[-2]:  # terms only get smaller
            break
    return np.array(sums + [sums[-1]] * (n - len(sums)))


@app.function(hide_code=True)
def figure_harmonic() -> Figure:
    """Draw the sums of the harmonic series in three formats."""
    n = np.arange(1, 1201)
    exact = np.cumsum(1 / n)
    curves = {"exact": (n, exact), **{f: (n, running_sums(f)) for f in ("bf16", "fp16")}}
    with ps.plots.figure(1, width=ps.plots.PAGE_WIDTH, height=5.5) as axes:
        ps.plots.plot_curves(axes[0], curves)
        axes[0].set(xlabel="number of terms", ylabel="sum", ylim=(0, 8))
        axes[0].set_title("The harmonic series, one term after the other")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter = mo.ui.radio(prediction_harmonic().letters, inline=True)
    mo.vstack([prediction_harmonic(), letter])
    return (letter,)


@app.cell
def _(letter):
    prediction_harmonic().reveal(letter.value, figure_harmonic())
    return


@app.function(hide_code=True)
def exercise_last_term() -> Exercise:
    """Ask for the first term that is swallowed."""
    total = float(running_sums("bf16")[-1])
    gap = float(ps.ulp(np.float64(total), "bf16"))
    return Exercise(
        question=f"**Exercise 2.** In bf16 (precision 8) the series stops at {total:g}. Which is the"
        " first n for which 1/n is *smaller* than half a gap there?",
        right=int(2 / gap) + 1,
        why=f"Between 4 and 8 a gap is 4 / 128 = 1/{1 / gap:g}; half of it is 1/{2 / gap:g}.",
        mistakes=(
            Mistake(
                answer=int(2 / gap), hint="That term is exactly half a gap: a tie. Take the next."
            ),
            Mistake(answer=int(1 / gap) + 1, hint="You took the whole gap: half of it counts."),
            Mistake(answer=int(1 / gap), hint="That is one whole gap: half of it counts."),
            Mistake(
                answer=int(4 / gap) + 1,
                hint="The sum lies between 4 and 8, where the gap is four times that above 1.",
            ),
        ),
        hints=(
            "How wide is a gap between 4 and 8, if there are 2⁷ steps?",
            "Half a gap is 1/64. Which n is the first with 1/n below it?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="n")
    mo.vstack([exercise_last_term(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_last_term().check(answer_2.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The order matters

    On paper, (a + b) + c = a + (b + c). On a computer it is not: each sum is rounded, and other sums
    are rounded in another order. Rounding depends on what has been added so far.
    """)
    return


@app.function(hide_code=True)
def exercise_order() -> Exercise:
    """Ask for a sum from left to right."""
    terms = np.array([4.0, 0.5, 0.5])
    forward, backward = (float(ps.accumulate(x, TINY)) for x in (terms, terms[::-1]))
    return Exercise(
        question="**Exercise 3.** Near 4 the tiny format has the values 4, 5, 6, 7. Add 4 + 0.5 +"
        " 0.5 in it, from left to right.",
        right=forward,
        why=f"4.5 is a tie and goes back to 4, twice. From right to left you get 0.5 + 0.5 = 1 and"
        f" 1 + 4 = {backward:g}: small numbers first is often better.",
        mistakes=(
            Mistake(
                answer=backward,
                hint="That is the exact sum. But after the first addition you have to round.",
            ),
            Mistake(answer=4.5, hint="4.5 is not a value of the format."),
            Mistake(answer=6, hint="Ties go to even, not up: what becomes of 4.5?"),
        ),
        hints=(
            "First step: 4 + 0.5 = 4.5. Round it before you go on.",
            "4.5 is a tie between 4 and 5; the last bit of 4 is 0.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="sum")
    mo.vstack([exercise_order(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_order().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Three remedies

    * **Pairwise**: add neighbours in pairs, then the sums in pairs, and so on, as in a tournament. The
      numbers that are added have about the same size.
    * **Blocks**: add blocks of, say, 16 numbers; then add the sums of the blocks.
    * **Kahan's sum**: keep what each addition has lost in a second variable c, and give it back with the
      next number:

    ```text
    y = x - c            the next number, corrected
    t = s + y            rounded: some of y is lost
    c = (t - s) - y      minus what was lost
    s = t
    ```
    """)
    return


@app.function(hide_code=True)
def exercise_tournament() -> Exercise:
    """Ask how many roundings a number goes through."""
    return Exercise(
        question="**Exercise 4.** 1024 numbers are added pairwise. How many additions does each"
        " number pass through?",
        right=10,
        why="1024 = 2¹⁰: after ten rounds one sum is left. From left to right, the first number"
        " passes through 1023 additions, and may be hit by 1023 roundings.",
        mistakes=(
            Mistake(
                answer=1023,
                hint="That is the number of all additions. Follow *one* number through the rounds.",
            ),
            Mistake(answer=512, hint="That is the number of additions in the first round."),
            Mistake(
                answer=11, hint="After the last round one sum is left: count rounds, not rows."
            ),
        ),
        hints=(
            "In the first round 1024 numbers become 512 sums. And in the second?",
            "How often can 1024 be halved until 1 is left?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="additions")
    mo.vstack([exercise_tournament(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_tournament().check(answer_4.value)
    return


@app.function(hide_code=True)
def exercise_kahan() -> Exercise:
    """Ask for two steps of Kahan's sum."""
    total = float(ps.accumulate(np.array([256.0, 1.0, 1.0]), "bf16", order="kahan"))
    return Exercise(
        question="**Exercise 5.** bf16 has no 257. Start Kahan's sum at s = 256, c = 0, and add 1"
        " twice. Which s do you get?",
        right=total,
        why="First step: t = 256, c = (256 − 256) − 1 = −1. Second step: y = 1 − (−1) = 2, t = 258."
        " Nothing is lost, though 1 alone is too small to count.",
        mistakes=(
            Mistake(
                answer=256,
                hint="The first one is lost, but kept in c. What is y in the second step?",
            ),
            Mistake(answer=257, hint="bf16 has no 257: it has 256 and 258 there."),
        ),
        hints=(
            "First step: y = 1 and t = 256. What is c = (t − s) − y?",
            "After the first step c = −1, so the second step adds y = 1 − (−1).",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="s")
    mo.vstack([exercise_kahan(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_kahan().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Measured

    Here are sums of 16, 64 and 256 random numbers between 0 and 1, in bf16. The error is the mean over
    many such sums, relative to the exact sum.
    """)
    return


@app.function(hide_code=True)
def prediction_orders() -> Prediction:
    """Ask how the error grows."""
    return Prediction(
        question="How does the relative error grow from 16 to 256 numbers?",
        options=(
            "In every order it grows about as fast as the number of terms.",
            "From left to right it grows fast; pairwise and with Kahan's sum it hardly grows.",
            "It shrinks, as errors cancel.",
        ),
        right="B",
        why="From left to right, the sum gets large and its gaps wide, so the later numbers are cut"
        " roughly. Pairwise, there are only 4 to 8 roundings for each number. Kahan's sum ends with"
        " little more than one rounding, whatever the number of terms; the dashed line is the unit"
        " roundoff.",
    )


@app.function(hide_code=True)
def errors_of_orders() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each order the numbers of terms, and the mean relative errors."""
    sizes = np.array([16, 64, 256])
    drawn_numbers = np.random.default_rng(1).random((48, int(sizes[-1])))
    numbers = ps.round_to(drawn_numbers, "bf16")
    exact = np.cumsum(numbers, axis=1)[:, sizes - 1]
    found = {}
    for order, label in (
        ("sequential", "from left to right"),
        ("blocked16", "blocks of 16"),
        ("pairwise", "pairwise"),
        ("kahan", "Kahan's sum"),
    ):
        sums = [ps.accumulate(numbers[:, :n], "bf16", axis=1, order=order) for n in sizes]
        error = np.abs(np.stack(sums, axis=1) / exact - 1).mean(axis=0)
        found[label] = (sizes, error)
    return found


@app.function(hide_code=True)
def figure_orders() -> Figure:
    """Draw the mean relative errors of four ways to add."""
    with ps.plots.figure(1, height=6.5) as axes:
        ps.plots.plot_curves(axes[0], errors_of_orders(), marker="o")
        u = float(unit_roundoff("bf16"))
        axes[0].axhline(u, color="black", linestyle="--", label="unit roundoff")
        axes[0].set_xscale("log", base=2)
        axes[0].set_yscale("log")
        axes[0].set_xticks([16, 64, 256], ["16", "64", "256"])
        axes[0].set(xlabel="numbers", ylabel="relative error", title="Sums in bf16")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_orders().letters, inline=True)
    mo.vstack([prediction_orders(), letter_2])
    return (letter_2,)


@app.cell
def _(letter_2):
    prediction_orders().reveal(letter_2.value, figure_orders())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * A sum swallows numbers below half its gap. It need not be large for that: 256 is enough in bf16.
    * The order of a sum is part of its result. Two programs that add in two orders give two results.
    * Pairwise sums, blocks and Kahan's sum keep the error small. GPUs and libraries add in blocks.

    At home: `precsim walk "kahan([256, 1, 1])" --format bf16` shows the steps of exercise 5. In Python,
    `ps.accumulate(x, "bf16", order="kahan")` adds, and `ps.errors.order_bound` bounds the error.
    """)
    return


if __name__ == "__main__":
    app.run()
