"""`precsim reproduce`: what it prints and returns, parameters as options, files of a user."""

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

import experiments
from experiments.__main__ import main as main_of_experiments
from precsim.analysis.figures.definition import load
from precsim.cli.experiments_package import figure_names, find_figure
from precsim.cli.main import main
from tests.cli.figure_of_a_user import FIGURE

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return a function that writes a figure, by default ./mine.py, with its text replaced."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.txt").write_text("1")

    def make(name: str = "mine.py", **replaced: str) -> Path:
        text = FIGURE
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    yield make
    for name in list(sys.modules):
        if name.startswith("experiments.g9"):
            del sys.modules[name]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line with which a command is refused."""
    assert main(["reproduce", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def test_every_published_figure_has_its_parts() -> None:
    assert {"g02_harmonic", "g03_euler"} <= set(figure_names())
    for name in figure_names():
        figure = load(f"experiments.{name}")
        assert {"CITATION", "CLASS", "PUBLISHED", "TITLE", "check", "plot"} <= set(
            vars(figure.module)
        )
        assert figure.module.__doc__


def test_words_for_a_figure() -> None:
    assert {find_figure(word) for word in ("g03_euler", "g03", "G3", "3")} == {"g03_euler"}
    with pytest.raises(ValueError, match=r"unknown figure 'g03_eular'; did you mean 'g03_euler'"):
        find_figure("g03_eular")
    with pytest.raises(ValueError, match="known are g01_formats, g02_harmonic"):
        find_figure("zebra")


def test_without_words_it_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in figure_names())
    assert "--data-dir" in printed
    assert "B mechanism" in printed
    assert re.search(r"g06_error_growth .* 12 s  +200 s ", printed)


@pytest.mark.parametrize(
    ("factor", "grade", "status"), [("1.0", "A", 0), ("3.0", "A", 1), ("3.0", "C", 0)]
)
def test_exit_status_and_table(
    write: Write, capsys: pytest.CaptureFixture[str], factor: str, grade: str, status: int
) -> None:
    write(**{"factor=1.0": f"factor={factor}", 'grade="A"': f'grade="{grade}"'})
    assert main(["reproduce", "mine.py"]) == status
    printed = capsys.readouterr().out
    assert ("2/2" if factor == "1.0" else "1/2") in printed
    assert ("Numbers that do not match" in printed) is (factor == "3.0")
    assert "Nobody, 2026" in printed
    assert Path("figures/mine/figure.svg").exists()


def test_parameters_are_options(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    words = ("--factor", "-2.5e-1", "--spec", "fp16", "--lengths", "3", "4")
    assert main(["reproduce", "mine.py", *words]) == 0
    captured = capsys.readouterr()
    assert "own parameters" in captured.out
    text = " ".join(captured.out.split())
    assert (
        "mine has own parameters (factor = -0.25, spec = fp16, lengths = (3, 4)): not compared with "
        "the published numbers" in text
    )
    assert [path.name for path in Path("figures").iterdir()] == [
        "mine,factor=-0.25,spec=fp16,lengths=3+4"
    ]
    assert main(["reproduce", "mine.py", "--factor", "1"]) == 0  # the default
    assert "2/2" in capsys.readouterr().out


def test_help_lists_the_parameters(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert main(["reproduce", "mine.py", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--factor X What one is multiplied by (default: 1.0)" in printed
    assert "--lengths N [N ...] (default: 1 2)" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--factor", "two"), "argument --factor: 'two' is given; allowed are finite numbers"),
        (("--factor", "inf"), "argument --factor: 'inf' is given; allowed are finite numbers"),
        (("--spec", "e4m9"), "argument --spec: unknown format 'e4m9'; did you mean"),
        (("--lengths", "1", "2.5"), "argument --lengths: '2.5' is given; allowed are integers"),
        (("--facter", "2"), "unrecognized arguments: --facter 2; did you mean '--factor'?"),
        (("--jobs", "0"), "--jobs is 0; allowed are integers from 1 on"),
        (("--width", "4"), "--width is 4.0; allowed are numbers from 5 to 100"),
        (("--data-dir", "nowhere"), "--data-dir is 'nowhere'; allowed are folders"),
        (("--data-dir", ""), "--data-dir is ''; allowed are folders"),
        (("--out", ""), "--out is ''; allowed are folders"),
        (("--out", "input.txt"), "--out is 'input.txt'; allowed are folders"),
    ],
)
def test_bad_options_are_one_line(
    words: tuple[str, ...], message: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    assert message in refused(capsys, "mine.py", *words)
    assert not Path("figures").exists()


def test_a_parameter_named_like_an_option(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(factor="width")
    assert "mine: compute has the parameter 'width', which is an option" in refused(
        capsys, "mine.py"
    )


def test_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "g03_eular") == (
        "precsim: error: unknown figure 'g03_eular'; did you mean 'g03_euler'?\n"
    )
    assert "there is no file nowhere.py" in refused(capsys, "nowhere.py")


def test_a_broken_figure_does_not_stop_the_others(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    write("broken.py", **{"np.float64(factor)": "1 / 0"})
    assert main(["reproduce", "broken.py", "mine.py"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "precsim: error: broken.py: ZeroDivisionError: division by zero\n"
    assert "2/2" in captured.out
    assert main(["--traceback", "reproduce", "broken.py"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [(), ("--jobs", "2")])
def test_a_figure_that_exits_is_one_that_failed(
    jobs: tuple[str, ...], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: sys.exit(0) in a figure ended the command, with status 0."""
    write()
    write("early.py", **{"import numpy as np": "import numpy as np\nraise SystemExit(0)"})
    write("late.py", **{"np.float64(factor)": "exec('raise SystemExit(\\'bye\\')')"})
    write("process.py", **{"np.float64(factor)": "__import__('os')._exit(0)"})
    names = ("early.py", "late.py", *(("process.py",) if jobs else ()), "mine.py")
    assert main(["reproduce", *names, *jobs]) == 1
    captured = capsys.readouterr()
    expected = {
        "precsim: error: early.py: the file exits with 0; a figure has to go on",
        "precsim: error: late: compute exits with 'bye'; a figure has to go on",
    }
    if jobs:
        expected.add("precsim: error: process.py: its process ended with exit code 0")
    assert set(captured.err.splitlines()) == expected
    assert "2/2" in captured.out


