"""Lesson 7: a marimo notebook."""

import marimo

app = marimo.App(app_title="7. Loss scaling")

with app.setup(hide_code=True):
    import inspect
    import math

    import marimo as mo
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.digits_audit import audit
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn, picture

    LESSON = Lesson(
        title="Loss scaling",
        goal="You can say which gradients fp16 loses, choose a loss scale, and explain why a dynamic"
        " one skips steps.",
        minutes=20,
        needs="Lesson 6: the ranges of fp16 and bf16. What a gradient is.",
    )


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What fp16 does to small gradients

    In fp16 the smallest positive value is 2⁻²⁴, about 6 × 10⁻⁸. A number up to half of it, 2⁻²⁵,
    becomes 0. Between 2⁻²⁴ and 2⁻¹⁴ the values are subnormal: they lie 2⁻²⁴ apart, so the smaller a
    number, the fewer digits it keeps. Here are four gradients:
    """)
    return


@app.function(hide_code=True)
def in_fp16(gradient: float, scale: float = 1.0) -> float:
    """Return what fp16 keeps of a gradient that is scaled first, unscaled again."""
    return float(ps.round_to(np.float64(gradient * scale), "fp16")) / scale


@app.cell(hide_code=True)
def _():
    gradients = (1e-3, 3e-6, 2e-8, 1e-9)
    head = ["| gradient | in fp16 | times 1024, in fp16, divided by 1024 |", "|---|---|---|"]
    rows = [f"| {g:g} | {in_fp16(g):.4g} | {in_fp16(g, 1024):.4g} |" for g in gradients]
    mo.md("\n".join(head + rows))
    return


@app.function(hide_code=True)
def exercise_smallest_scale() -> Exercise:
    """Ask for the smallest power of two that saves a gradient."""
    scale = next(2**k for k in range(30) if in_fp16(1e-8, 2**k))
    return Exercise(
        question="**Exercise 1.** Which is the smallest power of two by which you can multiply"
        " 10⁻⁸, so that fp16 does not make it 0?",
        right=scale,
        why="10⁻⁸ × 4 is above 2⁻²⁵ = 2.98 × 10⁻⁸, so it is rounded up to 2⁻²⁴. One digit is saved,"
        " with a large error; a scale of 1024 leaves an error of 0.1 %.",
        mistakes=(
            Mistake(
                answer=scale // 2,
                hint="2 × 10⁻⁸ is still below 2⁻²⁵ = 2.98 × 10⁻⁸, half of the smallest value.",
            ),
            Mistake(
                answer=2 * scale,
                hint="That is enough, but it is not the smallest. A number need not reach 2⁻²⁴: more"
                " than half of it is rounded up.",
            ),
            Mistake(
                answer=2 ** math.ceil(math.log2(2.0**-14 / 1e-8)),
                hint="That makes it a normal number, with all its digits. It need only not be 0.",
            ),
        ),
        hints=(
            "Which numbers become 0? Those up to half of the smallest value.",
            "Half of the smallest value is 2⁻²⁵ = 2.98 × 10⁻⁸. Double 10⁻⁸ until it is above.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="scale")
    mo.vstack([exercise_smallest_scale(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_smallest_scale().check(answer_1.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Multiply the loss

    One need not multiply each gradient. The chain rule does it: the gradient of S × loss is S times
    the gradient of the loss, at every step of the backward pass. So

    1. multiply the loss by the **loss scale** S before the backward pass;
    2. divide the gradients by S, in float32, before the optimizer sees them.

    With a power of two as S, both steps are exact: only exponents change. With S = 1000, digits
    would change as well.
    """)
    return


