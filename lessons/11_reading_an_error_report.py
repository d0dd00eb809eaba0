"""Lesson 11: a marimo notebook."""

import marimo

app = marimo.App(app_title="11. Reading an error report")

with app.setup(hide_code=True):
    import inspect
    import io
    import math

    import marimo as mo
    from matplotlib.figure import Figure
    from rich.console import Console

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn
    from lessons.wrong_variance import (
        model,
        report_of_model,
        report_of_variance,
        result,
        variance,
    )

    LESSON = Lesson(
        title="Reading an error report",
        goal="You can find the operation that ruins a result, say why it does, and mend it.",
        minutes=20,
        needs="Rounding (lesson 2). Enough Python to read a function of five lines.",
    )


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A wrong variance

    The variance of 100, 101, 102, 103 is 1.25. The function `variance` computes it as statistics
    books do: the mean of the squares minus the square of the mean.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(f"```python\n{inspect.getsource(variance)}```")
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    In fp16 it returns 0. `ps.analyze(variance, x, policy="fp16")` runs the function twice, in fp16
    and in float64, and divides the difference of the results among the operations. Each gets a
    **share**: the part of the error that its own roundings make.
    """)
    return


@app.function(hide_code=True)
def exercise_change() -> Exercise:
    """Ask for the change of the result."""
    report = report_of_variance()
    return Exercise(
        question="**Exercise 1.** The report speaks of the **change**: the emulated result minus the"
        " exact one. How large is it here?",
        right=report.change,
        why=f"{report.value:g} − {report.reference_value:g}. All shares together make this number.",
        mistakes=(
            Mistake(
                answer=-report.change,
                hint="The sign counts: the emulated result is smaller than the exact one.",
            ),
            Mistake(
                answer=report.value,
                hint="That is the emulated result. Take the exact one, 1.25, off.",
            ),
            Mistake(answer=-1, hint="That is the relative error. The change is absolute."),
        ),
        hints=("The emulated result is 0, the exact one 1.25.", "0 − 1.25 is negative."),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="change")
    mo.vstack([exercise_change(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_change().check(answer_1.value)
    return


@app.function(hide_code=True)
def prediction_shares() -> Prediction:
    """Ask which part of the variance makes the error."""
    return Prediction(
        question="The function has three parts: *squares* (x² and their mean), *mean*, and"
        " *difference* (the square of the mean, and the subtraction). Which operations make the"
        " error?",
        options=(
            "The subtraction, alone.",
            "The squares: x² and their mean, and the square of the mean; not the subtraction.",
            "All operations, each about as much as the others.",
        ),
        right="B",
        why="The squares lie near 10,000, where the values of fp16 are 8 apart. So the squares, and"
        " sums of them, have errors of several units *before* the subtraction. The two numbers that"
        " are subtracted are near each other, and their difference is a number of fp16: it is"
        " *exact*, and has no share. It only shows what was lost before.",
    )


@app.function(hide_code=True)
def figure_shares() -> Figure:
    """Draw the shares of the operations of the variance."""
    rows = report_of_variance().rows
    change = report_of_variance().change
    names = [f"{row.scope.split('/')[-1]}: {row.primitive}" for row in rows]
    shares = [100 * row.share / change for row in rows]
    with ps.plots.figure(1, width=12, height=6) as axes:
        panel = axes[0]
        colors = ["#0072B2" if share < 0 else "#D55E00" for share in shares]
        panel.barh(range(len(rows)), shares, 0.7, color=colors)
        panel.axvline(0, color="0.3", linewidth=0.8)
        panel.set_yticks(range(len(rows)), names)
        panel.invert_yaxis()
        panel.set(xlabel="share (% of the change)", ylabel="operation, in order")
        panel.set_title("Who makes the error of the variance in fp16?")
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_1 = mo.ui.radio(prediction_shares().letters, inline=True)
    mo.vstack([prediction_shares(), letter_1])
    return (letter_1,)


@app.cell(hide_code=True)
def _(letter_1):
    prediction_shares().reveal(letter_1.value, figure_shares())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The report

    Read it from the top. The first line gives the change and the **gross**, the sum of the
    magnitudes of all shares. Then come the three operations that matter most. In the table,
    **SQNR** is how well an operation rounds its own result, in decibel, and **factor** is by how
    much it enlarges the relative error of what it gets. `print(report)` shows all of this.
    """)
    return


@app.cell(hide_code=True)
def _():
    numbered = "\n".join(f"1. {line}" for line in report_of_variance().top())
    paper = io.StringIO()
    Console(width=72, file=paper).print(report_of_variance().table())
    mo.md(
        f"Change {report_of_variance().change:g}, gross {report_of_variance().gross:g}. What loses"
        f" most:\n\n{numbered}\n\n```text\n{paper.getvalue()}```"
    )
    return


