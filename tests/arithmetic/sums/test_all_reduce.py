"""All-reduces as strings."""

import itertools

import pytest

import precsim as ps

TEXTS = (
    "doubling",
    "ring:bf16",
    "tree:fp16:rtz",
    "halving:e4m3:saturate:feedback",
    "ring:feedback",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_string_comes_back(text: str) -> None:
    how = ps.options.AllReduce.parse(text)
    assert str(how) == text
    assert ps.options.AllReduce.parse(str(how)) == how == ps.options.AllReduce.parse(how)
    assert how.has_feedback == text.endswith("feedback")


def test_different_strings_are_different_all_reduces() -> None:
    parsed = [ps.options.AllReduce.parse(text) for text in TEXTS]
    assert all(a != b for a, b in itertools.combinations(parsed, 2))


@pytest.mark.parametrize("text", ["", "ring:", "ring::feedback", "ring:feedback:bf16", "bf16"])
def test_other_strings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed|known|unknown|empty"):
        ps.options.AllReduce.parse(text)


@pytest.mark.parametrize("given", ["no", 2, None])
def test_feedback_is_true_or_false(given: object) -> None:
    with pytest.raises(TypeError, match=r"^has_feedback is .*; allowed are True and False"):
        ps.options.AllReduce(has_feedback=given)  # type: ignore[arg-type]
