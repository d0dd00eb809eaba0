"""Lesson 2: a marimo notebook."""

import marimo

app = marimo.App(app_title="2. Rounding modes and ulps")

with app.setup(hide_code=True):
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn, picture

    LESSON = Lesson(
        title="Rounding modes and ulps",
        goal="You can round a number under every mode, name the size of the error in ulps, and say"
        " why a coin can be better than a rule.",
        minutes=20,
        needs="Lesson 1: the values of the tiny format.",
    )
    TINY = "float(e=3,p=3)"


@app.function(hide_code=True)
def rounded(x: float, spec: str) -> float:
    """Return one number, rounded."""
    return float(ps.round_to(np.float64(x), spec))


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
    ## The nearer neighbour

    A number that a format does not have lies between two values that it has, its *neighbours*.
    **Rounding** picks one of them. The usual rule is: take the nearer one.

    Near 4, the tiny format of lesson 1 has the values 4, 5, 6, 7. So 4.3 becomes 4, and 4.8
    becomes 5. The number 4.5 is a **tie**: both neighbours are equally near. The usual rule for ties
    is *to even*: take the neighbour whose last stored bit is 0. In this way ties go up as often as
    down. The usual rule as a whole has the short name `rne`: round to nearest, ties to even.

    Here are the last bits: 4 is `0 101 00`, 5 is `0 101 01`, 6 is `0 101 10`, 7 is `0 101 11`.
    """)
    return


@app.function(hide_code=True)
def exercise_tie() -> Exercise:
    """Ask for a tie under the usual rule."""
    return Exercise(
        question="**Exercise 1.** Round 4.5 to the tiny format: nearest, ties to even (`rne`).",
        right=rounded(4.5, TINY),
        why="4 and 5 are equally near, and 4 has the last bit 0.",
        mistakes=(
            Mistake(
                answer=rounded(4.5, f"{TINY}:rna"),
                hint="You rounded half up, as at school. Under ties-to-even the last bit decides.",
            ),
            Mistake(
                answer=4.5, hint="4.5 is not a value of the format: its neighbours are 4 and 5."
            ),
        ),
        hints=(
            "Which are the neighbours of 4.5? Which of them has the last bit 0?",
            "4 is `0 101 00` and 5 is `0 101 01`.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="value")
    mo.vstack([exercise_tie(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_tie().check(answer_1.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Other modes

    The IEEE 754 standard defines further modes. They do not ask which neighbour is nearer:

    | mode | goes | think of |
    |---|---|---|
    | `rtz` | toward zero | cut off the digits |
    | `rtp` | up, toward +∞ | plus |
    | `rtn` | down, toward −∞ | minus |

    And `rna` rounds to nearest, but ties away from zero, as at school. The figure shows four modes as
    stairs: across stands the number, upward what it becomes.
    """)
    return


@app.function(hide_code=True)
def figure_stairs() -> Figure:
    """Draw what numbers between -1.3 and 1.3 become, for four modes."""
    x = np.linspace(-1.3, 1.3, 1041)
    coarse = "float(e=2,p=2)"
    with ps.plots.figure(4, height=5.0) as axes:
        for panel, mode in zip(axes, ("rne", "rtz", "rtp", "rtn"), strict=True):
            panel.plot(x, x, color="0.6", linewidth=0.8, label="the number itself")
            panel.plot(x, ps.round_to(x, f"{coarse}:{mode}"), label="rounded")
            panel.set(xlabel="number", ylabel="becomes", title=f"{mode}, precision 2")
            ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    picture(figure_stairs())
    return


