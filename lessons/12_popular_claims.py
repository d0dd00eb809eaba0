"""Lesson 12: a marimo notebook."""

import marimo

app = marimo.App(app_title="12. Popular claims, measured")

with app.setup(hide_code=True):
    import math
    from dataclasses import dataclass

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure

    import precsim as ps
    from lessons.exercises import Exercise, Lesson, Mistake, Prediction, folded
    from lessons.pictures import drawn

    LESSON = Lesson(
        title="Popular claims, measured",
        goal="You can settle a claim about low precision by a measurement of a few lines, and you"
        " know the answers to ten common ones.",
        minutes=20,
        needs="Lessons 1, 3, 7 and 9.",
    )
    ANSWERS = ("true", "false", "it depends")

    @dataclass(frozen=True, kw_only=True)
    class Claim:
        """What articles say, how it was measured, and the verdict: one of ANSWERS."""

        number: int
        said: str
        measured: str
        verdict: str
        because: str

        def ask(self) -> mo.Html:
            """Return the claim as a heading and a quotation."""
            return mo.md(f"### Claim {self.number}\n\n> {self.said}")

        def reveal(self, guess: str | None) -> mo.Html:
            """Return measurement and verdict after a guess; folded where nobody can guess."""
            result = mo.md(f"{self.measured}\n\n**Verdict: {self.verdict}.** {self.because}")
            if guess is not None:
                wrong = f"You guessed: {guess}." if guess in ANSWERS else "You guessed nothing."
                said = "You guessed right." if guess == self.verdict else wrong
                return mo.vstack([mo.md(said), result])
            if mo.app_meta().mode in ("script", None):
                return mo.Html(folded("Measure, when you have guessed", result.text))
            return mo.md("*Guess first: the measurement opens then.*")

    def guesses() -> mo.ui.radio:
        """Return a field for a guess."""
        return mo.ui.radio(ANSWERS, inline=True)

    def rounded(x: float, name: str) -> float:
        """Return a number, rounded to a format."""
        return float(ps.round_to(np.float64(x), name))

    def fp32_code(x: float) -> int:
        """Return the bits of a positive float32 number, as an integer: they are in order."""
        return int(ps.encode(np.float32(x), "fp32"))


