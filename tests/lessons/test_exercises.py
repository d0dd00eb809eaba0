"""Verdicts: right, the hint that fits the mistake, the next general hint."""

from fractions import Fraction

import pytest
from matplotlib.figure import Figure

pytest.importorskip("marimo")

from lessons.exercises import Exercise, Mistake, Prediction

VALUE = Exercise(
    question="What is `0 100 10`?",
    right=3,
    hints=("Look at the fields.", "The bias is 3."),
    mistakes=(Mistake(answer=1, hint="You forgot the hidden bit."),),
    why="1.5 times 2.",
)
BITS = Exercise(question="Which bits?", right="0 101 01", hints=("Where is the point?",))


def test_right() -> None:
    verdict = VALUE.check("6/2")
    assert verdict
    assert str(verdict) == "**Right.** 1.5 times 2."
    assert verdict.more_hints == ()


def test_the_hint_fits_the_mistake_and_the_general_ones_follow() -> None:
    verdict = VALUE.check(1)
    assert not verdict
    assert str(verdict) == "**Not yet.** You forgot the hidden bit."
    assert verdict.more_hints == VALUE.hints


def test_another_mistake_gets_the_first_general_hint() -> None:
    verdict = VALUE.check("7")
    assert str(verdict) == "**Not yet.** Look at the fields."
    assert verdict.more_hints == ("The bias is 3.",)


@pytest.mark.parametrize(
    ("answer", "words"),
    [("-3", "sign"), ("24", "exponent"), ("3/4", "exponent"), ("three", "is no number")],
)
def test_mistakes_that_any_number_can_have(answer: str, words: str) -> None:
    assert words in VALUE.check(answer).message


def test_mistakes_that_any_bits_can_have() -> None:
    assert "You wrote 3 bits; the answer has 6." in BITS.check("101").message
    assert "other signs" in BITS.check("0 102 01").message
    assert "Where is the point?" in BITS.check("0 101 11").message


def test_without_an_answer_there_are_only_hints() -> None:
    verdict = VALUE.check("  ")
    assert not verdict
    assert (verdict.message, verdict.more_hints) == ("", VALUE.hints)


def test_near_answers_pass_where_they_may() -> None:
    exercise = Exercise(question="?", right=Fraction(1, 3), hints=("",), within=0.02)
    assert exercise.check("0.33")
    assert not exercise.check("0.3")


def test_pages_show_questions_and_hints() -> None:
    assert "<code>0 100 10</code>" in VALUE._repr_html_()
    assert VALUE.check("7")._repr_html_().count("<details>") == 1
    assert VALUE.solution() == "`3`. 1.5 times 2."


def test_a_prediction_opens_its_figure() -> None:
    prediction = Prediction(question="How?", options=("so", "otherwise"), right="B", why="It is.")
    figure = Figure()
    figure.subplots().set_title("A figure & more")
    assert prediction.letters == ["A", "B"]
    assert "<strong>B</strong>: otherwise" in prediction._repr_html_()
    assert "As you predicted" in prediction.reveal("B", figure).text
    assert "You predicted A" in prediction.reveal("A", figure).text
    assert "You predicted nothing" in prediction.reveal("<b>B</b>", figure).text
    folded = prediction.reveal(None, figure).text
    assert folded.startswith("<details>")
    assert 'alt="A figure &amp; more"' in folded
