"""Lesson 4: a marimo notebook."""

import marimo

app = marimo.App(app_title="4. Dot products and bounds")

with app.setup(hide_code=True):
    import functools
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn, picture

    LESSON = Lesson(
        title="Dot products and bounds",
        goal="You can bound the error of a dot product before you compute it, measure it afterwards,"
        " and say why the two differ.",
        minutes=20,
        needs="Lesson 2 (unit roundoff) and lesson 3 (sums).",
    )
    SIZES = (16, 128, 1024)


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
    ## Count the roundings

    A dot product multiplies numbers in pairs and adds the products: a₁b₁ + a₂b₂ + ... + aₙbₙ. Neural
    networks do little else. Here everything is rounded: each product and each sum, from left to right.

    A rounding replaces x by x (1 + δ), and |δ| is at most the unit roundoff u. A product that passes
    through m roundings gets m such factors. Together they are 1 + θ, and |θ| is bounded by

    ```text
    gamma(m, u) = m u / (1 − m u),   a little more than m u
    ```
    """)
    return


@app.function(hide_code=True)
def exercise_roundings() -> Exercise:
    """Ask for the number of roundings of the first product."""
    n = 100
    return Exercise(
        question=f"**Exercise 1.** A dot product has {n} pairs, and its products are added from left"
        " to right. Through how many roundings does the *first* product a₁b₁ pass?",
        right=n,
        why=f"One for the product itself, and {n - 1} additions. Later products pass through fewer.",
        mistakes=(
            Mistake(
                answer=n - 1, hint="These are the additions. The product itself is rounded too."
            ),
            Mistake(
                answer=2 * n - 1,
                hint="That is the number of all roundings. Most of them do not touch a₁b₁ alone:"
                " count the operations on the way from a₁b₁ to the result.",
            ),
            Mistake(
                answer=2, hint="Each of the later additions rounds a sum that a₁b₁ is part of."
            ),
        ),
        hints=(
            "The product is rounded once. Then a₂b₂ is added: the sum is rounded. And so on.",
            f"With {n} products there are {n - 1} additions.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="roundings")
    mo.vstack([exercise_roundings(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_roundings().check(answer_1.value)
    return


@app.function(hide_code=True)
def exercise_bound() -> Exercise:
    """Ask for the bound n u."""
    n, u = 100, unit_roundoff("fp16")
    return Exercise(
        question=f"**Exercise 2.** fp16 has precision 11. How large is n u for n = {n}? (Two digits"
        " are enough.)",
        right=n * u,
        within=0.03,
        why=f"{n} / 2048 is about {float(n * u):.3f}, and `ps.gamma({n}, 'fp16')` is"
        f" {ps.gamma(n, 'fp16'):.3f}: at worst, five percent are lost.",
        mistakes=(
            Mistake(answer=2 * n * u, hint="u is half a gap above 1: 2^(−11), not 2^(−10)."),
            Mistake(answer=8 * n * u, hint="That is the u of bf16, with precision 8."),
            Mistake(answer=u, hint="That is u: multiply it by n."),
        ),
        hints=("First find u = 2^(−p).", "u = 1/2048. Multiply it by 100."),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="n·u")
    mo.vstack([exercise_bound(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_bound().check(answer_2.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Large terms, small result

    The bound says: the error is at most gamma(n, u) times **|a₁b₁| + |a₂b₂| + ... + |aₙbₙ|**. Where all
    products have one sign, that is the result itself. Where they cancel, it can be much larger than the
    result. The quotient of the two is the *condition number*: the factor by which a relative error can
    grow.
    """)
    return