@app.cell(hide_code=True)
def _():
    LESSON
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    Popular articles repeat a small set of claims about half, mixed and 8-bit precision. Here are
    ten of them, in our own words. For each, guess first: is it true, false, or does it depend? Then
    look at the measurement. All numbers in this lesson are facts of bits and arithmetic, so they
    come out the same on every machine.

    ## Range and bits
    """)
    return


@app.function(hide_code=True)
def claim_range() -> Claim:
    """Measure which float32 numbers fp16 keeps."""
    every = fp32_code(math.inf) - 1
    infinite = every - fp32_code(65520) + 1
    zero = fp32_code(2.0**-25)
    kept = every - infinite - zero
    return Claim(
        number=1,
        said="fp16 has the same range as float32, only fewer digits.",
        measured=f"Of the {every:,} positive float32 numbers, fp16 makes {infinite / every:.2%}"
        f" infinite and {zero / every:.2%} zero. {kept / every:.2%} stay finite and above 0.",
        verdict="false",
        because="fp16 has 5 exponent bits and float32 has 8. bf16 is the one with float32's range.",
    )


@app.cell(hide_code=True)
def _():
    guess_1 = guesses()
    mo.vstack([claim_range().ask(), guess_1])
    return (guess_1,)


@app.cell(hide_code=True)
def _(guess_1):
    claim_range().reveal(guess_1.value)
    return


@app.function(hide_code=True)
def exercise_infinite() -> Exercise:
    """Ask where infinity begins in fp16."""
    first = next(n for n in range(65504, 65600) if math.isinf(rounded(n, "fp16")))
    return Exercise(
        question="**Exercise 1.** The largest value of fp16 is 65504, and the values below it are 32"
        " apart. Which is the smallest whole number that rounding to nearest makes infinite?",
        right=first,
        why="The next value would be 65536. 65520 lies in the middle, and the tie goes to the even"
        " one, which is beyond the range.",
        mistakes=(
            Mistake(answer=65505, hint="65505 is nearer to 65504 than to 65536."),
            Mistake(answer=65536, hint="Numbers below 65536 can be nearer to it than to 65504."),
            Mistake(
                answer=first + 1,
                hint="65520 is a tie. To which of 65504 and 65536 do ties go: which one is even,"
                " counted in steps of 32?",
            ),
        ),
        hints=(
            "If the range went on, which value would come after 65504?",
            "What is more than half way from 65504 to 65536 is rounded up. And what is half way?",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_1 = mo.ui.text(label="number")
    mo.vstack([exercise_infinite(), answer_1])
    return (answer_1,)


@app.cell
def _(answer_1):
    exercise_infinite().check(answer_1.value)
    return


@app.function(hide_code=True)
def claim_pi() -> Claim:
    """Measure what 16 and 8 bits keep of 3.14159."""
    found = ", ".join(f"{n}: {rounded(3.14159, n):.9g}" for n in ("fp16", "bf16", "e4m3", "e5m2"))
    return Claim(
        number=2,
        said="Converted to fp16, 3.14159 becomes 0.0625.",
        measured=f"`ps.round_to(3.14159, ...)` gives {found}.",
        verdict="false",
        because="The error is below one in a thousand. The article mixes up two things: 0.0625 comes"
        " from a scale and an offset, as integers need them. A float is rounded without either.",
    )


@app.cell(hide_code=True)
def _():
    guess_2 = guesses()
    mo.vstack([claim_pi().ask(), guess_2])
    return (guess_2,)


@app.cell(hide_code=True)
def _(guess_2):
    claim_pi().reveal(guess_2.value)
    return


@app.function(hide_code=True)
def claim_fixed() -> Claim:
    """Measure the code of 3.14 in fixed point."""
    stored = rounded(3.14, "q3.8")
    return Claim(
        number=3,
        said="To store 3.14 in fixed point with 8 fraction bits, multiply it by 2⁻⁸ and round.",
        measured=f"3.14 × 2⁻⁸ = {3.14 / 256:.6f}, rounded to a whole number: {round(3.14 / 256)}."
        f" 3.14 × 2⁸ = {3.14 * 256:.2f}, rounded: {round(stored * 256)}, which stands for"
        f" {round(stored * 256)}/256 = {stored:g}.",
        verdict="false",
        because="The sign of the exponent is wrong. To code, multiply by 2⁸; to decode, divide.",
    )


@app.cell(hide_code=True)
def _():
    guess_3 = guesses()
    mo.vstack([claim_fixed().ask(), guess_3])
    return (guess_3,)


@app.cell(hide_code=True)
def _(guess_3):
    claim_fixed().reveal(guess_3.value)
    return


@app.function(hide_code=True)
def claim_back() -> Claim:
    """Measure what a round trip through fp16 restores."""
    back = float(np.float32(rounded(3.14159, "fp16")))
    codes = np.arange(2**16, dtype=np.uint16)
    finite = int(np.isfinite(ps.decode(codes, "fp16")).sum())
    return Claim(
        number=4,
        said="Compute in fp16 to save time, then convert back to float32: precision is restored.",
        measured=f"3.14159 comes back as {back:.9g}. All float32 numbers that fp16 does not make"
        f" infinite meet in only {finite:,} codes.",
        verdict="false",
        because="Nobody can tell afterwards which of the many numbers a code was.",
    )


@app.cell(hide_code=True)
def _():
    guess_4 = guesses()
    mo.vstack([claim_back().ask(), guess_4])
    return (guess_4,)


@app.cell(hide_code=True)
def _(guess_4):
    claim_back().reveal(guess_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Sums and updates
    """)
    return


@app.function(hide_code=True)
def prediction_sum() -> Prediction:
    """Ask where a long sum ends in bf16."""
    return Prediction(
        question="Add 0.1 ten thousand times in bf16, with a rounding after each addition. The exact"
        " sum is 1000. What comes out?",
        options=(
            "About 1000 ± 4: each rounding errs by at most 1 in 256.",
            "32: at some point, 0.1 does not change the sum any more.",
            "Infinity.",
        ),
        right="B",
        why="From 32 to 64 the values of bf16 are 1/4 apart. 0.1 is less than half of that, so the"
        " sum stays at 32. fp16 stops at 256, E4M3 at 2.",
    )


@app.function(hide_code=True)
def figure_sum() -> Figure:
    """Draw the partial sums of 0.1 in three formats."""
    count = np.arange(0, 10001, 100)
    with ps.plots.figure(1, width=12) as axes:
        panel = axes[0]
        panel.plot(count[1:], 0.1 * count[1:], color="black", linestyle="--", label="exact")
        for name in ("fp16", "bf16", "e4m3"):
            total, totals = 0.0, []
            for _ in count[1:]:
                block = np.concatenate([[total], np.full(100, 0.1)])
                total = float(ps.accumulate(block, name))
                totals.append(total)
            color = ps.plots.format_color(name)
            panel.plot(count[1:], totals, color=color, label=f"{name}: ends at {totals[-1]:g}")
        panel.set_yscale("log")
        panel.set(xlabel="numbers added", ylabel="sum")
        panel.set_title("0.1 added again and again")
        ps.plots.finish(panel)
    return drawn(axes)