def test_a_file_that_fails_at_once_is_one_line(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("mine.py", **{"import numpy as np": "1 / 0"})
    assert refused(capsys, "mine.py") == (
        "precsim: error: mine.py: ZeroDivisionError: division by zero\n"
    )
    write("mine.py", **{"import numpy as np": "raise SystemExit('bye')"})
    assert refused(capsys, "mine.py") == (
        "precsim: error: mine.py: the file exits with 'bye'; a figure has to go on\n"
    )


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("raise ValueError", "mine.py: ValueError"),
        ("raise ValueError('\\x1b[31mred')", "mine.py: \\x1b[31mred"),
        ("return 3", "mine: compute returned 3; allowed is a dict of arrays"),
    ],
)
def test_what_a_figure_raises_is_shown_once_and_visibly(
    code: str, line: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(**{"    log = Path": f"    {code}\n    log = Path"})
    assert main(["--traceback", "reproduce", "mine.py"]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == f"precsim: error: {line}"
    assert "\x1b" not in error


def test_tables_show_escape_sequences(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(**{'"A test", "Nobody, 2026"': '"A \\x1b[31m test", "Nobody \\x1b[2J"'})
    assert main(["reproduce", "mine.py"]) == 0
    assert main(["reproduce", "mine.py", "--full"]) == 0
    capsys.readouterr()
    assert main(["reproduce", "mine.py"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[2J" in printed
    assert "(kept, full)" in printed


@pytest.mark.parametrize("words", [("--full",), ("--n", "5"), ("--jobs", "2"), ("--out", "x")])
def test_options_alone_ask_for_a_name(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: --full alone computed everything for hours."""
    assert f"a NAME is missing before {words[0]}; allowed are figures" in refused(capsys, *words)


def test_files_of_others_are_kept(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    theirs = Path("figures/mine/figure.svg")
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    assert main(["reproduce", "mine.py"]) == 1
    assert "holds files, but no provenance.json of a figure" in capsys.readouterr().err
    assert theirs.read_text() == "theirs"


def test_equal_names_are_refused(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """Defect: the second file overwrote the results of the first."""
    Path("other").mkdir()
    mine, other = write(), write("other/mine.py")
    assert "mine.py and other/mine.py would both be recorded as mine" in refused(
        capsys, "mine.py", "other/mine.py"
    )
    write("g03_euler.py")
    assert "the published g03_euler and g03_euler.py would both be recorded as g03" in refused(
        capsys, "g03", "g03_euler.py"
    )
    assert not Path("figures").exists()
    assert main(["reproduce", "mine.py", str(mine), "./mine.py"]) == 0  # one file
    assert main(["reproduce", str(other)]) == 1
    error = capsys.readouterr().err
    assert "figures/mine was recorded from '../../mine.py', not from '../../other/mine.py'" in error


def test_an_own_file_named_like_a_published_figure(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write("g97_test.py").parent
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(folder)])
    monkeypatch.setattr("precsim.cli.reproduce.find_figure", lambda _: "g97_test")
    assert main(["reproduce", "g97"]) == 0
    assert (
        '"source": "experiments.g97_test"' in Path("figures/g97_test/provenance.json").read_text()
    )
    assert main(["reproduce", "g97_test.py"]) == 1
    assert "was recorded from 'experiments.g97_test', not from" in capsys.readouterr().err


def test_an_interruption_keeps_and_shows_what_is_finished(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    write("stopped.py", **{"np.float64(factor)": "exec('raise KeyboardInterrupt')"})
    write("later.py")
    assert main(["reproduce", "mine.py", "stopped.py", "later.py"]) == 130
    captured = capsys.readouterr()
    assert captured.err == "precsim: error: interrupted\n"
    assert "2/2" in captured.out
    assert [path.name for path in Path("figures").iterdir()] == ["mine"]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_an_interruption_of_the_main_process_ends_the_others(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: SIGINT to the main process alone waited for all that was being computed."""
    for name in ("long1.py", "long2.py"):
        write(name, **{"np.float64(factor)": "__import__('time').sleep(60)"})

    def interrupt() -> None:
        while not Path("runs.txt").exists():  # a figure has begun
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    # A command that a shell starts in the background ignores SIGINT, and so do its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        assert main(["reproduce", "long1.py", "long2.py", "--jobs", "2"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "precsim: error: interrupted\n"
    assert not multiprocessing.active_children()


def test_a_figure_without_published_numbers_is_fine(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(**{"return [two, ": "return [] and [two, "})
    assert main(["reproduce", "mine.py", "--width", "8.5"]) == 0
    assert "no numbers" in capsys.readouterr().out
    assert f'width="{8.5 / 2.54 * 72:.6f}pt"' in Path("figures/mine/figure.svg").read_text()


def test_the_clone_computes_all_figures_if_none_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write("g98_test.py").parent
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(folder)])
    monkeypatch.setattr("precsim.cli.reproduce.figure_names", lambda: ["g98_test"])
    monkeypatch.setattr("experiments.__main__.OUT", folder / "out")
    assert main_of_experiments(["--jobs", "1"]) == 0
    assert "2/2" in capsys.readouterr().out
    assert (folder / "out" / "g98_test" / "figure.svg").exists()


def test_help_of_the_clone_says_what_no_name_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of_experiments(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(
        "`python -m experiments` is `precsim reproduce --out experiments/out`: without a name it "
        "computes all figures."
    )
    assert "(default: a list of what there is)" in said


def test_no_device_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def devices() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    error = "precsim: error: JAX has no device here; JAX_PLATFORMS is 'cuda'\n"
    assert refused(capsys, "g03") == error
