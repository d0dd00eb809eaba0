"""Random inputs for every parser and reader of precsim: none may crash, hang or take much memory.

    python -m conformance.fuzz --inputs 100000               # all of them, each its share
    python -m conformance.fuzz policies idx --seed 7
    python -m conformance.fuzz policies --seed 7 --first 1234 --inputs 1   # one input again

Each input is refused in one line by an exception that is documented, or accepted; what is accepted
as text and written again is read as the same. An input has 1 s of the processor and 100 MiB. It
follows from the seed, the parser's name and its number. Prints one row a parser, and each fault
with its input; exit status 1 if there is one.
"""

import multiprocessing
import random
import sys
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance.command_line import CommandLine
from conformance.fuzzing import limits
from conformance.fuzzing.files import FILES
from conformance.fuzzing.parser import Parser
from conformance.fuzzing.texts import TEXTS

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

PARSERS: dict[str, Parser] = {**TEXTS, **FILES}
_PIECE = 2_000
"""Inputs of one process, after which the next one starts with fresh memory."""
_INPUTS = "of all parsers together, by their shares; each reads at least one (default: %(default)s)"
_SHOWN = 5
"""Faults of one parser that are printed."""


class Fault(NamedTuple):
    """What went wrong with one input."""

    number: int
    given: str
    said: str


class Tried(NamedTuple):
    """What came of some inputs of one parser."""

    inputs: int
    accepted: int
    faults: list[Fault]

    def with_more(self, more: "Tried") -> "Tried":
        """Return this and what came of other inputs."""
        faults = self.faults + more.faults
        return Tried(self.inputs + more.inputs, self.accepted + more.accepted, faults)


def main(argv: list[str]) -> int:
    """Try inputs on each parser that is named, on all by default."""
    parser = CommandLine("conformance.fuzz", __doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    parser.add_argument("--inputs", type=int, default=10_000, help=_INPUTS)
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input (default: 0)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes at a time (default: 1)")
    args = parser.read(argv, inputs=1, first=0, workers=1)
    parser.check("parser", args.parsers, PARSERS)
    names = list(dict.fromkeys(args.parsers)) or list(PARSERS)
    total = sum(PARSERS[name].share for name in names)
    faults = inputs = 0
    for name in names:
        count = -(-args.inputs * PARSERS[name].share // total)
        start = time.perf_counter()
        found = tried(name, args.seed, args.first, count, args.workers)
        seconds = time.perf_counter() - start
        print(
            f"{name:16} {found.inputs:8} inputs, {found.accepted:8} accepted, "
            f"{len(found.faults):4} faults, {seconds:.0f} s",
            flush=True,
        )
        for fault in found.faults[:_SHOWN]:
            print(f"  {name} --seed {args.seed} --first {fault.number}: {fault.given} {fault.said}")
        faults, inputs = faults + len(found.faults), inputs + found.inputs
    print(f"{inputs} inputs, {faults} faults")
    return 1 if faults else 0


def tried(name: str, seed: int, first: int, count: int, workers: int = 1) -> Tried:
    """Try inputs in processes of their own; one that dies is a fault of the input it had."""
    pieces = [(at, min(_PIECE, first + count - at)) for at in range(first, first + count, _PIECE)]
    found = Tried(0, 0, [])
    for at in range(0, len(pieces), workers):
        running = [_Process(name, seed, *piece) for piece in pieces[at : at + workers]]
        for each in running:
            found = found.with_more(each.result())
    return found


class _Process:
    """Inputs that a process of its own tries."""

    def __init__(self, name: str, seed: int, first: int, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self.first, self.count = first, count
        self.number: Synchronized[int] = context.Value("q", first)
        self.ours, theirs = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_send, args=(name, seed, first, count, self.number, theirs)
        )
        self.process.start()
        theirs.close()

    def result(self) -> Tried:
        """Wait for the process."""
        try:
            found: Tried = self.ours.recv()
        except EOFError:
            self.process.join()
            fault = Fault(self.number.value, "", f"ends the process: {self.process.exitcode}")
            found = Tried(self.number.value - self.first + 1, 0, [fault])
        self.process.join()
        return found


def _send(name: str, seed: int, first: int, count: int, number: Any, pipe: Any) -> None:
    pipe.send(try_inputs(name, seed, first, count, number))


def try_inputs(name: str, seed: int, first: int, count: int, number: Any = None) -> Tried:
    """Try inputs in this process."""
    accepted, faults = 0, []
    limits.begin()
    for fault in attempts(PARSERS[name], name, seed, first, count, number):
        if isinstance(fault, Fault):
            faults.append(fault)
        else:
            accepted += fault
    return Tried(count, accepted, faults)


def attempts(
    parser: Parser, name: str, seed: int, first: int, count: int, number: Any
) -> Iterator[Fault | bool]:
    """Yield for each input its fault, or whether it is accepted."""
    is_accepted = False

    def read(given: Any) -> Any:
        nonlocal is_accepted
        found = parser.read(given)
        is_accepted = True
        return found

    watched = Parser(read=read, make=parser.make, written=parser.written, refusals=parser.refusals)
    warnings.simplefilter("ignore")
    for k in range(first, first + count):
        if number is not None:
            number.value = k
        given, is_accepted = parser.make(input_random(name, seed, k)), False
        if k == first:
            limits.fault_of(watched, given)  # which imports what it needs
            limits.begin()
        if (k - first) % 100 == 0:
            limits.limit_memory()
        try:
            said = limits.fault_of(watched, given)
        except limits.TooLongError:  # between its end and that of the clock
            said = None
        yield is_accepted if said is None else Fault(k, repr(given)[:300], said)
    limits.free_memory()


def input_random(name: str, seed: int, number: int) -> random.Random:
    """Return the random numbers of one input."""
    return random.Random(f"{seed} {name} {number}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