@app.cell(hide_code=True)
def _():
    letter = mo.ui.radio(prediction_sum().letters, inline=True)
    mo.vstack([prediction_sum(), letter])
    return (letter,)


@app.cell(hide_code=True)
def _(letter):
    prediction_sum().reveal(letter.value, figure_sum())
    return


@app.function(hide_code=True)
def claim_sum() -> Claim:
    """Compare two orders of one sum."""
    tenths = np.full(10000, 0.1)
    left = ", ".join(f"{n}: {float(ps.accumulate(tenths, n)):g}" for n in ("fp16", "bf16"))
    pairs = [float(ps.accumulate(tenths, n, order="pairwise")) for n in ("fp16", "bf16")]
    return Claim(
        number=5,
        said="The total error of a sum is the number of additions times the error of one rounding.",
        measured=f"From left to right, {left}. In pairs, fp16: {pairs[0]:g}, bf16: {pairs[1]:g}.",
        verdict="it depends",
        because="It is a bound, and only for small errors. The order decides: one gets stuck, the"
        " other errs by less than 1 %. Both round 9,999 times.",
    )


@app.cell(hide_code=True)
def _():
    guess_5 = guesses()
    mo.vstack([claim_sum().ask(), guess_5])
    return (guess_5,)


@app.cell(hide_code=True)
def _(guess_5):
    claim_sum().reveal(guess_5.value)
    return


