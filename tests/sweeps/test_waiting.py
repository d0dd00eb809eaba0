"""The order of cells: groups stay together, programs are compiled once, the dead are replaced."""

from collections import Counter
from dataclasses import replace

from precsim.sweeps.cell import Cell
from precsim.sweeps.waiting import Times, Waiting
from tests.sweeps.made import cell_of

POLICIES = ("fp32", "bf16", "fp16", "bf16_sr")
CELLS = [cell_of(policy, seed) for seed in range(6) for policy in POLICIES]


def drain(waiting: Waiting, workers: tuple[str, ...]) -> dict[str, list[str]]:
    """Let workers take turns; return the labels of what each has made."""
    found: dict[str, list[str]] = {worker: [] for worker in workers}
    while len(waiting):
        for worker in workers:
            if (cell := waiting.next(worker)) is not None:
                found[worker].append(cell.label)
                waiting.ended(cell)
    return found


def test_each_cell_is_made_once_and_a_group_by_one_worker() -> None:
    found = drain(Waiting(CELLS), ("a", "b"))
    made = Counter(label for labels in found.values() for label in labels)
    assert made == Counter(cell.label for cell in CELLS)
    seeds = [{label.rpartition(" ")[2] for label in labels} for labels in found.values()]
    assert not seeds[0] & seeds[1]


def test_worker_stays_in_a_block_and_leaves_for_the_emptiest_one() -> None:
    rates = [replace(cell.config, learning_rate=rate) for rate in (0.1, 0.2) for cell in CELLS]
    waiting = Waiting(map(Cell, rates))
    blocks: dict[str, list[float]] = {"a": [], "b": []}
    while len(waiting):
        for worker, made in blocks.items():
            cell = waiting.next(worker)
            assert cell is not None
            made.append(cell.config.learning_rate)
            waiting.ended(cell)
    assert blocks == {"a": [0.1] * 24, "b": [0.2] * 24}


def test_idle_worker_helps() -> None:
    found = drain(Waiting(CELLS[:4]), ("a", "b"))
    assert {worker: len(labels) for worker, labels in found.items()} == {"a": 2, "b": 2}


def test_program_is_not_compiled_twice_at_the_same_time() -> None:
    waiting = Waiting(CELLS)
    first = [waiting.next(worker) for worker in "abcd"]
    assert len({cell.program for cell in first if cell is not None}) == 4


def test_cell_of_a_dead_worker_comes_first_in_its_group() -> None:
    waiting = Waiting(CELLS)
    cell = waiting.next("a")
    assert cell is not None
    waiting.died(cell, "a", again=True)
    assert len(waiting) == len(CELLS)
    assert waiting.next("c") == cell
    waiting.died(cell, "c", again=False)
    assert len(waiting) == len(CELLS) - 1
    assert Waiting([]).next("a") is None


def test_times_are_those_of_the_same_program_or_the_same_model() -> None:
    times = Times(CELLS)
    assert times.left() is None
    times.learn(CELLS[0], 10.0)
    assert times.left() == 240
    times.learn(CELLS[1], 4.0)
    assert times.left() == 6 * 10 + 6 * 4 + 12 * 7
    times.ended(CELLS[1])
    assert times.left() == 6 * 10 + 5 * 4 + 12 * 7
