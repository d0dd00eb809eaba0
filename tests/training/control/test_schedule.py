"""Schedules: their strings, and the policy of each step."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precsim as ps
from precsim.training.control.schedule import Schedule
from precsim.transform.presets import PRESETS

NUMBERS = (
    *("tensor=cotangents@8", "tensor=cotangents@dynamic", "tensor=cotangents@dynamic@8"),
    *("tensor=cotangents@dynamic@8[min=2]", "fwd=fp16_fp16_fp32:fused4x23"),
    *("fwd=fp16_fp16_fp32:fused4x23@-130", "fwd=fp16_fp16_fp32:fused4x23@-130:promote128"),
)
"""Settings of a scope in which a number follows "@", or may."""
POLICIES = (
    *dict.fromkeys((*PRESETS, *PRESETS.values())),
    "c=fp16,scale=dynamic@1024",
    "c=fp16,scale=dynamic@1024[interval=5],o=fp16",
    "scale=dynamic@1024,c=fp16",
    "fp32;hidden:bf16;output:c=e4m3",
    *(f"e=bf16,{number}" for number in NUMBERS),
    *(f"{number},e=bf16" for number in NUMBERS),
    *(f"bf16;hidden:{number}" for number in NUMBERS),
    *(f"bf16;hidden:{number},e=fp16;output:fp32" for number in NUMBERS),
)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_strings_parse_to_the_same_schedule(data: st.DataObject) -> None:
    policies = data.draw(st.lists(st.sampled_from(POLICIES), min_size=1, max_size=4))
    steps = data.draw(st.lists(st.integers(1, 10**6), min_size=4, max_size=4, unique=True))
    starts = (0, *sorted(steps)[: len(policies) - 1])
    period = data.draw(st.none() | st.integers(10**6 + 1, 10**7))
    schedule = Schedule(starts=starts, policies=tuple(policies), period=period)
    assert Schedule.parse(str(schedule)) == schedule
    assert schedule.at(starts[-1]) == ps.Policy.parse(policies[-1])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_number_of_a_policy_is_no_step(policy: str) -> None:
    """ "cotangents@8," was taken for the end of a phase."""
    parsed = ps.Policy.parse(policy)
    schedule = Schedule(starts=(0, 7), policies=(policy, "fp32"))
    for text in (str(schedule), f"{policy},@0,fp32@7", f"{parsed},@0,fp32@7"):
        assert Schedule.parse(text) == schedule
        assert Schedule.parse(f"{text},@9").at(9) == parsed


def test_phases() -> None:
    schedule = Schedule.parse("bf16@0, fp16_mixed@3, fp32@5")
    assert [schedule.at(k).name for k in (0, 2, 3, 4, 5, 10**9)] == [
        *("bf16", "bf16", "fp16_mixed", "fp16_mixed", "fp32", "fp32")
    ]
    again = Schedule.parse("bf16@0,fp32@3,@5")
    assert [again.at(k).name for k in range(7)] == ["bf16"] * 3 + ["fp32"] * 2 + ["bf16"] * 2


def test_ramp_gives_each_policy_its_share() -> None:
    schedule = Schedule.parse("ramp[10]:bf16<fp16<fp32")
    names = [schedule.at(k).name for k in range(12)]
    assert names == [["bf16", "fp16", "fp32"][min(2, 3 * k // 10)] for k in range(12)]


@pytest.mark.parametrize(("period", "last"), [(8, 2), (100, 4), (37, 6)])
def test_cycle_follows_the_cosine(period: int, last: int) -> None:
    schedule = Schedule.parse(f"cyclic[{period}]:q3.{{4..{4 + last}}}")
    for step in range(2 * period):
        angle = math.pi * (step % period) / period
        bits = 4 + math.floor(last / 2 * (1 - math.cos(angle)) + 0.5 + 1e-12)
        assert schedule.at(step) == ps.Policy.parse(f"q3.{bits}")


def test_braces_count_together() -> None:
    schedule = Schedule.parse("ramp[4]:p=fp32,fwd=q3.{4..5}_q3.{6..7}_fp32")
    assert [str(p.forward) for p in schedule.policies] == ["q3.4_q3.6_fp32", "q3.5_q3.7_fp32"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bf16", "schedule is 'bf16'; allowed are POLICY@STEP"),
        ("", "schedule is ''"),
        ("bf16@0,", "schedule is"),
        ("c=fp16,scale=dynamic@5", "schedule is"),
        ("bf16@1", "allowed are steps that ascend from 0"),
        ("bf16@0,fp32@0", "allowed are steps that ascend from 0"),
        ("bf16@0,fp32@9,@9", "below the period"),
        ("nope@0", "unknown policy 'nope'"),
        ("ramp[3]:bf16", "ladder is 'bf16'"),
        ("ramp[2]:bf16<fp16<fp32", "steps of a ramp is 2; allowed are integers from 3 on"),
        ("cyclic[2]:q3.{4..8}", "allowed are steps that ascend from 0"),
        ("ramp[9]:q3.{4..900}", "allowed are two to 64 numbers that ascend"),
        ("ramp[9]:p=fp32,fwd=q3.{4..5}_q3.{6..8}_fp32", "braces of the same length"),
    ],
)
def test_wrong_schedules_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as raised:
        Schedule.parse(text)
    assert said in str(raised.value)


def test_a_long_text_without_a_phase_is_refused_at_once() -> None:
    """A search from each of its characters would take minutes; found by `conformance.fuzz`."""
    start = time.process_time()
    for text in ("9" * 100_000, "bf16@" + "9" * 100_000, "bf16@0," + "@" * 100_000):
        with pytest.raises(ValueError, match="schedule is"):
            Schedule.parse(text)
    assert time.process_time() - start < 2
