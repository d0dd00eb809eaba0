"""`precsim train --checkpoint-every` and `--resume`: a run's own words, in its folder.

run.json is written before the first step. It has all options that decide a result, so that the
folder alone is enough to go on. The checkpoints of each policy lie beside it, in "state".
"""

import argparse
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from precsim.cli import run_directory
from precsim.cli.output import print_note
from precsim.cli.run_directory import OPTIONS
from precsim.formats.arguments import integer, shown
from precsim.training.replay.files import file_name, write_whole
from precsim.training.replay.progress import Checkpoints
from precsim.transform.policy import Policy

STATE = "state"
FILES = {
    OPTIONS: "the options, from which --resume goes on",
    STATE: "the checkpoints of each policy",
}
"""What a run with checkpoints has in its folder, besides the files of any run."""

_FIELDS = {"settings": dict, "policies": dict, "checkpoint_every": int, "provenance": dict}
_ELSEWHERE = ("out", "verify_bits", "compare_bits")
"""Options that make another kind of run, or another folder."""


def option(setting: str) -> str:
    """Return the option of a setting."""
    return f"--{setting.replace('_', '-')}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="store all state every N steps, for --resume; it changes no result (default: off)",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with an interrupted run of --checkpoint-every: its folder, which has its options "
        "(default: none)",
    )


def settings_of(
    args: argparse.Namespace, usual: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the content of run.json, None without --resume, and the settings of the run.

    `args` has None where an option was not given, and gets all settings; `usual` has those by
    default.

    Raises
    ------
    FileNotFoundError
        If no run with checkpoints has begun in the folder.
    ValueError
        If run.json is damaged, or an option contradicts it or another one.
    """
    begun = None if args.resume is None else _begun(args, usual)
    if args.checkpoint_every is not None:
        integer(args.checkpoint_every, "--checkpoint-every", 1)
        if args.verify_bits is not None:
            raise ValueError(
                "--verify-bits is given with --checkpoint-every; allowed is one of them"
            )
    given = {name: x for name in usual if (x := getattr(args, name)) is not None}
    settings = usual | given if begun is None else begun["settings"]
    vars(args).update(settings)
    return begun, settings


def _begun(args: argparse.Namespace, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of run.json; refuse options that contradict it."""
    path = args.resume / OPTIONS
    if not path.is_file():
        raise FileNotFoundError(
            f"--resume is {args.resume}, which has no {OPTIONS}; allowed are folders of runs with "
            "--checkpoint-every N"
        )
    for name in _ELSEWHERE:
        if getattr(args, name) is not None:
            raise ValueError(f"--resume is given with {option(name)}; allowed is one of them")
    found = _checked(path, usual)
    for name, stored in found["settings"].items():
        given = getattr(args, name)
        if given is not None and given != stored:
            raise ValueError(
                f"{option(name)} is {shown(given)}; the run in {args.resume} has {shown(stored)} "
                "(leave it out, or begin another run)"
            )
    return found


def _checked(path: Path, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of run.json, which may be anything."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        for name, kind in _FIELDS.items():
            if type(found[name]) is not kind:
                raise ValueError(f"its {name} is {shown(found[name])}")
        if found["settings"].keys() != usual.keys():
            raise ValueError(f"its settings are not {', '.join(usual)}")
        for name, value in found["settings"].items():
            if usual[name] is not None and type(value) is not type(usual[name]):
                raise ValueError(f"its {name} is {shown(value)}")
        integer(found["checkpoint_every"], "its checkpoint_every", 1)
        if not found["policies"]:
            raise ValueError("it has no policies")
        found["policies"] = [_named(name, text) for name, text in found["policies"].items()]
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it has no {error}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return found


def _named(name: str, text: Any) -> Policy:
    """Return the policy of a text under the name that it had in the run."""
    return replace(Policy.parse(text), name=name)


def same_policies(
    args: argparse.Namespace, given: Sequence[Policy], begun: Mapping[str, Any]
) -> list[Policy]:
    """Return the policies of the run; refuse others, where --policy is given."""
    stored: list[Policy] = begun["policies"]
    texts = [*(args.policy or ()), *(args.schedule or ())]
    if texts and {policy.name: policy for policy in given} != {p.name: p for p in stored}:
        raise ValueError(
            f"--policy is {' '.join(texts)}; the run in {args.resume} has "
            f"{' '.join(policy.name for policy in stored)} (leave it out, or begin another run)"
        )
    return stored


@contextmanager
def going_on(
    args: argparse.Namespace,
    folder: Path,
    begun: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    policies: Sequence[Policy],
    about: dict[str, Any],
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Write what the run is to go on from; yield steps between checkpoints and provenance."""
    every = args.checkpoint_every
    with _alone(folder), _notes():
        if begun is not None:
            every = every or begun["checkpoint_every"]
            first = begun["provenance"]
            about = {**first, "resumed": [*first.get("resumed", []), about]}
            _clear(folder, policies)
        _write(folder, settings, policies, every, about)
        yield every, about


def _write(
    folder: Path,
    settings: Mapping[str, Any],
    policies: Sequence[Policy],
    every: int,
    provenance: Mapping[str, Any],
) -> None:
    """Write run.json."""
    data_dir = settings["data_dir"] and str(Path(settings["data_dir"]).absolute())
    content = {
        "settings": {**settings, "data_dir": data_dir},
        "policies": {policy.name: str(policy) for policy in policies},
        "checkpoint_every": every,
        "provenance": provenance,
    }
    write_whole(folder / OPTIONS, json.dumps(content, indent=2) + "\n")


def checkpoints_of(folder: Path, every: int | None, policy: Policy) -> Checkpoints | None:
    """Return where a policy's state is kept, every so many steps; None for nowhere."""
    if every is None:
        return None
    return Checkpoints(folder=folder / STATE / file_name(policy.name), every=every)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuse a folder that another process writes to. A process that is killed leaves it free."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{folder} is in use by another run of precsim train") from None
        yield
    finally:
        os.close(handle)


def _clear(folder: Path, policies: Sequence[Policy]) -> None:
    """Take away what is made anew from the checkpoints: summary.json first, then the others."""
    (folder / "summary.json").unlink(missing_ok=True)
    (folder / "metrics.csv").unlink(missing_ok=True)
    for policy in policies:
        (folder / run_directory.weights_file(policy)).unlink(missing_ok=True)


@contextmanager
def _notes() -> Iterator[None]:
    """Say in one line what a checkpoint is warned of."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def told(
            message: Warning | str, category: type[Warning], *place: Any, **options: Any
        ) -> None:
            if category is UserWarning:
                print_note(str(message))
            else:
                show(message, category, *place, **options)

        warnings.showwarning = told
        yield