@app.function(hide_code=True)
def exercise_stall() -> Exercise:
    """Ask where a sum of ones stops in fp16."""
    stall = int(ps.accumulate(np.ones(5000), "fp16"))
    return Exercise(
        question="**Exercise 2.** fp16 has 11 significant bits. At which value does a sum of ones"
        " stop, added one by one?",
        right=stall,
        why="2049 needs 12 bits. It is a tie between 2048 and 2050, and goes to 2048, the even one.",
        mistakes=(
            Mistake(answer=2 * stall, hint="From 2048 on, the values are 2 apart."),
            Mistake(
                answer=stall // 2, hint="1025 has 11 bits: it is a value. Which number needs 12?"
            ),
            Mistake(answer=stall - 1, hint="2047 + 1 = 2048 is a value of fp16."),
            Mistake(answer=65504, hint="Long before, values are more than 1 apart."),
        ),
        hints=(
            "From which number on are the values of fp16 more than 1 apart?",
            "With 11 bits you can write all whole numbers up to 2¹¹.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_2 = mo.ui.text(label="value")
    mo.vstack([exercise_stall(), answer_2])
    return (answer_2,)


@app.cell
def _(answer_2):
    exercise_stall().check(answer_2.value)
    return


@app.function(hide_code=True)
def claim_update() -> Claim:
    """Add small updates to a weight in three formats."""
    updates = np.concatenate([[1.0], np.full(1000, 1e-4)]).astype(np.float32)
    names = ("fp32", "fp16", "bf16")
    found = ", ".join(f"{n}: {float(ps.accumulate(updates, n)):.7g}" for n in names)
    return Claim(
        number=6,
        said="Gradients can be computed in single precision and applied to half-precision weights.",
        measured=f"A weight of 1 and a thousand updates of 0.0001: {found}.",
        verdict="it depends",
        because="Updates below half of the distance between two weights are swallowed, all of them."
        " It works with large updates, stochastic rounding or compensation; or keep float32 weights.",
    )


@app.cell(hide_code=True)
def _():
    guess_6 = guesses()
    mo.vstack([claim_update().ask(), guess_6])
    return (guess_6,)


@app.cell(hide_code=True)
def _(guess_6):
    claim_update().reveal(guess_6.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Small numbers
    """)
    return


@app.function(hide_code=True)
def claim_mean() -> Claim:
    """Measure the gradient of a mean over many pixels in fp16."""
    size = 32 * 1024 * 1024
    return Claim(
        number=7,
        said="A loss that is a mean is harmless in fp16: the mean keeps numbers small.",
        measured=f"The mean absolute error over 32 images of 1024 × 1024 pixels has the gradient"
        f" ±1/{size:,} = ±2^{-math.log2(size):.0f} for each pixel. In fp16 that is"
        f" {rounded(1 / size, 'fp16'):g}.",
        verdict="false",
        because="The mean keeps the loss small, and makes the gradients far too small: nothing is"
        " learnt. A loss scale mends it.",
    )


@app.cell(hide_code=True)
def _():
    guess_7 = guesses()
    mo.vstack([claim_mean().ask(), guess_7])
    return (guess_7,)


@app.cell(hide_code=True)
def _(guess_7):
    claim_mean().reveal(guess_7.value)
    return


@app.function(hide_code=True)
def claim_adam() -> Claim:
    """Round the constants of Adam to 16 bits."""
    return Claim(
        number=8,
        said="Cast the model to 16 bits and use Adam with its usual settings.",
        measured=f"The usual ε = 10⁻⁸ is {rounded(1e-8, 'fp16'):g} in fp16: a weight without a"
        f" gradient divides 0 by 0. β₂ = 0.999 is {rounded(0.999, 'bf16'):g} in bf16, so that"
        f" 1 − β₂ is 0.",
        verdict="false",
        because="Keep the optimizer's state and constants in float32, or choose a larger ε.",
    )


@app.cell(hide_code=True)
def _():
    guess_8 = guesses()
    mo.vstack([claim_adam().ask(), guess_8])
    return (guess_8,)


@app.cell(hide_code=True)
def _(guess_8):
    claim_adam().reveal(guess_8.value)
    return


@app.function(hide_code=True)
def exercise_epsilon() -> Exercise:
    """Ask for the smallest power of ten that fp16 keeps."""
    least = min(10.0**-k for k in range(12) if rounded(10.0**-k, "fp16"))
    return Exercise(
        question="**Exercise 3.** Which is the smallest ε of the form 10⁻¹, 10⁻², 10⁻³, ... that is"
        " not 0 in fp16? Its smallest value is 2⁻²⁴ = 5.96 × 10⁻⁸. Write it as 1e-3, for example.",
        right=least,
        within=1e-9,
        why="10⁻⁷ is above 2⁻²⁵, half of the smallest value. It is rounded to 1.19 × 10⁻⁷, which is"
        " 19 % off, but not 0.",
        mistakes=(
            Mistake(answer=1e-8, hint="10⁻⁸ is below half of the smallest value, 2.98 × 10⁻⁸."),
            Mistake(
                answer=1e-4,
                hint="That is the smallest power of ten that is a normal number. Subnormal values"
                " are smaller.",
            ),
            Mistake(answer=1e-6, hint="That one is not 0, but a smaller one is not 0 either."),
        ),
        hints=(
            "What is up to half of the smallest value becomes 0.",
            "Half of the smallest value is 2.98 × 10⁻⁸.",
        ),
    )


@app.cell(hide_code=True)
def _():
    answer_3 = mo.ui.text(label="epsilon")
    mo.vstack([exercise_epsilon(), answer_3])
    return (answer_3,)


@app.cell
def _(answer_3):
    exercise_epsilon().check(answer_3.value)
    return


@app.function(hide_code=True)
def claim_softmax() -> Claim:
    """Compute exponentials in fp16."""
    high, low = (float(ps.exp(x, "fp16")) for x in (12.0, -17.5))
    return Claim(
        number=9,
        said="Softmax and cross-entropy, written as in the textbook, are fine in 16 bits.",
        measured=f"`ps.exp(12.0, 'fp16')` is {high:g}. With two logits 17.5 apart, the probability"
        f" of the smaller one, e^−17.5, is {low:g}, and its logarithm −inf.",
        verdict="false",
        because="Subtract the largest logit first, and compute the logarithm of the softmax at once,"
        " in float32.",
    )


@app.cell(hide_code=True)
def _():
    guess_9 = guesses()
    mo.vstack([claim_softmax().ask(), guess_9])
    return (guess_9,)


@app.cell(hide_code=True)
def _(guess_9):
    claim_softmax().reveal(guess_9.value)
    return


@app.function(hide_code=True)
def exercise_exponential() -> Exercise:
    """Ask for the largest whole number whose exponential is finite in fp16."""
    last = max(n for n in range(20) if math.isfinite(ps.exp(float(n), "fp16")))
    return Exercise(
        question="**Exercise 4.** Which is the largest whole number n whose exponential eⁿ is finite"
        " in fp16? (e is about 2.718, the largest value 65504.)",
        right=last,
        why="e¹¹ is about 59,874, and e¹² about 162,755.",
        mistakes=(
            Mistake(answer=last + 1, hint="e¹² is about 162,755: too large."),
            Mistake(answer=88, hint="That is the limit of float32."),
            Mistake(answer=15, hint="2¹⁵ fits, but e is larger than 2."),
        ),
        hints=("Take the natural logarithm of 65504.", "ln 65504 is about 11.09."),
    )


@app.cell(hide_code=True)
def _():
    answer_4 = mo.ui.text(label="n")
    mo.vstack([exercise_exponential(), answer_4])
    return (answer_4,)


@app.cell
def _(answer_4):
    exercise_exponential().check(answer_4.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## Memory
    """)
    return


@app.function(hide_code=True)
def claim_memory() -> Claim:
    """Count the bytes of training BERT-base."""
    lines = ["| policy | weights | float32 copy | gradients | Adam | all, in GB |"]
    lines.append("|---|---|---|---|---|---|")
    for policy in ("fp32", "fp16_mixed", "fp16,opt=fp16"):
        cost = ps.cost(109_482_240, policy=policy, optimizer="adam")
        parts = (cost.weights, cost.masters, cost.gradients, cost.optimizer, cost.total)
        cells = " | ".join(f"{part / 1e9:.2f}" for part in parts)
        lines.append(f"| `{policy}` | {cells} |")
    return Claim(
        number=10,
        said="Mixed precision halves the memory of training.",
        measured="\n".join(["BERT-base has 109,482,240 weights:", "", *lines]),
        verdict="it depends",
        because="The float32 copy takes what the narrow weights and gradients save. Activations,"
        " which are not counted here, do halve: with long inputs they are the larger part. Only"
        " with everything in 16 bits all of it halves, and claims 6 and 8 say what that costs.",
    )


@app.cell(hide_code=True)
def _():
    guess_10 = guesses()
    mo.vstack([claim_memory().ask(), guess_10])
    return (guess_10,)


@app.cell(hide_code=True)
def _(guess_10):
    claim_memory().reveal(guess_10.value)
    return


@app.function(hide_code=True)
def exercise_megabytes() -> Exercise:
    """Ask for the memory of ten million weights."""
    count = 10_000_000
    found = ps.cost(count, policy="fp32").weights // 10**6
    return Exercise(
        question="**Exercise 5.** An article says: *ten million float32 weights take 400 MB*. How"
        " many MB are it (1 MB = 10⁶ bytes)?",
        right=found,
        why="10,000,000 × 4 bytes. The article is off by a factor of ten.",
        mistakes=(
            Mistake(answer=400, hint="How many bytes does one float32 number take?"),
            Mistake(answer=found // 2, hint="That is fp16: 2 bytes a weight."),
            Mistake(answer=found * 8, hint="32 are bits. A byte has 8."),
        ),
        hints=("A float32 number has 32 bits.", "32 bits are 4 bytes."),
    )


@app.cell(hide_code=True)
def _():
    answer_5 = mo.ui.text(label="MB")
    mo.vstack([exercise_megabytes(), answer_5])
    return (answer_5,)


@app.cell
def _(answer_5):
    exercise_megabytes().check(answer_5.value)
    return


@app.function(hide_code=True)
def exercise_bytes() -> Exercise:
    """Ask for the bytes of a weight in mixed precision with Adam."""
    million = 10**6
    cost = ps.cost(million, policy="fp16_mixed", optimizer="adam")
    return Exercise(
        question="**Exercise 6.** Mixed precision with Adam: how many bytes does one weight need?"
        " Count the fp16 weight, its fp16 gradient, the float32 copy, and Adam's two averages in"
        " float32.",
        right=cost.total // million,
        why="2 + 2 + 4 + 4 + 4 = 16, as many as in float32: 4 + 4 + 4 + 4.",
        mistakes=(
            Mistake(answer=12, hint="Adam keeps *two* averages, 4 bytes each."),
            Mistake(answer=8, hint="That would be all in fp16. Three of the five are float32."),
            Mistake(answer=14, hint="Do not forget the gradient, or the fp16 weight."),
            Mistake(answer=10, hint="Float32 numbers take 4 bytes: the copy, and two averages."),
        ),
        hints=("fp16 takes 2 bytes, float32 takes 4.", "Two times 2 bytes, three times 4 bytes."),
    )


@app.cell(hide_code=True)
def _():
    answer_6 = mo.ui.text(label="bytes")
    mo.vstack([exercise_bytes(), answer_6])
    return (answer_6,)


@app.cell
def _(answer_6):
    exercise_bytes().check(answer_6.value)
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to keep

    * A claim about numbers can be measured, mostly in a few lines. Do it before you repeat it.
    * "It depends" is no verdict until you say on what: the order, the size of the updates, the
      optimizer.
    * Write down what was measured: format, rounding, order, data. Then others can check it.

    At home: take a claim from a text that you have read, and settle it. `ps.round_to`,
    `ps.accumulate`, `ps.errors.range_rates` and `ps.cost` go a long way.
    """)
    return


if __name__ == "__main__":
    app.run()
