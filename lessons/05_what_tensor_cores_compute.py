"""Lesson 5: a marimo notebook."""

import marimo

app = marimo.App(app_title="5. What tensor cores really compute")

with app.setup(hide_code=True):
    from fractions import Fraction

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction
    from lessons.pictures import drawn

    LESSON = Lesson(
        title="What tensor cores really compute",
        goal="You can compute a step of a tensor core by hand, and find by experiment how many bits"
        " a machine keeps.",
        minutes=20,
        needs="Lesson 2 (rounding toward zero) and lesson 4 (accumulator).",
    )
    LARGE = 2.0**23


@app.function(hide_code=True)
def machine(name: str, products: list[tuple[float, float]], start: float = 0.0) -> float:
    """Return start + the sum of the products, as a GPU's tensor core computes it."""
    left, right = np.array(products).T
    return dot(name, left, right, start)


@app.function(hide_code=True)
def dot(name: str, a: np.ndarray, b: np.ndarray, start: float = 0.0) -> float:
    """Return start + a . b, as a GPU's tensor core computes it."""
    return float(ps.oracle.fused_dot_exact(a.tolist(), b.tolist(), start, name))


@app.function(hide_code=True)
def steps_of(name: str) -> ps.FusedBlock:
    """Return how long a step of a machine is, and how many bits it keeps."""
    order = ps.MatmulSpec.parse(name).order
    assert isinstance(order, ps.FusedBlock)
    return order


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Many products in one step

    The tensor cores of a GPU multiply matrices. They do not add one product after the other, and they
    do not do what IEEE 754 says. One **step** takes L products and the accumulator at once:

    1. Each product is computed exactly.
    2. All terms are **aligned** to the largest of them, as one writes numbers below each other: point
       below point.
    3. Each term is **cut off** toward zero: only F bits after the leading bit of the largest term are
       kept.
    4. What is left is added exactly.
    5. The sum is rounded once to the accumulator's format, on most machines toward zero.

    L and F differ from machine to machine:
    """)
    return


@app.cell(hide_code=True)
def _():
    names = ("v100:fp16", "a100:fp16", "h100:fp16", "h100:e4m3")
    steps = [(name, steps_of(name)) for name in names]
    rows = [f"| {name} | {s.length} | {s.fraction_bits} |" for name, s in steps]
    mo.md("\n".join(["| machine and operands | L | F |", "|---|---|---|", *rows]))
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    With a largest term of 2^k, everything below 2^(k − F) is cut off: for the time of one step, the
    terms are *fixed-point* numbers.

    Example, on an A100 (F = 24): the accumulator is 2²³, the products are −2²³ and −0.625. Exactly, the
    sum is −0.625.
    """)
    return


