"""The cells that wait, in an order that lets workers use again what they have; the time left."""

from collections import Counter
from collections.abc import Iterable

from precsim.sweeps.cell import Cell


class Waiting:
    """Cells that wait for a worker.

    A group (one model, its settings, one seed) stays with one worker, which trains its reference
    once. Groups that follow each other have the same programs, which each worker keeps. A program
    that one worker compiles for the first time is none that another one begins with, as long as
    there are others: later it is only loaded. A worker without a group takes the next one, and
    helps with the longest one where none is left.

    Parameters
    ----------
    cells : iterable of Cell
        In the order of the grid.

    Examples
    --------
    >>> from precsim.training.config import TrainConfig
    >>> configs = [TrainConfig(policy=p, seed=s) for s in (0, 1) for p in ("fp32", "bf16")]
    >>> waiting = Waiting(map(Cell, configs))
    >>> [waiting.next(worker).label for worker in ("a", "b")], len(waiting)
    (['fp32, mlp, seed 0', 'bf16, mlp, seed 1'], 2)
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._groups: dict[str, list[Cell]] = {}
        self._at: dict[str, str] = {}
        self._compiled: set[str] = set()
        self._compiling: dict[str, str] = {}
        for cell in cells:
            self._groups.setdefault(cell.group, []).append(cell)

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._groups.values()))

    def next(self, worker: str) -> Cell | None:
        """Return what a worker does next; None if nothing waits."""
        group = self._at.get(worker)
        if group not in self._groups:
            taken = set(self._at.values())
            group = next((name for name in self._groups if name not in taken), None)
        if group is None:
            group = max(self._groups, key=lambda name: len(self._groups[name]), default=None)
        if group is None:
            return None
        self._at[worker] = group
        cells = self._groups[group]
        cell = next((c for c in cells if c.program not in self._compiling), cells[0])
        cells.remove(cell)
        if not cells:
            del self._groups[group]
        if cell.program not in self._compiled:
            self._compiling.setdefault(cell.program, worker)
        return cell

    def ended(self, cell: Cell) -> None:
        """Note that a run has ended: its program is compiled."""
        self._compiled.add(cell.program)
        self._compiling.pop(cell.program, None)

    def died(self, cell: Cell, worker: str, *, again: bool) -> None:
        """Note that a worker is gone; its cell waits again, in front of its group, or does not."""
        self._at.pop(worker, None)
        self._compiling.pop(cell.program, None)
        if again:
            self._groups.setdefault(cell.group, []).insert(0, cell)


class Times:
    """What runs took, and what the others will take: seconds of a clock that only goes on.

    Parameters
    ----------
    cells : iterable of Cell
        The runs that are to be made.

    Examples
    --------
    >>> from precsim.training.config import TrainConfig
    >>> cells = [Cell(TrainConfig(policy=p)) for p in ("fp32", "bf16", "fp16")]
    >>> times = Times(cells)
    >>> times.left(), times.learn(cells[0], 3.0), times.ended(cells[0]), times.left()
    (None, None, None, 6.0)
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._left = Counter((cell.program, cell.block) for cell in cells)
        self._known: dict[str, tuple[float, int]] = {}

    def learn(self, cell: Cell, seconds: float) -> None:
        """Note what a run took."""
        for name in (cell.program, cell.block, ""):
            total, count = self._known.get(name, (0.0, 0))
            self._known[name] = (total + seconds, count + 1)

    def ended(self, cell: Cell) -> None:
        """Note that a run is not to be made any more."""
        self._left[cell.program, cell.block] -= 1

    def left(self) -> float | None:
        """Return what is left takes, one run after the other; None as long as nothing is known."""
        if not self._known:
            return None
        return sum(count * self._mean(*names) for names, count in self._left.items())

    def _mean(self, *names: str) -> float:
        name = next(each for each in (*names, "") if each in self._known)
        total, count = self._known[name]
        return total / count