@app.function(hide_code=True)
def exercise_culprit() -> Exercise:
    """Ask which operation amplifies the errors."""
    rows = report_of_variance().rows
    largest = max((row for row in rows if math.isfinite(row.condition)), key=lambda r: r.condition)
    return Exercise(
        question="**Exercise 2.** Which operation enlarges errors most? Give its name from the"
        " table.",
        right=largest.primitive,
        why=f"Its factor is {largest.condition:.2g}. The two operands agree in nearly all digits;"
        " these cancel, and the digits that are left are wrong. It is called **cancellation**.",
        mistakes=(
            Mistake(
                answer="integer_pow",
                hint="x² makes errors, and large ones; its factor is small. Look at the column"
                " factor.",
            ),
            Mistake(
                answer="reduce_sum",
                hint="The sum has the largest share. The question is about the column factor.",
            ),
        ),
        hints=(
            "Look at the column factor.",
            "Which operation takes the difference of two numbers of almost the same size?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="operation")
    mo.vstack([exercise_culprit(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_culprit().check(answer_2.value)
    return


@app.function(hide_code=True)
def exercise_gross() -> Exercise:
    """Ask for the gross from the shares."""
    report = report_of_variance()
    return Exercise(
        question="**Exercise 3.** The shares of the table are −160 %, +140 % and +120 % of a change"
        " of −1.25. How large is the gross, the sum of the magnitudes? (In the unit of the change.)",
        right=report.gross,
        within=0.01,
        why="(1.6 + 1.4 + 1.2) × 1.25 = 5.25. The gross is 4.2 times the change: errors of both"
        " signs cancel by luck. With other numbers the change can be as large as the gross.",
        mistakes=(
            Mistake(
                answer=abs(report.change),
                hint="You added the shares with their signs. That gives the change again.",
            ),
            Mistake(answer=4.2, hint="That is the gross over the change. Multiply by 1.25."),
            Mistake(answer=420, hint="That is in % of the change."),
        ),
        hints=(
            "Add 160, 140 and 120: that is in % of the change.",
            "420 % of 1.25.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="gross")
    mo.vstack([exercise_gross(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_gross().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Mend it

    Now you know what is wrong: digits are lost when large squares are stored. Three proposals, all
    in fp16:

    * **difference**: compute only *difference* in float32, with the policy
      `"fp16;difference:fp32"`;
    * **two_pass**: subtract the mean first, and square what is left;
    * **loss_scale**: multiply everything by a power of two, as in lesson 7.
    """)
    return


@app.function(hide_code=True)
def exercise_remedy() -> Exercise:
    """Ask which remedy works."""
    results = {
        "difference": result("variance", "fp16;difference:fp32"),
        "two_pass": result("two_pass", "fp16"),
    }
    works = min(results, key=lambda name: abs(results[name] - 1.25))
    return Exercise(
        question="**Exercise 4.** Which proposal gives 1.25? Write `difference`, `two_pass` or"
        " `loss_scale`.",
        right=works,
        why=f"Without the mean the numbers lie between −1.5 and 1.5, and their squares are small:"
        f" {results['two_pass']:g} comes out, the exact value. *difference* in float32 gives"
        f" {results['difference']:g}: the digits were lost before.",
        mistakes=(
            Mistake(
                answer="difference",
                hint="The subtraction has no share in the error: it was exact already. What it gets"
                " is wrong.",
            ),
            Mistake(
                answer="loss_scale",
                hint="A power of two changes exponents only, and no number underflows here. The"
                " digits are lost all the same.",
            ),
        ),
        hints=(
            "Where are the digits lost: in the subtraction, or before it?",
            "The squares are near 10,000, where values of fp16 are 8 apart. Avoid such squares.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="proposal")
    mo.vstack([exercise_remedy(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_remedy().check(answer_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A model

    A report of a model has hundreds of rows. So ask for **scopes** first: `report.by_scope()` adds
    up the shares of each layer. This model has two layers with a normalisation between them, which
    subtracts the mean of 16 numbers and divides by their standard deviation.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(f"```python\n{inspect.getsource(model)}```")
    return


@app.function(hide_code=True)
def prediction_model() -> Prediction:
    """Ask which scope of the model makes most of the error."""
    return Prediction(
        question="The model runs in fp16. Which scope makes the largest part of the error of the"
        " loss?",
        options=(
            "first: the error is passed on through everything behind it.",
            "norm: there is a difference of two large, nearly equal numbers.",
            "second: the product has the most multiplications.",
            "loss: the last rounding is what one sees.",
        ),
        right="B",
        why="It is the variance of above again, of numbers near 4. Positive and negative shares"
        " partly cancel: the gross is"
        f" {report_of_model('fp16').gross / abs(report_of_model('fp16').change):.0f} times the"
        " change.",
    )


@app.function(hide_code=True)
def figure_model() -> Figure:
    """Draw the shares of the scopes of the model, as it is and mended."""
    with ps.plots.figure(2, height=4.2) as axes:
        for panel, policy in zip(axes, ("fp16", "fp16;norm:fp32"), strict=True):
            groups = {group.name: group.share for group in report_of_model(policy).by_scope()}
            names = ["first", "norm", "second", "loss"]
            shares = [1000 * groups.get(name, 0.0) for name in names]
            colors = ["#0072B2" if share < 0 else "#D55E00" for share in shares]
            panel.barh(names, shares, 0.7, color=colors)
            panel.axvline(0, color="0.3", linewidth=0.8)
            panel.invert_yaxis()
            panel.set(xlabel="share (thousandths)", ylabel="scope")
            panel.set_title(policy)
        width = max(abs(end) for panel in axes for end in panel.get_xlim())
        for panel in axes:
            panel.set_xlim(-width, width)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_model().letters, inline=True)
    mo.vstack([prediction_model(), letter_2])
    return (letter_2,)


@app.cell(hide_code=True)
def _(letter_2):
    prediction_model().reveal(letter_2.value, figure_model())
    return


@app.function(hide_code=True)
def exercise_rule() -> Exercise:
    """Ask for the rule that mends the model."""
    before, after = (abs(report_of_model(p).change) for p in ("fp16", "fp16;norm:fp32"))
    return Exercise(
        question="**Exercise 5.** Suppose that you cannot change the model, only the policy. Which"
        " one rule after `fp16` mends it? Write it as `scope:format`.",
        right="norm:fp32",
        why=f"With `fp16;norm:fp32` the change falls from {before:.2g} to {after:.2g}, and the gross"
        f" from {report_of_model('fp16').gross:.2g} to"
        f" {report_of_model('fp16;norm:fp32').gross:.2g}. Most libraries keep normalisations in"
        " float32 for this reason.",
        mistakes=(
            Mistake(answer="norm", hint="That is the scope. Add the format: `norm:...`."),
            Mistake(
                answer="first:fp32",
                hint="The share of *first* is small. Which scope has the largest one?",
            ),
            Mistake(
                answer="loss:fp32",
                hint="The last rounding is a small part. Which scope has the largest share?",
            ),
            Mistake(
                answer="norm:bf16",
                hint="bf16 has a wider range, but fewer digits than fp16. Range is not the trouble.",
            ),
        ),
        hints=(
            "Take the scope with the largest share.",
            "Give it the format with the most digits of those that a GPU computes fast in: fp32.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="rule")
    mo.vstack([exercise_rule(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_rule().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## When the account does not close

    Nothing can be divided if a result is infinite or NaN. The report then says that it does not
    close, and names the first operation whose result is not finite. In fp16 that is often a square.
    """)
    return


@app.function(hide_code=True)
def exercise_overflow() -> Exercise:
    """Ask for the smallest whole number whose square overflows in fp16."""
    first = next(n for n in range(1, 1000) if math.isinf(ps.multiply(float(n), float(n), "fp16")))
    return Exercise(
        question="**Exercise 6.** The largest value of fp16 is 65504. Which is the smallest whole"
        " number whose square is infinite in fp16?",
        right=first,
        why="256² = 65536 is beyond the range; 255² = 65025 is not. Brightness values of pixels go"
        " up to 255: their squares just fit, but not the sum of two of them.",
        mistakes=(
            Mistake(answer=first - 1, hint="255² = 65025 is less than 65504."),
            Mistake(answer=65504, hint="Not the number itself overflows, but its square."),
            Mistake(answer=65520, hint="Not the number itself overflows, but its square."),
        ),
        hints=("Take the root of 65504.", "The root of 65504 is 255.9."),
    )


@app.cell(hide_code=True)
def _():
    answer_6 = mo.ui.text(label="number")
    mo.vstack([exercise_overflow(), answer_6])
    return (answer_6,)


@app.cell
def _(answer_6):
    exercise_overflow().check(answer_6.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * A share is the part of the error that an operation makes itself; shares sum to the change.
    * Making an error and enlarging it are two things. A subtraction with a large factor shows what
      was lost before it.
    * Mend the place where digits are lost: reorder the computation, or give that scope a wider
      format.
    * Judge a format by the gross, and one run by the change.

    At home: analyze a function of your own. The page *Read a report* of the documentation follows a
    whole training.
    """)
    return


if __name__ == "__main__":
    app.run()