@app.function(hide_code=True)
def exercise_unit() -> Exercise:
    """Ask for the smallest part that is kept."""
    order = steps_of("a100:fp16")
    right = Fraction(2) ** (23 - order.fraction_bits)
    return Exercise(
        question=f"**Exercise 1.** The largest term is 2²³ and F = {order.fraction_bits}. How large"
        " is the last place that is kept?",
        right=right,
        why="2^(23 − 24) = 1/2: every term becomes a multiple of 0.5.",
        mistakes=(
            Mistake(
                answer=Fraction(1, 2**order.fraction_bits),
                hint="The F bits follow the leading bit of the *largest term*, which is 2²³ here.",
            ),
            Mistake(answer=2, hint="The last place is 2^(23 − F), not 2^(F − 23)."),
            Mistake(answer=1, hint="That would be F = 23, as on a V100."),
        ),
        hints=(
            "The leading bit is 2²³, the next one 2²², and so on. Which is the 24th after it?",
            "The last place is 2^(23 − F).",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="value")
    mo.vstack([exercise_unit(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_unit().check(answer_1.value)
    return


@app.function(hide_code=True)
def exercise_cut() -> Exercise:
    """Ask for the result of one step."""
    right = machine("a100:fp16", [(-(2.0**13), 2.0**10), (-0.625, 1.0)], LARGE)
    return Exercise(
        question="**Exercise 2.** What does the A100 make of 2²³ − 2²³ − 0.625?",
        right=right,
        why="−0.625 is cut off toward zero at multiples of 0.5. The two large terms cancel, but only"
        " after the cut.",
        mistakes=(
            Mistake(
                answer=-0.625,
                hint="That is the exact result. But −0.625 is cut off *before* the large terms"
                " cancel.",
            ),
            Mistake(answer=-1, hint="Cutting off goes toward zero, not down."),
            Mistake(answer=0, hint="So does a V100, which keeps one bit less (F = 23)."),
            Mistake(answer=0.5, hint="Keep the sign of −0.625."),
        ),
        hints=(
            "By exercise 1, each term becomes a multiple of 0.5.",
            "Which multiple of 0.5 is next to −0.625 on the side of zero?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="result")
    mo.vstack([exercise_cut(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_cut().check(answer_2.value)
    return


@app.function(hide_code=True)
def prediction_stairs() -> Prediction:
    """Ask for the results of three machines."""
    return Prediction(
        question="Three GPUs compute 2²³ − 2²³ + x in one step, for every x from 0 to 2. Exactly,"
        " that is x. How do the results of V100 (F = 23), A100 (F = 24) and H100 (F = 25) look?",
        options=(
            "All three give x: the large terms cancel.",
            "Stairs below the line x, with steps of width 1, 1/2 and 1/4.",
            "Stairs that cross the line x, as they round to nearest.",
        ),
        right="B",
        why="x is cut off at multiples of 2^(23 − F): 1, 1/2, 1/4. As the cut goes toward zero, no"
        " stair is above the line. Three machines of one maker, three answers.",
    )


@app.function(hide_code=True)
def figure_stairs() -> Figure:
    """Draw what three machines make of 2**23 - 2**23 + x."""
    x = np.arange(0, 2, 1 / 32)
    with ps.plots.figure(1, width=ps.plots.PAGE_WIDTH, height=6.0) as axes:
        axes[0].plot(x, x, "--", color="black", label="exact")
        for name, style in (("v100", "-"), ("a100", "-."), ("h100", ":")):
            y = [machine(f"{name}:fp16", [(-(2.0**13), 2.0**10), (v, 1.0)], LARGE) for v in x]
            axes[0].step(x, y, where="post", linestyle=style, label=name.upper())
        axes[0].set(xlabel="x", ylabel="result")
        axes[0].set_title("2²³ − 2²³ + x in one step of a tensor core")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter = mo.ui.radio(prediction_stairs().letters, inline=True)
    mo.vstack([prediction_stairs(), letter])
    return (letter,)


@app.cell
def _(letter):
    prediction_stairs().reveal(letter.value, figure_stairs())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Find the kept bits by experiment

    How does one know F, if the maker does not say? One asks the machine. Here is one that is not in the
    table. It computes 1 − 1 + 2^(−j) in one step. Move the slider: as long as the answer is not 0, the
    bit was kept.
    """)
    return


@app.function(hide_code=True)
def mystery(j: int) -> float:
    """Return 1 - 1 + 2**-j, as a machine with an unknown number of kept bits computes it."""
    half = j // 2
    small = (2.0**-half, 2.0 ** (half - j))
    return machine("fp16_fp16_fp32[rtz]:fused16x21", [(-1.0, 1.0), small], 1.0)


@app.cell(hide_code=True)
def _():
    slider = mo.ui.slider(10, 30, label="j", show_value=True)
    slider
    return (slider,)


@app.cell
def _(slider):
    mo.md(f"The machine answers **{mystery(slider.value)}** for j = {slider.value}.")
    return


@app.function(hide_code=True)
def exercise_mystery() -> Exercise:
    """Ask for the number of kept bits of the unknown machine."""
    right = max(j for j in range(10, 31) if mystery(j))
    return Exercise(
        question="**Exercise 3.** How many bits F does this machine keep after the leading one?"
        " (Without the slider: call `mystery(j)`.)",
        right=right,
        why="The largest term is 2⁰, so the last place that is kept is 2^(−F): the last j whose"
        " answer is not 0. Just so, the numbers of real GPUs were found.",
        mistakes=(
            Mistake(answer=right + 1, hint="For this j the answer is 0: the bit is lost already."),
            Mistake(answer=right - 1, hint="Try the next j too."),
            Mistake(
                answer=24, hint="That is the precision of fp32. This machine keeps another number."
            ),
        ),
        hints=(
            "Try j = 10, then j = 30, then halve the way between.",
            "Look for the largest j whose answer is not 0.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="F")
    mo.vstack([exercise_mystery(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_mystery().check(answer_3.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Blocks of terms

    Within a step the order of the products does not matter, as they are added exactly. Between steps
    the sum is rounded, so the length L of a step is part of the result.
    """)
    return


@app.function(hide_code=True)
def exercise_steps() -> Exercise:
    """Ask for the number of roundings of a long dot product."""
    order = steps_of("v100:fp16")
    length = 64
    return Exercise(
        question=f"**Exercise 4.** A dot product of {length} pairs runs on a V100 (L ="
        f" {order.length}), one step after the other. How often is the sum rounded?",
        right=length // order.length,
        why=f"Each step takes {order.length} products and rounds once. A chain of single additions"
        f" would round {length} times, an H100 (L = 16) 4 times.",
        mistakes=(
            Mistake(answer=length, hint="The products of one step are added without rounding."),
            Mistake(answer=4, hint="That would be L = 16, as on an H100."),
            Mistake(answer=1, hint="A step has room for L products only."),
            Mistake(answer=15, hint="The first step adds to the accumulator too, and rounds."),
        ),
        hints=("How many steps are needed for 64 products?", "64 divided by L."),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="roundings")
    mo.vstack([exercise_steps(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_steps().check(answer_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Eight bits, and how to mend it

    With 8-bit operands the H100 keeps only F = 13 bits in its fast mode. Once the accumulator is large,
    small products lose their last bits, and always toward zero: the errors do not cancel.
    """)
    return


@app.function(hide_code=True)
def exercise_fp8() -> Exercise:
    """Ask which products vanish beside a large accumulator."""
    order = steps_of("h100:e4m3")
    right = Fraction(2) ** (10 - order.fraction_bits)
    return Exercise(
        question=f"**Exercise 5.** On an H100 with e4m3 operands (F = {order.fraction_bits}) the"
        " accumulator is 1024 = 2¹⁰. Products below which size are lost altogether?",
        right=right,
        why="2^(10 − 13) = 1/8. A positive product below 1/8 adds nothing, however often it comes.",
        mistakes=(
            Mistake(
                answer=right / 2,
                hint="Half of the last place would be right for rounding to nearest. Here it is cut"
                " off.",
            ),
            Mistake(
                answer=Fraction(1, 2**order.fraction_bits),
                hint="That is right beside 1. The accumulator is 2¹⁰.",
            ),
            Mistake(answer=8, hint="It is 2^(10 − F), not 2^(F − 10)."),
        ),
        hints=(
            "The last place that is kept is 2^(10 − F).",
            "A term that is smaller than the last place has nothing left after the cut.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="size")
    mo.vstack([exercise_fp8(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_fp8().check(answer_5.value)
    return


@app.function(hide_code=True)
def prediction_promotion() -> Prediction:
    """Ask what promotion does."""
    return Prediction(
        question="Libraries mend this by *promotion*: after every 128 products, the sum is added to a"
        " total in fp32 and starts again at 0. How does the relative error grow from 128 to 2048"
        " random positive pairs, without and with promotion?",
        options=(
            "Without it grows about as fast as the length; with promotion it stays level.",
            "Both grow alike: what is cut off is lost.",
            "Both stay level.",
        ),
        right="A",
        why="Within 128 products the accumulator stays small, and little is cut off. Without"
        " promotion it grows with the length, and so does the part of each product that is cut off.",
    )


@app.function(hide_code=True)
def figure_promotion() -> Figure:
    """Draw the relative error of long dot products in e4m3, without and with promotion."""
    sizes = (128, 512, 2048)
    numbers = np.random.default_rng(5).random((2, 4, sizes[-1]))
    a, b = ps.round_to(numbers, "e4m3")
    curves = {}
    for spec, label in (
        ("h100:e4m3", "one chain"),
        ("h100:e4m3:promote128", "promoted every 128"),
    ):
        sums = [[dot(spec, x[:n], y[:n]) for x, y in zip(a, b, strict=True)] for n in sizes]
        exact = [[x[:n] @ y[:n] for x, y in zip(a, b, strict=True)] for n in sizes]
        errors = 1 - np.array(sums) / np.array(exact)
        curves[label] = (np.array(sizes), errors.mean(axis=1))
    with ps.plots.figure(1, height=6.5) as axes:
        ps.plots.plot_curves(axes[0], curves, marker="o")
        axes[0].set_xscale("log", base=2)
        axes[0].set_yscale("log")
        axes[0].set_xticks(sizes, [str(n) for n in sizes])
        axes[0].set(xlabel="pairs", ylabel="mean relative error", title="e4m3 on an H100")
        ps.plots.finish(axes[0])
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter_2 = mo.ui.radio(prediction_promotion().letters, inline=True)
    mo.vstack([prediction_promotion(), letter_2])
    return (letter_2,)


@app.cell
def _(letter_2):
    prediction_promotion().reveal(letter_2.value, figure_promotion())
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * A tensor core aligns L products and the accumulator, cuts off, adds exactly, rounds once.
    * Its answer depends on the machine, so two GPUs may differ in the last bits, and none of them is
      broken.
    * What is kept depends on the largest term of a step. Where large terms cancel, little is left.
    * Promotion to fp32 every 128 products keeps the accumulator small.

    At home: `ps.matmul(a, b, "h100:bf16")` multiplies matrices with the bits of the machine that is named.
    """)
    return


if __name__ == "__main__":
    app.run()