@app.function(hide_code=True)
def exercise_forgotten() -> Exercise:
    """Ask what happens if the gradients are not divided by the scale again."""
    rate, scale = 0.01, 1024
    return Exercise(
        question=f"**Exercise 2.** A program trains by plain SGD with the learning rate {rate} and"
        f" S = {scale}, and forgets step 2. With which learning rate does it train in effect?",
        right=rate * scale,
        within=1e-9,
        why="The update is rate × gradient, and the gradients are 1024 times too large. Such a"
        " training diverges, and one looks for the reason in the precision.",
        mistakes=(
            Mistake(answer=rate / scale, hint="The gradients are too large, not too small."),
            Mistake(
                answer=rate,
                hint="The update is the learning rate times the gradient, which is still scaled.",
            ),
        ),
        hints=(
            "The update is the learning rate times the gradient.",
            "The gradient is 1024 times too large.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="rate")
    mo.vstack([exercise_forgotten(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_forgotten().check(answer_2.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The gradients of a training

    A small network learns handwritten digits, for 200 steps. `ps.audit_loss_scale` runs its
    backward pass *without* a scale, in numbers that have the digits of fp16 but the range of
    float32. So nothing is lost, and we can see where every number of the backward pass lies.
    """)
    return


@app.cell(hide_code=True)
def _():
    mo.md(f"```python\n{inspect.getsource(audit)}```")
    return


@app.function(hide_code=True)
def prediction_histogram() -> Prediction:
    """Ask how gradients move in the course of a training."""
    return Prediction(
        question="Count the numbers of the backward pass by their power of two, at the start of the"
        " training and at its end. How does the histogram move?",
        options=(
            "It moves to the left: gradients get smaller as the network learns.",
            "It stays where it is: only the loss gets smaller.",
            "It moves to the right: gradients get larger.",
        ),
        right="A",
        why="Gradients are in proportion to the errors of the network: an image that is recognised"
        " for sure has a gradient of nearly 0. At the end the left tail reaches below the range of"
        " fp16 (the bar at the top; hatched are its subnormal values), and what lies there is lost."
        " Above the histogram, the range of fp16 is empty: there is room for a scale.",
    )


@app.function(hide_code=True)
def figure_histogram() -> Figure:
    """Draw the exponents of the backward pass at the start and at the end of the training."""
    counts = audit().counts
    exponents = np.arange(counts.shape[1]) - 149
    parts = {"first 5 steps": counts[:5].sum(0), "last 5 steps": counts[-5:].sum(0)}
    with ps.plots.figure(1, width=12) as axes:
        ps.plots.plot_exponent_histogram(
            axes[0],
            {label: (exponents[n > 0], n[n > 0]) for label, n in parts.items()},
            ["fp16"],
        )
        axes[0].set_title("Numbers of the backward pass, without a loss scale")
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_1 = mo.ui.radio(prediction_histogram().letters, inline=True)
    mo.vstack([prediction_histogram(), letter_1])
    return (letter_1,)


@app.cell(hide_code=True)
def _(letter_1):
    prediction_histogram().reveal(letter_1.value, figure_histogram())
    return


@app.cell(hide_code=True)
def _():
    shares = ["| loss scale | lost at step 1 | lost at step 200 |", "|---|---|---|"]
    for power in (0, 4, 8, 12, 16):
        lost = 100 * audit().underflow(2.0**power)
        shares.append(f"| 2^{power} | {lost[0]:.2f} % | {lost[-1]:.2f} % |")
    mo.md("\n".join(["Of the numbers that are not 0:", "", *shares]))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## The other end

    So take a scale as large as possible? fp16 ends at 65504. If one scaled gradient of a step is
    larger, it becomes infinite, and infinity spreads to all that is computed with it.
    """)
    return


@app.function(hide_code=True)
def exercise_largest_scale() -> Exercise:
    """Ask for the largest power of two that does not overflow."""
    scale = max(2**k for k in range(30) if math.isfinite(in_fp16(10.0, 2**k)))
    return Exercise(
        question="**Exercise 3.** The largest gradient of a step is 10. Which is the largest power"
        " of two that can be the loss scale, if nothing may become infinite?",
        right=scale,
        why=f"65504 / 10 is about 6550, and {scale} is the power of two below it.",
        mistakes=(
            Mistake(
                answer=2 * scale,
                hint=f"10 × {2 * scale} = {20 * scale} is above 65504. Round down to a power of"
                " two.",
            ),
            Mistake(answer=6550, hint="That is the quotient. The scale is a power of two."),
            Mistake(
                answer=2**15,
                hint="That is the largest power of two of fp16. The scaled gradient has to fit, not"
                " only the scale.",
            ),
        ),
        hints=("How often does 10 fit into 65504?", "Not more than 6550 times."),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="scale")
    mo.vstack([exercise_largest_scale(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_largest_scale().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    So each step bears a **window** of scales. Below it, at least one in a thousand numbers is lost,
    or all numbers of some place. Above it, something overflows. Here is the window of each step:
    """)
    return


@app.function(hide_code=True)
def figure_windows() -> Figure:
    """Draw the scales that each step bears."""
    with ps.plots.figure(1, width=12, height=7) as axes:
        draw_windows(axes[0])
        axes[0].set_title("Loss scales that each step of the training bears")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.function(hide_code=True)
def draw_windows(panel: Axes) -> None:
    """Draw the window of each step as a band."""
    steps = np.arange(1, len(audit().used) + 1)
    smallest, largest = (np.array(end) for end in zip(*audit().windows, strict=True))
    panel.fill_between(steps, smallest, largest, step="mid", color="0.85", label="window")
    panel.step(steps, largest, where="mid", color="0.5", linewidth=0.6)
    panel.set_yscale("log", base=2)
    panel.set(xlabel="step", ylabel="loss scale", ylim=(2.0**-9, 2.0**25))
    panel.set_yticks(2.0 ** np.arange(-8, 25, 4))
    panel.set_yticks(2.0 ** np.arange(-9, 26), minor=True)
    panel.tick_params(axis="y", which="minor", labelleft=False)


@app.cell(hide_code=True)
def _():
    picture(figure_windows())
    return


@app.function(hide_code=True)
def exercise_window() -> Exercise:
    """Ask for the largest scale that all steps bear."""
    window, tops = audit().window, [each.largest for each in audit().windows]
    return Exercise(
        question="**Exercise 4.** One scale is to serve for all 200 steps. Read from the figure:"
        " which is the largest one that no step overflows with? Write it as a power, such as 2^10.",
        right=int(window.largest),
        why=f"It is the lowest place of the upper edge, 2^{math.log2(window.largest):.0f}, at the"
        f" start of the training. The window of all steps is narrow: it begins at"
        f" 2^{math.log2(window.smallest):.0f}, where the last steps begin to lose too much.",
        mistakes=(
            Mistake(
                answer=int(max(tops)),
                hint="That is the largest scale of *some* step. Others overflow with it.",
            ),
            Mistake(
                answer=int(window.smallest),
                hint="That is the smallest scale that serves for all steps. Look at the upper edge.",
            ),
            Mistake(
                answer=int(math.log2(window.largest)),
                hint="That is the exponent. Write 2^ before it.",
            ),
        ),
        hints=(
            "Look at the upper edge of the band: the scale must be below it at every step.",
            "The upper edge is lowest in the first steps.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="scale")
    mo.vstack([exercise_window(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_window().check(answer_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## A scale that finds its place

    Nobody knows the window beforehand, and it moves. A **dynamic** loss scale begins far too high
    and learns from failures:

    * A step whose gradients have an infinity or NaN is **skipped**, and S is halved.
    * After some good steps in a row (20 here, often 2000), S is doubled.
    """)
    return


@app.function(hide_code=True)
def prediction_dynamic() -> Prediction:
    """Ask for the path of a dynamic scale."""
    return Prediction(
        question="The scale begins at 2²⁴, the window is as above. How does S go on?",
        options=(
            "It falls in the first steps, then climbs along the upper edge, with setbacks.",
            "It falls in the first steps, and then stays in the middle of the window.",
            "It falls step by step during the whole training.",
        ),
        right="A",
        why="It falls while steps overflow, then tries more every 20 steps. As soon as it is above"
        " the upper edge, one step is skipped. It does not know the lower edge: it stays away from"
        " it by keeping close to the upper one.",
    )


@app.function(hide_code=True)
def figure_dynamic() -> Figure:
    """Draw the path of the dynamic scale through the windows, and the steps skipped."""
    used, skipped = audit().used, audit().overflows()
    steps = np.arange(1, len(used) + 1)
    with ps.plots.figure(1, width=12, height=7) as axes:
        draw_windows(axes[0])
        axes[0].step(steps, used, where="mid", label="dynamic scale")
        label = f"skipped: {skipped.sum()} steps"
        axes[0].plot(
            steps[skipped], used[skipped], "x", color="black", markeredgewidth=1, label=label
        )
        axes[0].set_title("The path of a dynamic loss scale")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_dynamic().letters, inline=True)
    mo.vstack([prediction_dynamic(), letter_2])
    return (letter_2,)


@app.cell(hide_code=True)
def _(letter_2):
    prediction_dynamic().reveal(letter_2.value, figure_dynamic())
    return


@app.cell(hide_code=True)
def _():
    first = audit().first_overflow() or 1
    mo.md(
        f"Step {first} overflows in: *{audit().place_of_overflow(first)}*. Gradients of weights are"
        " sums over all examples of a batch, so they are the largest numbers."
    )
    return


@app.function(hide_code=True)
def skipped_steps(start: float, largest_gradient: float) -> int:
    """Return how many steps a dynamic scale skips until a gradient fits."""
    scale, skipped = ps.DynamicLossScale(factor=start), 0
    while not math.isfinite(in_fp16(largest_gradient, float(scale.factor))):
        scale, skipped = scale.adjust(np.zeros((), bool)), skipped + 1
    return skipped


@app.function(hide_code=True)
def exercise_skipped() -> Exercise:
    """Ask how many steps are skipped until the scale fits."""
    skipped = skipped_steps(2.0**16, 10.0)
    return Exercise(
        question="**Exercise 5.** A dynamic scale begins at 2¹⁶, and the largest gradient of every"
        " step is 10. How many steps are skipped before the first good one?",
        right=skipped,
        why="2¹⁶, 2¹⁵, 2¹⁴ and 2¹³ overflow; 2¹² × 10 = 40960 fits.",
        mistakes=(
            Mistake(
                answer=skipped + 1,
                hint="You counted the good step too: 2¹² is not skipped.",
            ),
            Mistake(
                answer=skipped - 1,
                hint="2¹³ × 10 = 81920 is above 65504, so this step is skipped too.",
            ),
            Mistake(
                answer=2**12,
                hint="That is the scale of the first good step. How many steps does it take from"
                " 2¹⁶ to there?",
            ),
            Mistake(answer=0, hint="2¹⁶ × 10 is above 65504: the first step is skipped."),
        ),
        hints=(
            "With which power of two does 10 fit below 65504? Exercise 3 has it.",
            "Count the halvings from 2¹⁶ to 2¹².",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="steps")
    mo.vstack([exercise_skipped(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_skipped().check(answer_5.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * fp16 loses gradients of 2⁻²⁵ and below. A loss scale lifts all of them, and costs nothing, as
      powers of two change no digit.
    * Too large a scale overflows. Each step bears a window of scales, and the window moves as
      gradients shrink.
    * A dynamic scale follows the upper edge. A few skipped steps are how it works, not a fault; a
      scale that falls and falls is one.
    * bf16 has the range of float32 and needs no loss scale. 8-bit floats need one per tensor:
      lesson 8.

    At home: this does the same training with real skips. It begins with the same scale.

    ```python
    policy = "fp16_mixed,scale=dynamic@16777216[interval=20]"
    sizes = {"steps": 200, "batch_size": 256, "learning_rate": 0.5}
    run = ps.train(ps.TrainConfig(policy=policy, **sizes))
    run.loss_scales, run.skipped_steps
    ```
    """)
    return


if __name__ == "__main__":
    app.run()