@app.function(hide_code=True)
def exercise_mode() -> Exercise:
    """Ask which mode gives a value."""
    modes = ("rne", "rtz", "rtp", "rtn")
    (right,) = [mode for mode in modes if rounded(-2.25, f"{TINY}:{mode}") == -2.5]
    return Exercise(
        question="**Exercise 2.** −2.25 lies in the middle between −2.5 and −2 in the tiny format."
        f" One of the modes {', '.join(modes)} makes it −2.5. Which?",
        right=right,
        why="−2.5 lies further down, toward −∞. Ties to even takes −2, whose last bit is 0.",
        mistakes=(
            Mistake(
                answer="rtp",
                hint="Up means toward +∞, so −2.25 goes up to −2. The size does not matter here.",
            ),
            Mistake(answer="rtz", hint="Toward zero makes the size smaller: −2."),
            Mistake(
                answer="rne",
                hint="It is a tie. −2 is `1 100 00`, −2.5 is `1 100 01`: which one is even?",
            ),
        ),
        hints=(
            "Draw the number line with −2.5, −2.25, −2 and 0. In which direction is −2.5?",
            "Answer with the short name of the mode.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="mode")
    mo.vstack([exercise_mode(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_mode().check(answer_2.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The ulp

    How large is the error of a rounding? That depends on the gap between the neighbours. This gap is
    the **ulp**, the *unit in the last place*: what a number changes by when its last bit does.

    A format with precision p has 2^(p − 1) steps from each power of two to the next. Between 1 and 2 a
    step is 2^(1 − p); between 2 and 4 it is twice as wide, between 4 and 8 four times. Rounding to
    nearest errs by half an ulp at most, the other modes by less than one ulp.
    """)
    return


@app.function(hide_code=True)
def exercise_ulp() -> Exercise:
    """Ask for an ulp of bf16."""
    right = Fraction(float(ps.ulp(np.float64(2.5), "bf16")))
    return Exercise(
        question="**Exercise 3.** bf16 has precision 8. How large is an ulp at 2.5? (You can write"
        " `2**-3`.)",
        right=right,
        why="From 2 to 4 there are 2⁷ steps, so each is 2 / 128 = 1/64.",
        mistakes=(
            Mistake(
                answer=right / 2,
                hint="That is the ulp between 1 and 2. But 2.5 lies between 2 and 4.",
            ),
            Mistake(answer=right / 4, hint="That is half an ulp between 1 and 2."),
            Mistake(
                answer=2 * right,
                hint="From 2 to 4 there are 2⁷ steps: of the precision 8, one bit is hidden.",
            ),
        ),
        hints=(
            "2.5 lies between 2 and 4. How many steps are there from 2 to 4?",
            "There are 2⁷ = 128 steps, and together they are 2 wide.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="ulp")
    mo.vstack([exercise_ulp(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_ulp().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The unit roundoff

    An error of 0.1 is large for the number 1 and small for the number 1000. So we divide the error by
    the number: that is the **relative error**.
    """)
    return


@app.function(hide_code=True)
def prediction_relative_error() -> Prediction:
    """Ask how the relative error depends on the number."""
    return Prediction(
        question="Round all numbers from 1 to 14 to the tiny format, to nearest, and draw the"
        " relative error of each. How do the highest peaks change from left to right?",
        options=(
            "They grow, as the gaps between values do.",
            "They shrink, as the numbers grow.",
            "After each power of two there is the same highest peak.",
        ),
        right="C",
        why="At each power of two the gap doubles, and so does the number. The highest peak stands"
        " just above a power of two, half a gap away: its height is u / (1 + u), so it stays just"
        " below the dashed line, the *unit roundoff* u = 2^(−p) = 1/8.",
    )


@app.function(hide_code=True)
def figure_relative_error() -> Figure:
    """Draw the relative error of rounding to nearest, and the unit roundoff."""
    x = np.linspace(1, 14, 4161)
    error = np.abs(ps.round_to(x, TINY) - x) / x
    u = unit_roundoff(TINY)
    with ps.plots.figure(1, width=ps.plots.PAGE_WIDTH, height=5.5) as axes:
        axes[0].plot(x, error, label="relative error")
        axes[0].axhline(float(u), color="black", linestyle="--", label=f"unit roundoff u = {u}")
        axes[0].set_xscale("log", base=2)
        axes[0].set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axes[0].set(xlabel="number", ylabel="relative error", ylim=(0, 0.14))
        axes[0].set_title("Relative error of rounding to the tiny format")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter = mo.ui.radio(prediction_relative_error().letters, inline=True)
    mo.vstack([prediction_relative_error(), letter])
    return (letter,)


@app.cell
def _(letter):
    prediction_relative_error().reveal(letter.value, figure_relative_error())
    return


@app.function(hide_code=True)
def exercise_unit_roundoff() -> Exercise:
    """Ask for the unit roundoff of fp16."""
    right = unit_roundoff("fp16")
    return Exercise(
        question="**Exercise 4.** fp16 stores 10 bits of the significand. Which unit roundoff u"
        " does it have?",
        right=right,
        why="With the hidden bit the precision is p = 11, and u = 2^(−p), about 0.0005: fp16 keeps"
        " three decimal digits.",
        mistakes=(
            Mistake(
                answer=2 * right,
                hint="That is the gap above 1, often called machine epsilon. The error of rounding"
                " to nearest is half of it; or did you forget the hidden bit?",
            ),
            Mistake(answer=right / 2, hint="Count again: 10 stored bits and one hidden bit."),
        ),
        hints=(
            "First find the precision p: the stored bits and the hidden one.",
            "u = 2^(−p).",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="u")
    mo.vstack([exercise_unit_roundoff(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_unit_roundoff().check(answer_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Rounding with a coin

    Every rule above is blind to what it did before. Add 0.1 to a large number again and again: if 0.1
    is less than half a gap, each sum is rounded back to where it was. **Stochastic rounding** (`sr`)
    tosses a coin instead. The coin is not fair: the nearer neighbour is more likely. The chance to go
    up is the part of the gap that lies below the number. So the errors cancel *on average*.
    """)
    return


@app.function(hide_code=True)
def prediction_walk() -> Prediction:
    """Ask where a sum of small numbers ends."""
    return Prediction(
        question="Start at 0 and add 0.1 sixty times, in the tiny format; each sum is rounded"
        " to nearest. Where does the sum end? (The exact result is 6.)",
        options=("near 6", "at 1", "at 14, the largest value"),
        right="B",
        why="From 1 on the gap is 0.25, and 0.1 is less than half of it: every sum is rounded"
        " back to 1. With the coin, two of five steps go up by a whole gap, so that the sums follow"
        " the exact line, though each of them strays.",
    )


@app.function(hide_code=True)
def figure_walk() -> Figure:
    """Draw sums of 0.1 in the tiny format: to nearest, and five times stochastically."""
    steps, walks = 60, 5
    coins = np.random.default_rng(5).integers(2**32, size=(steps, walks), dtype=np.uint32)
    nearest, by_coin = np.zeros((steps + 1, 1)), np.zeros((steps + 1, walks))
    for k in range(steps):
        nearest[k + 1] = ps.round_to(nearest[k] + 0.1, TINY)
        by_coin[k + 1] = ps.round_to(by_coin[k] + 0.1, f"{TINY}:sr", random_bits=coins[k])
    with ps.plots.figure(1, width=ps.plots.PAGE_WIDTH, height=6.0) as axes:
        count = np.arange(steps + 1)
        axes[0].plot(count, 0.1 * count, "--", color="black", label="exact")
        axes[0].plot(count, nearest, linewidth=2.2, label="to nearest")
        for walk, label in zip(
            by_coin.T, ["with a coin, five times", "_", "_", "_", "_"], strict=True
        ):
            axes[0].plot(count, walk, color="C1", linewidth=0.8, label=label)
        axes[0].set(xlabel="number of additions", ylabel="sum")
        axes[0].set_title("Adding 0.1 in the tiny format")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_walk().letters, inline=True)
    mo.vstack([prediction_walk(), letter_2])
    return (letter_2,)


@app.cell
def _(letter_2):
    prediction_walk().reveal(letter_2.value, figure_walk())
    return


@app.function(hide_code=True)
def exercise_coin() -> Exercise:
    """Ask for the chance to go up."""
    x = 2.125
    low, high = rounded(x, f"{TINY}:rtn"), rounded(x, f"{TINY}:rtp")
    right = Fraction(x - low) / Fraction(high - low)
    return Exercise(
        question=f"**Exercise 5.** 2.125 lies between {low:g} and {high:g}. How likely is it that"
        " stochastic rounding goes up?",
        right=right,
        why="2.125 is a quarter of the way up, so it goes up once in four times. The average is"
        " 3/4 × 2 + 1/4 × 2.5 = 2.125.",
        mistakes=(
            Mistake(answer=Fraction(1, 2), hint="A fair coin fits a number in the middle only."),
            Mistake(answer=1 - right, hint="That is the chance to go down."),
            Mistake(answer=0, hint="That would be rounding to nearest, which never goes up here."),
            Mistake(
                answer=Fraction(x - low), hint="Divide by the gap: it is 0.5 wide here, not 1."
            ),
        ),
        hints=(
            "Which part of the way from 2 to 2.5 is 2.125?",
            "The way is 0.5 long, and 0.125 of it lies below the number.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="chance")
    mo.vstack([exercise_coin(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_coin().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Never round twice

    A result is often rounded to a wide format first and to a narrow one later. That is not the same as
    rounding once: the first rounding can make a tie of what was none.

    The format e4m3 has the values 1, 1.125, 1.25 above 1; the tiny format has 1 and 1.25.
    """)
    return


@app.function(hide_code=True)
def exercise_twice() -> Exercise:
    """Ask for a number that is rounded twice."""
    first = rounded(1.13, "e4m3")
    return Exercise(
        question="**Exercise 6.** Round 1.13 to e4m3, and the result to the tiny format, both to"
        " nearest with ties to even. What comes out?",
        right=rounded(first, TINY),
        why=f"1.13 becomes {first:g}, which is a tie in the tiny format and goes to 1. Rounded"
        f" once, 1.13 becomes {rounded(1.13, TINY):g}. This is why precsim never rounds twice.",
        mistakes=(
            Mistake(
                answer=rounded(1.13, TINY),
                hint="That is what rounding *once* gives. Do the first step first.",
            ),
            Mistake(answer=first, hint="That is the first step. Now round it to the tiny format."),
        ),
        hints=(
            "First step: which of 1, 1.125, 1.25 is nearest to 1.13?",
            "Second step: 1.125 is a tie between 1 and 1.25. Which of them is even?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_6 = mo.ui.text(label="value")
    mo.vstack([exercise_twice(), answer_6])
    return (answer_6,)


@app.cell
def _(answer_6):
    exercise_twice().check(answer_6.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * Rounding picks one of two neighbours. The usual rule is `rne`: the nearer one, ties to even.
    * An ulp is the gap between neighbours. Rounding to nearest errs by half an ulp at most.
    * The unit roundoff u = 2^(−p) bounds the relative error, as long as the number is in the range of
      the normal values.
    * Stochastic rounding errs by up to an ulp, but the errors cancel on average.

    At home: `precsim show 0.1 fp16:rtz` shows a rounding under another mode.
    """)
    return


if __name__ == "__main__":
    app.run()
