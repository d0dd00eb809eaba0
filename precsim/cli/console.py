"""The console of tables and progress bars: what users write is text to it."""

from typing import NoReturn

from rich.console import Console


class PlainConsole(Console):
    """A console to which ``[rtz]`` and ``:sr:`` are text, not markup and not pictures."""

    def __init__(self, *, stderr: bool = False, highlight: bool = True, wraps: bool = True) -> None:
        """Write to standard output, or to standard error."""
        super().__init__(
            stderr=stderr, markup=False, emoji=False, highlight=highlight, soft_wrap=not wraps
        )

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to `main`, which treats all commands alike."""
        raise BrokenPipeError
