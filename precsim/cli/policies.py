"""Policies and schedules as `precsim train` is given them."""

from pathlib import Path

from precsim.formats.arguments import shown
from precsim.training.control.schedule import first_policy, schedule_from
from precsim.transform.policy import Policy

WORDS = "docs/explanation/words.md#policies lists keys and values"


def read_policy(text: str) -> Policy:
    """Read a policy: a string, or the name of a TOML file."""
    try:
        return Policy.from_toml(Path(text)) if text.endswith(".toml") else Policy.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; {WORDS}" if "=" in text else str(error)) from error


def read_schedule(text: str, steps: int, argument: str = "--schedule") -> Policy:
    """Read a schedule, of which every phase begins; return its first policy under its name.

    `argument` is what messages call it: an option, or a key of a file.
    """
    try:
        policy = first_policy(text)
    except ValueError as error:
        why = "" if str(error).startswith("schedule is") else f": {error}"
        raise ValueError(
            f"{argument} is {shown(text)}{why}; allowed is POLICY@STEP,POLICY@STEP,..., such as "
            "bf16@0,fp32@500"
        ) from error
    schedule = schedule_from(policy)
    if schedule is not None and schedule.starts[-1] >= steps:
        raise ValueError(
            f"{argument} is {shown(text)}, whose last phase begins at step {schedule.starts[-1]}; "
            f"allowed with {steps} steps are steps below that"
        )
    return policy
