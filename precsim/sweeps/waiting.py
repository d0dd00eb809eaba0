"""The cells that wait, in an order that lets workers use again what they have; the time left."""

from collections import Counter, deque
from collections.abc import Iterable

from precsim.sweeps.cell import Cell


class Waiting:
    """Cells that wait for a worker.

    A group (one model, its settings, one seed) stays with one worker, which trains its reference
    once. The groups of a block (all seeds) have the same programs, so a worker stays in its block
    as long as that has groups, and goes then where the fewest workers are. A program that one
    worker compiles for the first time is none that another one begins with, as long as there are
    others: later it is only loaded. Where no group is left, a worker helps with the longest one.

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
        self._free: dict[str, deque[str]] = {}
        """Block -> its groups that no worker has."""
        self._at: dict[str, tuple[str, str]] = {}
        """Worker -> its block and its group."""
        self._compiled: set[str] = set()
        self._compiling: set[str] = set()
        for cell in cells:
            if cell.group not in self._groups:
                self._free.setdefault(cell.block, deque()).append(cell.group)
            self._groups.setdefault(cell.group, []).append(cell)

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._groups.values()))

    def next(self, worker: str) -> Cell | None:
        """Return what a worker does next; None if nothing waits."""
        group = self._group_of(worker)
        if group is None:
            return None
        cells = self._groups[group]
        cell = next((c for c in cells if c.program not in self._compiling), cells[0])
        cells.remove(cell)
        if not cells:
            del self._groups[group]
        if cell.program not in self._compiled:
            self._compiling.add(cell.program)
        return cell

    def _group_of(self, worker: str) -> str | None:
        """Return the group that a worker has, or gets; None if nothing waits."""
        block, group = self._at.get(worker, ("", ""))
        if group in self._groups:
            return group
        if not self._free.get(block):
            crowd = Counter(at for at, _ in self._at.values())
            free = (name for name, groups in self._free.items() if groups)
            block = min(free, key=lambda name: crowd[name], default="")
        if block:
            group = self._free[block].popleft()
            self._at[worker] = block, group
            return group
        return max(self._groups, key=lambda name: len(self._groups[name]), default=None)

    def ended(self, cell: Cell) -> None:
        """Note that a run has ended: its program is compiled."""
        self._compiled.add(cell.program)
        self._compiling.discard(cell.program)

    def died(self, cell: Cell, worker: str, *, again: bool) -> None:
        """Note that a worker is gone; its cell waits again, in front of its group, or does not."""
        self._compiling.discard(cell.program)
        if again:
            self._groups.setdefault(cell.group, []).insert(0, cell)
        block, group = self._at.pop(worker, ("", ""))
        if group in self._groups:
            self._free[block].appendleft(group)


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
