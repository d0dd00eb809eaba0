"""Lesson 10: a marimo notebook."""

import marimo

app = marimo.App(app_title="10. Training in 8 bits")

with app.setup(hide_code=True):
    import inspect
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.hand_training import RATE, Run, exact, fp8, one_weight, q38, q38_sr, train
    from lessons.pictures import drawn

    LESSON = Lesson(
        title="Training in 8 bits",
        goal="You can say which part of a training needs many bits, why updates are swallowed, and"
        " why stochastic rounding saves them.",
        minutes=20,
        needs="Stochastic rounding (lesson 2), scales (lesson 8), fixed point (lesson 9).",
    )
    STEP = 2.0**-8


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## One weight

    A training adds many small updates to its weights. Take one weight, w = 1, in the fixed-point
    format q3.8, whose values are 1/256 apart. Add 0.001 to it, a thousand times. After each
    addition the sum is rounded to q3.8 again.
    """)
    return


@app.function(hide_code=True)
def exercise_swallowed() -> Exercise:
    """Ask for a weight after many updates that are rounded to nearest."""
    return Exercise(
        question="**Exercise 1.** The sums are rounded to nearest. Which value has the weight after"
        " a thousand updates?",
        right=float(one_weight("rne")[-1, 0]),
        why="1.001 lies between 1 and 1 + 1/256 = 1.0039, nearer to 1. So the sum is 1 again, and"
        " the next update meets the same fate. All thousand are **swallowed**.",
        mistakes=(
            Mistake(answer=2, hint="That is the exact sum. But each partial sum is rounded."),
            Mistake(
                answer=1 + STEP,
                hint="The first update does not reach half of a step, 1/512 = 0.00195.",
            ),
            Mistake(
                answer=1 + 1000 * STEP,
                hint="The sum is rounded to nearest, not up to the next value.",
            ),
        ),
        hints=(
            "What is 1.001, rounded to a multiple of 1/256?",
            "Half of a step is 0.00195. Is 0.001 more than that?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="weight")
    mo.vstack([exercise_swallowed(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_swallowed().check(answer_1.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    **Stochastic rounding** throws a coin: it rounds up with a probability that is the distance from
    the value below, in steps. A number a quarter of a step above a value goes up in one case of
    four, and down in three.
    """)
    return


