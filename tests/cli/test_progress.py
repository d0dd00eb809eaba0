"""The screen of running trainings: lines of each run, and the time left for all."""

import io

from rich.console import Console
from rich.text import Text

from precsim.cli.progress import Progress, duration, live_screen


class Clock:
    """A clock that one sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_compiling_is_shown_with_its_seconds_then_steps_rate_and_loss() -> None:
    clock = Clock()
    progress = Progress(["fp32", "bf16"], 900, 1, clock)
    assert progress.lines(80) == ["0 of 2 done"]
    with progress.of("fp32") as follow:
        clock.now = 12.4
        assert progress.lines(80) == ["fp32          compiling, 12 s", "0 of 2 done"]
        follow(100, 2.5)
        assert progress.lines(80)[0] == "fp32          step 100 of 900, loss 2.500"
        clock.now = 14.4
        follow(500, 1.25)
        assert progress.lines(80) == [
            "fp32          step 500 of 900, 200 steps/s, loss 1.250",
            "0 of 2 done, about 19 s left",
        ]
        follow(900, 0.5)
        assert progress.lines(80)[0] == "fp32          testing, loss 0.500"
        follow(10, 2.0)  # the run begins again
        assert progress.lines(80)[0] == "fp32          step 10 of 900, loss 2.000"
        clock.now = 20.0
    assert progress.lines(80) == ["1 of 2 done, about 20 s left"]
    with progress.of("bf16"):
        clock.now = 30.0
        assert progress.lines(80)[-1] == "1 of 2 done, about 10 s left"
        clock.now = 99.0
        assert progress.lines(80)[-1] == "1 of 2 done, about 1 s left"
    assert progress.lines(80) == ["2 of 2 done"]


def test_runs_side_by_side_take_less_time() -> None:
    clock = Clock()
    progress = Progress([str(k) for k in range(8)], 10, 2, clock)
    for k in range(2):
        with progress.of(str(k)):
            clock.now += 20
    assert progress.lines(80)[-1] == "2 of 8 done, about 1 min left"


def test_durations() -> None:
    assert [duration(s) for s in (0, 0.1, 59.2, 60, 119, 3599, 3600)] == [
        *("0 s", "1 s", "60 s", "1 min", "2 min", "1 h 0 min", "1 h 0 min"),
    ]


def test_long_names_are_shortened_and_no_line_is_wider_than_the_terminal() -> None:
    name = "fp32,fwd=fp16[rtz]_fp16_fp32->bf16,wgrad=bf16_bf16_fp32,update=bf16:sr"
    for width in (40, 60, 80, 120):
        progress = Progress([name], 10**6, 1, Clock())
        with progress.of(name) as follow:
            follow(123456, 1234.5)
            line = progress.lines(width)[0]
            assert len(line) <= width
            assert line.startswith("fp32,fwd=")
            assert width < 60 or "step 123456 of 1000000" in line


def test_a_terminal_shows_what_is_finished_above_the_runs_and_no_names_as_markup() -> None:
    """Defect: ``[rtz]`` vanished, and ``[/rtz]`` would have ended the run."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    progress = Progress(["bf16[rtz][/rtz]", "fp16"], 40)
    with (
        live_screen(progress, console, lambda: [Text("finished: fp32")]),
        progress.of("bf16[rtz][/rtz]"),
    ):
        pass
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.index("finished: fp32") < text.index("1 of 2 done")
    with live_screen(progress, Console(file=io.StringIO(), width=80)) as nothing:
        assert nothing is None
