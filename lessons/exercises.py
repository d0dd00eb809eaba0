"""What a lesson asks: predictions, which open a figure, and exercises that check an answer."""

import html
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lessons.answers import Answer, is_alike, is_bits, read, shown, text_of
from lessons.pictures import picture

if TYPE_CHECKING:
    from marimo import Html
    from matplotlib.figure import Figure


def _as_html(text: str) -> str:
    """Return Markdown as HTML."""
    import marimo

    return marimo.md(text).text


def folded(summary: str, inside: str) -> str:
    """Return what opens at a click, in marimo, in Jupyter and in a plain page."""
    return f"<details><summary>{html.escape(summary)}</summary>{inside}</details>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What stands at the head of a lesson, and in the list of lessons."""

    title: str
    goal: str
    minutes: int
    needs: str  # what a learner should know before

    def _repr_html_(self) -> str:
        line = (
            f"**Goal.** {self.goal}\n\n**Time.** {self.minutes} minutes. **Before.** {self.needs}"
        )
        return _as_html(f"# {self.title}\n\n{line}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an answer is right, what to say about it, and hints that were not given yet."""

    is_right: bool
    message: str
    more_hints: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether the answer is right."""
        return self.is_right

    def __str__(self) -> str:
        """Return the message."""
        return self.message

    def _repr_html_(self) -> str:
        more = "".join(folded("A hint", _as_html(hint)) for hint in self.more_hints)
        return _as_html(self.message) + more


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A wrong answer that shows where the thought went astray, and the hint that fits it."""

    answer: Answer
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A question with its right answer, general hints, and mistakes that can be recognised.

    `right` is a number, bits ("0 011 10") or a word. Answers that are as near to it as `within`
    (relative) count as right. `why` is said after a right answer.
    """

    question: str
    right: Answer
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...] = ()
    within: Fraction | float = 0
    why: str = ""

    def check(self, answer: object) -> Verdict:
        """Return the verdict on an answer: a number, or text as a learner types it.

        Anything may be given: what cannot be read gets a verdict too.
        """
        if not text_of(answer).strip():
            return Verdict(is_right=False, message="", more_hints=self.hints)
        try:
            given = read(answer, self.right)
        except ValueError as problem:
            return Verdict(is_right=False, message=str(problem))
        if is_alike(given, self.right, self.within):
            return Verdict(is_right=True, message=f"**Right.** {self.why}".strip())
        for mistake in self.mistakes:
            if is_alike(given, mistake.answer, max(self.within, Fraction(1, 10**6))):
                return self._wrong(mistake.hint, self.hints)
        if hint := _general_mistake(given, self.right):
            return self._wrong(hint, self.hints)
        return self._wrong(self.hints[0], self.hints[1:])

    @staticmethod
    def _wrong(hint: str, more: tuple[str, ...]) -> Verdict:
        return Verdict(is_right=False, message=f"**Not yet.** {hint}", more_hints=more)

    def solution(self) -> str:
        """Return the right answer and its reason, as Markdown."""
        return f"`{shown(self.right)}`. {self.why}".strip()

    def _repr_html_(self) -> str:
        return _as_html(self.question)


def _general_mistake(given: Any, right: Answer) -> str:
    """Return the hint for a mistake that can be seen in any answer of this kind, or nothing."""
    target = read(right, right)
    if isinstance(target, str):
        if is_bits(right) and len(given) != len(target):
            return f"You wrote {len(given)} bits; the answer has {len(target)}."
        return ""
    if given == -target and given != 0:
        return "Look at the sign."
    if isinstance(given, Fraction) and isinstance(target, Fraction) and given * target > 0:
        ratio = given / target
        top, bottom = ratio.numerator, ratio.denominator
        if 1 in (top, bottom) and max(top, bottom).bit_count() == 1:
            return "The digits are right, but the power of two is not: look at the exponent."
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A question about a figure that is answered before the figure is seen, by a letter.

    `options` are in order: A, B, C, ...; `right` is a letter, `why` is said with the figure.
    """

    question: str
    options: tuple[str, ...]
    right: str
    why: str

    @property
    def letters(self) -> list[str]:
        """Return A, B, C, ...: one per option."""
        return [chr(ord("A") + k) for k in range(len(self.options))]

    def reveal(self, letter: str | None, figure: "Figure") -> "Html":
        """Return the figure once a letter is chosen; folded where nobody can choose."""
        import marimo

        shown = picture(figure).text + _as_html(f"Right is **{self.right}**. {self.why}")
        if letter is not None:
            wrong = (
                f"You predicted {letter}." if letter in self.letters else "You predicted nothing."
            )
            verdict = "As you predicted." if letter == self.right else wrong
            return marimo.Html(_as_html(verdict) + shown)
        if marimo.app_meta().mode in ("edit", "run") and "fold" not in marimo.cli_args():
            return marimo.md("*Choose a letter: the figure opens then.*")
        return marimo.Html(folded("Open it when you have predicted", shown))

    def _repr_html_(self) -> str:
        pairs = zip(self.letters, self.options, strict=True)
        lines = "\n".join(f"* **{letter}**: {option}" for letter, option in pairs)
        return _as_html(f"**Predict.** {self.question}\n\n{lines}")