@app.function(hide_code=True)
def exercise_probability() -> Exercise:
    """Ask with which probability stochastic rounding takes the step."""
    return Exercise(
        question="**Exercise 2.** With which probability does 1 + 0.001 become 1 + 1/256?",
        right=Fraction(1, 1000) / Fraction(STEP),
        within=0.005,
        why="0.001 is 0.256 of a step. On average the weight moves by 0.256 × 1/256 = 0.001, just as"
        " it should.",
        mistakes=(
            Mistake(answer=0.001, hint="Measure the distance in steps of 1/256."),
            Mistake(
                answer=1 - Fraction(1, 1000) / Fraction(STEP),
                hint="That is the probability to stay at 1.",
            ),
            Mistake(
                answer=0.5,
                hint="The coin is not fair: the nearer a value, the more often it is taken.",
            ),
            Mistake(answer=0, hint="That is rounding to nearest. The coin gives 0.001 a chance."),
        ),
        hints=(
            "Which part of a step of 1/256 is 0.001?",
            "0.001 divided by 1/256 is 0.001 × 256.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="probability")
    mo.vstack([exercise_probability(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_probability().check(answer_2.value)
    return


@app.function(hide_code=True)
def prediction_one_weight() -> Prediction:
    """Ask how a weight moves under stochastic rounding."""
    return Prediction(
        question="Draw the weight over the thousand updates, for several throws of the coin. What do"
        " the lines look like?",
        options=(
            "They stay at 1 for a long time, then jump to 2.",
            "They go up in irregular stairs around the exact line, and end near 2.",
            "They wander up and down around 1.",
        ),
        right="B",
        why="Each update is either a whole step or nothing, but on average it is right. What is left"
        " is noise: after n updates the distance from the exact line grows like the root of n, while"
        " the exact sum grows like n.",
    )


@app.function(hide_code=True)
def figure_one_weight() -> Figure:
    """Draw a weight that takes a thousand small updates, by two kinds of rounding."""
    count = np.arange(1001)
    with ps.plots.figure(1, width=12) as axes:
        panel = axes[0]
        panel.plot(count, 1 + 0.001 * count, color="black", linestyle="--", label="exact")
        panel.plot(count, one_weight("rne"), color="#D55E00", label="to nearest")
        labels = ["stochastic, five times", *["_"] * 4]
        panel.plot(count, one_weight("sr", 5), color="#56B4E9", linewidth=0.8, label=labels)
        panel.set(xlabel="updates of 0.001", ylabel="weight")
        panel.set_title("A weight in q3.8, where a step is 0.0039")
        ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_1 = mo.ui.radio(prediction_one_weight().letters, inline=True)
    mo.vstack([prediction_one_weight(), letter_1])
    return (letter_1,)


@app.cell(hide_code=True)
def _(letter_1):
    prediction_one_weight().reveal(letter_1.value, figure_one_weight())
    return


@app.function(hide_code=True)
def exercise_bf16() -> Exercise:
    """Ask for the largest power of two that bf16 swallows next to 1."""
    lost = max(2.0**-k for k in range(20) if float(ps.add(1.0, 2.0**-k, "bf16")) == 1)
    return Exercise(
        question="**Exercise 3.** Floats swallow updates too. bf16 has 8 significant bits, so above"
        " 1 its values are 2⁻⁷ apart. Which is the largest power of two that can be added to 1 in"
        " bf16 without any effect? (Nearest, ties to even. Write it as 2^-3, for example.)",
        right=lost,
        why="1 + 2⁻⁸ lies in the middle between 1 and 1 + 2⁻⁷, and the tie goes to the even value,"
        " 1. So a weight of 1 does not take updates of 0.0039 or less; typical updates are smaller.",
        mistakes=(
            Mistake(answer=2 * lost, hint="1 + 2⁻⁷ is a value of bf16: this update counts."),
            Mistake(
                answer=lost / 2,
                hint="That one is swallowed as well, but it is not the largest. Where does the tie"
                " go?",
            ),
            Mistake(answer=0, hint="0 is no power of two. Which is half of the distance, 2⁻⁷?"),
        ),
        hints=(
            "What is less than half of the distance is rounded away. And what is exactly half?",
            "A tie goes to the value whose last bit is 0. The last bit of 1 is 0.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="update")
    mo.vstack([exercise_bf16(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_bf16().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A network by hand

    Now 640 weights learn to tell ten handwritten digits apart, in 300 steps of 32 images. Two
    places round:

    * the **operands** of the products: images, weights as the product sees them, errors;
    * the **weights** as they are stored, after each update.

    | name | operands | stored weights |
    |---|---|---|
    | fp32 | float32 | float32 |
    | fp8 | E4M3, with a scale for each tensor | float32 |
    | q3.8 | steps of 1/256, to nearest | steps of 1/256, to nearest |
    | q3.8_sr | steps of 1/256, stochastic | steps of 1/256, stochastic |

    Here is the whole program, in NumPy. `operands` and `weights` are functions that round.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(f"```python\n{inspect.getsource(train)}```")
    return


@app.function(hide_code=True)
def prediction_training() -> Prediction:
    """Ask which trainings learn."""
    return Prediction(
        question="E4M3 has 4 significant bits, q3.8 has 9 for numbers between"
        " 1 and 2. Which of the four trainings learn?",
        options=(
            "Only fp32: the others have too few bits.",
            "fp32, q3.8 and q3.8_sr. With 4 significant bits, fp8 learns nothing.",
            "fp32, fp8 and q3.8_sr. With rounding to nearest, q3.8 learns little.",
        ),
        right="C",
        why="Products bear 4 bits: their errors average out over many terms and many steps. The"
        " stored weights do not: in q3.8 nearly all updates are smaller than half a step, and are"
        " swallowed, always in the same way. With the same 12 bits and a coin, the training follows"
        " float32.",
    )


@app.function(hide_code=True)
def runs() -> dict[str, Run]:
    """Return the four trainings by name."""
    return {
        "fp32": train(exact, exact),
        "fp8": train(fp8, exact),
        "q3.8": train(q38, q38),
        "q3.8_sr": train(q38_sr, q38_sr),
    }


@app.function(hide_code=True)
def figure_training() -> Figure:
    """Draw the test accuracy of the four trainings over their steps."""
    with ps.plots.figure(1, width=12, height=6.5) as axes:
        panel = axes[0]
        curves = {
            name: (np.arange(1, run.accuracy.size + 1), 100 * run.accuracy)
            for name, run in runs().items()
        }
        ps.plots.plot_curves(panel, curves)
        panel.set(xlabel="step", ylabel="test accuracy (%)", ylim=(0, 100))
        panel.set_title("Handwritten digits, one layer, learning rate 0.02")
        ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_training().letters, inline=True)
    mo.vstack([prediction_training(), letter_2])
    return (letter_2,)


@app.cell(hide_code=True)
def _(letter_2):
    prediction_training().reveal(letter_2.value, figure_training())
    return


@app.cell(hide_code=True)
def _():
    table = ["| training | test accuracy | swallowed updates |", "|---|---|---|"]
    for label, run in runs().items():
        table.append(f"| {label} | {run.accuracy[-1]:.1%} | {run.swallowed:.1%} |")
    mo.md("\n".join(table))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    Look at the last row: with stochastic rounding most updates are swallowed too. That does no
    harm, as the others are whole steps, larger than they should be, by just as much.
    """)
    return


@app.function(hide_code=True)
def exercise_blame() -> Exercise:
    """Ask which of the two roundings stops q3.8 from learning."""
    alone = {
        "operands": train(q38, exact).accuracy[-1],
        "weights": train(exact, q38).accuracy[-1],
    }
    to_blame = min(alone, key=lambda part: alone[part])
    return Exercise(
        question="**Exercise 4.** In q3.8 two places round. Which of them alone would stop the"
        " training: `operands` or `weights`?",
        right=to_blame,
        why=f"With float32 operands and q3.8 weights the accuracy is {alone['weights']:.1%}; with"
        f" q3.8 operands and float32 weights it is {alone['operands']:.1%}. That is why mixed"
        " precision keeps a float32 copy of the weights.",
        mistakes=(
            Mistake(
                answer="operands",
                hint="Compare with fp8: its operands are coarser still, and it learns.",
            ),
            Mistake(
                answer="both",
                hint="One of them alone is enough. Which one does fp8 keep in float32?",
            ),
        ),
        hints=(
            "fp8 rounds operands more coarsely than q3.8. What does it not round?",
            "Call `train(q38, exact)` and `train(exact, q38)`, and compare.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="place")
    mo.vstack([exercise_blame(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_blame().check(answer_4.value)
    return


@app.function(hide_code=True)
def exercise_gradient() -> Exercise:
    """Ask how large a gradient must be to move a weight in q3.8."""
    least = STEP / 2 / RATE
    return Exercise(
        question=f"**Exercise 5.** With the learning rate {RATE}, how large must a gradient be at"
        " least, so that a weight in q3.8 moves? (To nearest; three digits are enough.)",
        right=least,
        within=0.01,
        why="0.02 × 0.0977 = 1/512, half of a step. With ten times the learning rate a tenth of it"
        " is enough: then q3.8 learns too. Trainings in few bits want large steps, until those"
        " become unstable.",
        mistakes=(
            Mistake(answer=STEP / 2, hint="That is the update. It is the rate times the gradient."),
            Mistake(answer=2 * least, hint="Half of a step is enough to be rounded up."),
            Mistake(
                answer=STEP / 2 * RATE, hint="Divide by the learning rate instead of multiplying."
            ),
        ),
        hints=(
            "The update, rate × gradient, must reach half of a step: 1/512.",
            "Divide 1/512 by the learning rate.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="gradient")
    mo.vstack([exercise_gradient(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_gradient().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    rates = ["| learning rate | fp32 | q3.8 | swallowed in q3.8 |", "|---|---|---|---|"]
    for each in (0.005, RATE, 0.2):
        wide, narrow = train(exact, exact, each), train(q38, q38, each)
        rates.append(
            f"| {each} | {wide.accuracy[-1]:.1%} | {narrow.accuracy[-1]:.1%} |"
            f" {narrow.swallowed:.1%} |"
        )
    mo.md("\n".join(rates))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * Products bear few bits, if a scale keeps them in the range: 4 significant bits are enough here.
    * Weights need many bits, as updates are far smaller than weights. To nearest, an update below
      half a step is swallowed, each time.
    * Remedies: float32 weights beside the narrow operands, stochastic rounding, or Kahan's
      compensation (lesson 3).
    * An accuracy that stands still with a share of swallowed updates near 100 % is a matter of
      bits, not of the learning rate's schedule.

    At home: `precsim train --policy fp8_current q3.8 q3.8_sr` trains a network with a hidden layer
    under the policies of these names, and prints swallowed updates and much more. There every
    number is rounded, also between the products.
    """)
    return


if __name__ == "__main__":
    app.run()
