"""One input under limits of time and memory, and what is wrong if something is."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from conformance.fuzzing.parser import Parser

MOST_SECONDS = 1.0
"""Of the processor, for one input."""
MOST_BYTES = 100 << 20
"""Of memory, for one input."""
_LONGEST_MESSAGE = 4_000


class TooLongError(BaseException):
    """The time of an input is over; no `except Exception` on the way stops it."""


def fault_of(parser: Parser, given: Any) -> str | None:
    """Return what is wrong with what a parser does with an input; None if nothing is."""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        found = parser.read(given)
        if parser.written is None:
            return None
        text = parser.written(found)
        if text is None:
            return None
        try:
            again = parser.read(text)
        except parser.refusals as error:
            return f"is read, and written as {text!r:.200}, which is refused: {error}"
        if again != found or parser.written(again) != text:
            return f"is read, and written as {text!r:.200}, which is read as something else"
    except parser.refusals as error:
        return _fault_of_message(str(error))
    except TooLongError:
        return f"takes more than {MOST_SECONDS:g} s"
    except MemoryError:
        return f"takes more than {MOST_BYTES >> 20} MiB"
    except Exception as error:  # noqa: BLE001 (any other exception is the fault that is looked for)
        return f"raises {type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def _fault_of_message(message: str) -> str | None:
    if len(message.splitlines()) != 1:
        return f"is refused in {len(message.splitlines())} lines: {message[:200]!r}"
    if len(message) > _LONGEST_MESSAGE:
        return f"is refused in {len(message)} characters"
    return None


def begin() -> None:
    """Let time that is over raise `TooLongError` in this process."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    signal.signal(signal.SIGPROF, over)


def limit_memory() -> None:
    """Allow this process as much more memory as one input may take, from what it has now."""
    import resource

    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, most))


def free_memory() -> None:
    """Lift the limit."""
    import resource  # which Windows lacks

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
