"""One case in a process of its own, which prints JSON.

``python -m benchmarks.worker CASE SIZE [quick] [peers] [processor_time] [synchronous]``
"""

import json
import os
import sys
import time
from typing import Any

from benchmarks import catalogue
from benchmarks.case import Case, Contender, Goal, Setting, SkipError, Wrong
from benchmarks.timing import interleave, paired_ratio


def measure(case: Case, setting: Setting) -> dict[str, Any]:
    """Build, time and check the contenders of a case; return rows of the table for JSON."""
    try:
        found = case.build(setting)
    except SkipError as reason:
        return {"rows": [], "skipped": {case.name: str(reason)}}
    here = {name: item for name, item in found.items() if isinstance(item, Contender)}
    skipped = {
        f"{case.name}: {name}": item for name, item in found.items() if isinstance(item, str)
    }
    goals = [*case.goals, *_goals_of_peers(case, here)]
    named = {name for goal in goals for name in (goal.measured, goal.against)}
    here = {name: item for name, item in here.items() if name in named}
    rounds, seconds = (15, 0.002) if setting.quick else (31, 0.005)
    times = interleave(
        {name: item.run for name, item in here.items()},
        rounds=rounds,
        sample_seconds=seconds,
        clock=time.process_time if setting.processor_time else time.perf_counter,
    )
    wrong = {name: item.check() for name, item in here.items() if item.check is not None}
    rows = [
        {
            "own": not here[goal.measured].is_peer,
            **_row(goal, times, wrong.get(goal.measured), setting),
        }
        for goal in goals
        if goal.measured in here and goal.against in here
    ]
    return {"rows": rows, "skipped": skipped, "seconds": times}


def _goals_of_peers(case: Case, here: dict[str, Contender]) -> list[Goal]:
    main = case.goals[0].measured
    return [Goal(measured=name, against=main) for name, item in here.items() if item.is_peer]


def _row(
    goal: Goal, times: dict[str, list[float]], wrong: Wrong | None, setting: Setting
) -> dict[str, Any]:
    ratio = paired_ratio(times[goal.measured], times[goal.against])
    middle = sorted(times[goal.measured])[len(times[goal.measured]) // 2]
    return {
        "measured": goal.measured,
        "against": goal.against,
        "size": setting.size,
        "nanoseconds": middle / setting.size * 1e9,
        "ratio": ratio.median,
        "low": ratio.low,
        "high": ratio.high,
        "goal": goal.at_most,
        "reached": None if goal.at_most is None else bool(ratio.median <= goal.at_most),
        "wrong": None if wrong is None else wrong.wrong,
        "compared": None if wrong is None else wrong.compared,
        "rounds": min(len(times[goal.measured]), len(times[goal.against])),
    }


def main(words: list[str]) -> None:
    """Measure the case that the words name; the parent process reads what is printed."""
    case = catalogue.find(words[0])[0]
    options = dict.fromkeys(words[2:], True)
    setting = Setting(size=int(words[1]), **options)
    if setting.synchronous:
        import jax

        jax.config.update("jax_cpu_enable_async_dispatch", False)  # type: ignore[no-untyped-call]
    # Peers print at will: the answer goes to the real standard output, all else to standard error.
    answer = os.dup(1)
    os.dup2(2, 1)
    outcome = measure(case, setting)
    outcome["device"] = _device()
    text = json.dumps(outcome)
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        file.write(text)


def _device() -> str:
    jax = sys.modules.get("jax")
    if jax is None:
        return ""
    first = jax.devices()[0]
    return f"{first.platform}: {first.device_kind}"


if __name__ == "__main__":
    main(sys.argv[1:])
