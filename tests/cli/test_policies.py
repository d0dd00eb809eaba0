"""Policies and schedules from the command line."""

import pytest

from precsim.cli.policies import read_policy, read_schedule


def test_a_schedule_gives_its_first_policy_under_its_name() -> None:
    policy = read_schedule("bf16@0,fp32@5", 6)
    assert policy.name == "bf16@0,fp32@5"
    assert str(policy) == str(read_policy("bf16"))
    assert read_schedule("cyclic[4]:bf16<fp32", 3).name == "cyclic[4]:bf16<fp32"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bf16,fp32@600", "--schedule is 'bf16,fp32@600': policy setting"),
        ("bf16@0,fp32@9000", "whose last phase begins at step 9000; allowed with 900 steps"),
        ("bf16@0,fp32@900", "whose last phase begins at step 900; allowed with 900 steps"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^--schedule is") as error:
        read_schedule(text, 900)
    assert said in str(error.value)
    assert "bf16@0,fp32@500" in str(error.value) or "steps below that" in str(error.value)
