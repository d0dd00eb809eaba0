"""The list of all cases: to add some, yield them from a module and name it here."""

import difflib

from benchmarks import (
    analysis,
    calls,
    compilation,
    emulation,
    files,
    matmuls,
    native,
    operations,
    presets,
    roundings,
    startup,
    sweeps,
    training,
    what_if,
)
from benchmarks.case import Case


def all_cases() -> list[Case]:
    """Return every case, in the order of the table."""
    return [
        *roundings.cases(),
        *operations.cases(),
        *calls.cases(),
        *matmuls.cases(),
        *training.cases(),
        *native.cases(),
        *compilation.cases(),
        *presets.cases(),
        *emulation.cases(),
        *analysis.cases(),
        *what_if.cases(),
        *files.cases(),
        *sweeps.cases(),
        *startup.cases(),
    ]


def find(word: str) -> list[Case]:
    """Return the case of that name, or the cases of that group ("nearest", "modes/e4m3")."""
    cases = all_cases()
    found = [case for case in cases if case.name == word]
    found = found or [case for case in cases if case.name.startswith(f"{word.removesuffix('/')}/")]
    if found:
        return found
    names = [case.name for case in cases]
    groups = list(dict.fromkeys(name.partition("/")[0] for name in names))
    near = difflib.get_close_matches(word, [*groups, *names], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"groups are {', '.join(groups)}"
    raise LookupError(f"unknown case {word!r}; {hint}")