@app.function(hide_code=True)
def exercise_condition() -> Exercise:
    """Ask for a condition number."""
    a, b = [Fraction(3), Fraction(-3), Fraction(1)], [Fraction(5), Fraction(24, 5), Fraction(1)]
    products = [x * y for x, y in zip(a, b, strict=True)]
    total, size = sum(products), sum(abs(x) for x in products)
    return Exercise(
        question="**Exercise 3.** a = (3, −3, 1) and b = (5, 4.8, 1) have the dot product"
        f" {float(total):g}. How large is its condition number?",
        right=size / total,
        within=1e-3,
        why=f"|15| + |−14.4| + |1| = {float(size):g}, and {float(size):g} / {float(total):g} ="
        f" {float(size / total):g}: a relative error can grow to {float(size / total):g} times.",
        mistakes=(
            Mistake(answer=1, hint="Take the products without their signs, then add them."),
            Mistake(answer=total / size, hint="It is the other way round: sizes over result."),
            Mistake(answer=size, hint="Divide it by the result."),
        ),
        hints=(
            "The products are 15, −14.4 and 1. Add their sizes, without signs.",
            "The sum of the sizes is 30.4. Divide it by the result.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="number")
    mo.vstack([exercise_condition(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_condition().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Two ways to measure

    The **relative error** compares with the result. It asks: *how wrong is the answer?* Where terms
    cancel it can be large, however carefully one computes.

    The **backward error** compares with the sum of the sizes. It asks: *how well was it computed?* A
    small backward error means: the answer is the exact one for inputs that differ by just as little.
    Inputs that were measured, or rounded before, are not more certain than that.
    """)
    return


@app.function(hide_code=True)
def exercise_backward() -> Exercise:
    """Ask for a backward error."""
    computed = Fraction(7, 4)
    a, b = np.array([[3.0, -3.0, 1.0]]), np.array([[5.0], [4.8], [1.0]])
    right = ps.backward_error(np.array([[float(computed)]]), a, b)
    return Exercise(
        question="**Exercise 4.** The dot product of exercise 3 is 1.6, and the sizes add up to"
        f" 30.4. A computer says {float(computed):g}. How large is the backward error? (Two digits.)",
        right=right,
        within=0.03,
        why=f"0.15 / 30.4 is about {right:.4f}. The relative error, 0.09, is 19 times as large: this"
        " factor is that of the problem, not of the computer.",
        mistakes=(
            Mistake(
                answer=Fraction(15, 160),
                hint="That is the relative error. Divide by the sum of the sizes instead.",
            ),
            Mistake(
                answer=Fraction(15, 100), hint="That is the absolute error. Divide it by 30.4."
            ),
            Mistake(
                answer=computed / Fraction(304, 10), hint="Take the difference from 1.6 first."
            ),
        ),
        hints=("The error is 1.75 − 1.6.", "Divide 0.15 by the sum of the sizes, 30.4."),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="error")
    mo.vstack([exercise_backward(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_backward().check(answer_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The bound and the measurement

    A bound holds for the worst case: all errors at their largest, and all in one direction. How near
    does one come to it?
    """)
    return


@app.function(hide_code=True)
def prediction_bound() -> Prediction:
    """Ask how near measured errors come to their bound."""
    return Prediction(
        question="32 × 32 dot products of random numbers in fp16, with 16 to 1024 pairs. How large"
        " is the largest backward error of the 1024, compared with its bound n u?",
        options=(
            "It comes close to the bound: with so many tries the worst case happens.",
            "It stays far below, and further below the longer the dot product is.",
            "It is above the bound for long dot products.",
        ),
        right="B",
        why="Errors have both signs and cancel in part, so that they grow like the square root of n"
        " or more slowly. If one takes them for independent random numbers, one gets the second"
        " bound, which holds with a probability of 99 %. Numbers of both signs do better still, as"
        " their partial sums stay small.",
    )


@app.function
@functools.cache
def largest_errors(signed: bool, accumulator: str) -> list[float]:
    """Return the largest backward error of many dot products of fp16 numbers, for each size."""
    random = np.random.default_rng(4)
    errors = []
    for n in SIZES:
        low = -1.0 if signed else 0.0
        a, b = (
            ps.round_to(random.uniform(low, 1.0, shape), "fp16") for shape in ((32, n), (n, 32))
        )
        spec = f"fp16_fp16_{accumulator}:sequential"
        c = ps.matmul(a, b, spec, backend="reference")  # no compilation
        errors.append(ps.backward_error(c, a, b))
    return errors


@app.function(hide_code=True)
def figure_bound() -> Figure:
    """Draw the measured backward errors and two bounds."""
    curves = {
        "bound n u": [ps.errors.order_bound("sequential", n, "fp16") for n in SIZES],
        "bound, 99 %": [
            ps.probabilistic_gamma(n, "fp16", confidence=0.99, num_results=32 * 32) for n in SIZES
        ],
        "numbers from 0 to 1": largest_errors(False, "fp16"),
        "numbers from −1 to 1": largest_errors(True, "fp16"),
    }
    with ps.plots.figure(1, height=7.0) as axes:
        ps.plots.plot_curves(
            axes[0], {k: (np.array(SIZES), np.array(y)) for k, y in curves.items()}
        )
        axes[0].set_xscale("log", base=2)
        axes[0].set_yscale("log")
        axes[0].set_xticks(SIZES, [str(n) for n in SIZES])
        axes[0].set(xlabel="pairs n", ylabel="largest backward error")
        axes[0].set_title("Dot products in fp16")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter = mo.ui.radio(prediction_bound().letters, inline=True)
    mo.vstack([prediction_bound(), letter])
    return (letter,)


@app.cell
def _(letter):
    prediction_bound().reveal(letter.value, figure_bound())
    return


@app.function(hide_code=True)
def exercise_root() -> Exercise:
    """Ask how the bound for random errors grows."""
    return Exercise(
        question="**Exercise 5.** The bound n u grows 100 times from n = 100 to n = 10,000. If the"
        " errors are random, they grow like the square root of n. How many times is that?",
        right=10,
        why="√100 = 10. For 10,000 pairs in fp32, `ps.gamma` says"
        f" {ps.gamma(10_000, 'fp32'):.0e}, `ps.probabilistic_gamma` (99 %)"
        f" {ps.probabilistic_gamma(10_000, 'fp32', confidence=0.99):.0e}.",
        mistakes=(
            Mistake(answer=100, hint="That is the growth of n itself."),
            Mistake(
                answer=2, hint="The logarithm doubles. Here it is the square root that counts."
            ),
            Mistake(answer=50, hint="The square root of 100 is not its half."),
        ),
        hints=("n grows 100 times. What is the square root of 100?", "10 × 10 = 100."),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="times")
    mo.vstack([exercise_root(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_root().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A wider accumulator

    The numbers that are multiplied can stay narrow, if only their sum is kept in a wider format: the
    **accumulator**. The product of two fp16 numbers fits into fp32 exactly, and n u is 8192 times
    smaller there than in fp16.
    """)
    return


@app.function(hide_code=True)
def figure_accumulators() -> Figure:
    """Draw measured errors over their bounds, for three accumulators."""
    errors = {}
    for accumulator in ("bf16", "fp16", "fp32"):
        bounds = [ps.errors.order_bound("sequential", n, accumulator) for n in SIZES]
        errors[accumulator] = (bounds, largest_errors(False, accumulator))
    with ps.plots.figure(1, height=7.0) as axes:
        ps.plots.plot_bounds(axes[0], errors)
        axes[0].set_title("Products of fp16 numbers, three accumulators")
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    picture(figure_accumulators())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    Each point is one length of dot product, from 16 to 1024 pairs. Points below the diagonal keep their
    bound. From format to format, bound and error fall together: the accumulator decides, not the
    format of the operands.

    ## What to keep

    * Each rounding is a factor 1 + δ with |δ| ≤ u. A dot product of n pairs has a backward error of n u
      at most.
    * Relative error = condition number × backward error. The first factor belongs to the problem, the
      second to the computer.
    * Measured errors lie far below the bound, as they cancel. That is luck, not law: take the bound for
      a proof, the bound for random errors for an estimate.

    At home: `ps.running_bound` follows the numbers that really occur, and `ps.tolerance` says what a test
    of your own function should allow.
    """)
    return


if __name__ == "__main__":
    app.run()
