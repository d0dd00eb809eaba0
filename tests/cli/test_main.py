"""The command line as a whole: exit statuses, one-line errors, quick start."""

import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from rich.table import Table

import precsim
from precsim.cli import main as command_line
from precsim.cli.console import PlainConsole
from precsim.cli.main import COMMANDS, main
from precsim.cli.output import describe, print_error

HEAVY = ("jax", "matplotlib", "optax", "rich", "scipy", "sklearn")


def loaded_by(*arguments: str) -> list[str]:
    """Run a command in a fresh interpreter and list the heavy libraries that it loaded."""
    program = (
        "import sys\nfrom precsim.cli.main import main\n"
        f"status = main({list(arguments)!r})\n"
        f"print('loaded', status, *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    words = done.stdout.splitlines()[-1].split()
    assert words[:2] == ["loaded", "0"]
    return words[2:]


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "0.1", "fp16", "e4m3:rtz:saturate", "q3.4"),
        ("formats",),
        ("--help",),
        ("--version",),
    ],
)
def test_quick_commands_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert loaded_by(*arguments) == []


@pytest.mark.long
def test_show_starts_quickly() -> None:
    # A bare interpreter that loads numpy takes most of it; jax alone would add more than the slack.
    def seconds(*arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        return time.perf_counter() - start

    base = min(seconds("-c", "import numpy") for _ in range(3))
    shown = min(seconds("-m", "precsim", "show", "0.1", "fp16") for _ in range(3))
    assert shown < 3 * base + 0.5


BAD = [
    (
        [],
        f"a command is missing; allowed are {', '.join(COMMANDS)} (see precsim --help)",
    ),
    (["shw"], "unknown command 'shw'; did you mean 'show'?"),
    (
        ["zzz"],
        f"unknown command 'zzz'; known are {', '.join(COMMANDS)}",
    ),
    (["--nope", "show", "1"], "unrecognized arguments: --nope"),
    (["show"], "the following arguments are required: VALUE"),
    (["show", "1", "--nope"], "unrecognized arguments: --nope"),
    (["show", "abc"], "'abc' is not a number; allowed are decimals"),
    (["show", "1", "fp15"], "unknown format 'fp15'; did you mean 'fp16'?"),
    (["show", "1", "e4m3:rtx"], "unknown rounding option 'rtx'; did you mean"),
    (["show", "1/0"], "number '1/0' divides by zero"),
    (["show", "1e999999999"], "allowed are -10000 to 10000"),
    (["show", "9" * 2000], "is not a number"),
    (
        ["show", "2**0.5"],
        "an exponent of '2**0.5' is not allowed; allowed are integers from -10000",
    ),
    (["show", "*".join(["9**10000"] * 8)], "has too many digits; allowed are 200000 bits"),
    (["show", "fp16", "bf16"], "VALUE is 'fp16', a format; allowed are numbers, then formats"),
    (["show", "--code", "0x1ff", "e4m3"], "--code has more bits than e4m3; allowed are 0 to 0xff"),
    (["show", "--code", "3c00", "fp16"], "--code is '3c00'; allowed are bits in hexadecimal"),
    (["show", "--code", "0b1"], "--code 0b1 needs a FORMAT, for example fp16"),
    (["show", "--code", "0x1", "mxfp4"], "(its parts are in e2m1 and e8m0, which show takes too)"),
    (["show", "0.1", "--code", "0x30", "e4m3"], "VALUE is '0.1' and --code is '0x30'; give one of"),
    (["show", "0.1", "--json", "--code", "1"], "VALUE is '0.1' and --code is '1'; give one of the"),
    (["show", "1", "--jsn", "fp16"], "unrecognized arguments: --jsn fp16; did you mean '--json'?"),
    (["train", "--polcy=bf16"], "unrecognized arguments: --polcy=bf16; did you mean '--policy'?"),
    (["--json", "show", "1"], "unrecognized arguments: --json; --json stands after the command"),
    (["--versio"], "unrecognized arguments: --versio; did you mean '--version'?"),
    (["show", "--code", "0x1", "int8"], "(int8 stores integers, with a scale beside them)"),
    (["show", "--code", "1", "float(e=inf,p=4)"], "has no codes, or values that float64 has not"),
    (["show", "inf", "int8"], "the number is inf; allowed for int8, an affine format, are finite"),
    (["show", "1e-60", "mxfp4"], "the number is outside float32's normal range"),
    (["show", "1e400", "float(e=inf,p=4)"], "outside float64's normal range"),
    (["show", "1", "float(e=15,p=50)"], "has values that float64 has not"),
    (
        ["show", "1", "fp16:sr", "--random-bits", "x"],
        "--random-bits is 'x'; allowed for fp16:sr are",
    ),
    (["show", "1", "fp16", "--random-bits", "3"], "--random-bits is given, but no FORMAT has mode"),
    (["show", "e4m3", "--random-bits", "3"], "--random-bits is given, but no FORMAT has mode sr"),
    (
        ["show", "1", "e4m3:sr8", "--random-bits", "-1"],
        "--random-bits is '-1'; allowed for e4m3:sr8",
    ),
    (["show", "1", "e4m3:sr8", "--random-bits", "256"], "e4m3:sr8 are integers from 0 to 255"),
    (["bisect", "nowhere", "neither"], "RUN is nowhere, which does not exist"),
    (["show", "--code", "-1", "e4m3"], "--code is '-1'; allowed are bits"),
    (
        ["show", "--code", "0 011 1000", "e4m3"],
        "has fields of 1, 3, 4 bits; those of e4m3 have 1, 4, 3",
    ),
    (["formats", "--kind", "flaot"], "--kind is 'flaot'; allowed are 'float', 'fixed', 'block', "),
    (["cost", "--parameters", "x"], "argument --parameters: 'x' is not a whole number, such as"),
    (["sweep", "grid.toml", "--level", "x"], "argument --level: 'x' is not a number, such as 0.01"),
    (["train", "--step", "5"], "unrecognized arguments: --step 5; did you mean '--steps'?"),
    (["bisect", "one"], "the following arguments are required: RUN"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("precsim: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("place", [0, 1, 3])
def test_traceback_on_request(place: int) -> None:
    """The option stands anywhere."""
    words = ["show", "1", "fp15"]
    with pytest.raises(ValueError, match="did you mean 'fp16'"):
        main([*words[:place], "--traceback", *words[place:]])


@pytest.mark.parametrize("arguments", [["--help"], ["show", "--help"], ["formats", "-h"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("usage: precsim")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"precsim {precsim.__version__}\n"


class Interrupted(ModuleType):
    """A command that is interrupted, or that the reader of its output leaves."""

    def __init__(self, error: BaseException) -> None:
        """Remember what to raise."""
        super().__init__("interrupted")
        self.error = error

    def add_arguments(self, parser: object) -> None:
        """Add nothing."""

    def run(self, args: object) -> int:
        """Raise."""
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "precsim: error: interrupted\n"),
        (FileExistsError("out exists"), 2, "precsim: error: out exists\n"),
        (ValueError("first\n  second"), 2, "precsim: error: first second\n"),
    ],
)
def test_errors_of_commands(
    error: BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command_line, "_module", lambda _: Interrupted(error))
    assert main(["show"]) == status
    assert capsys.readouterr().err == message


def test_a_missing_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The definitions and `show` run without packages; other commands say what they need."""

    def missing(command: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setattr(command_line, "_module", missing)
    assert main(["train"]) == 2
    words = "this needs jax, which is not installed: pip install jax"
    assert words in capsys.readouterr().err.strip()
    with pytest.raises(ModuleNotFoundError):
        main(["--traceback", "train"])


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "_module", lambda _: Interrupted(AssertionError("defect")))
    with pytest.raises(AssertionError, match="defect"):
        main(["show"])


@pytest.mark.parametrize("words", [["formats"], ["show", "1"]])
def test_closed_pipe_is_no_error(words: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "precsim", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_module_runs_like_the_command() -> None:
    command = [sys.executable, "-m", "precsim", "show", "-1e-3", "nope"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("precsim: error: unknown format 'nope'")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "precsim", "formats"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "precsim: error: No space left on device\n")


def test_closed_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["formats"]) == 0


def test_one_line_shows_control_characters_and_has_no_endless_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_error("a\x1b[31m b\n\tc " + "d" * 301 + " " + "e" * 300)
    line = capsys.readouterr().err
    assert line == f"precsim: error: a\\x1b[31m b c {'d' * 100}... {'e' * 300}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["show", "1", "fp" + "9" * 200],
        ["show", "1", "fp16:" + "r" * 200],
        ["show", "x" * 200],
        ["show", "--code", "g" * 200, "fp16"],
        ["x" * 200],
        ["formats", "--kind", "k" * 200],
        ["train", "--policy", "p" * 200],
        ["train", "--policy", "fp32,fwd=" + "h" * 200],
        ["train", "--model", "m" * 200],
    ],
)
def test_a_long_name_is_not_echoed_whole(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    line = capsys.readouterr().err
    assert max(words, key=len)[-150:] not in line
    assert len(line) < 400


def test_what_an_error_says() -> None:
    assert describe(OSError(28, "No space left on device")) == "No space left on device"
    assert describe(FileNotFoundError(2, "No such file", "x")) == "No such file: x"
    assert describe(FileExistsError("x exists")) == "x exists"
    assert describe(ValueError("x is 1")) == "x is 1"
    assert describe(ZeroDivisionError("by zero\nmore")) == "ZeroDivisionError: by zero"
    assert describe(MemoryError()) == "MemoryError"
    assert describe(ValueError()) == "ValueError"


def test_the_words_of_users_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[rtz] [/foo] [red]x[/] :sr: :cat: \\[b]"
    table = Table(text, title=text)
    table.add_row(text)
    PlainConsole().print(text)
    PlainConsole().print(table)
    assert capsys.readouterr().out.count(text) == 4


WORDS = (
    *("0.1", "1/3", "-0", "nan", "1e400", "0x", "", "9" * 400, "1\n2", "nope", "--", "-x", "\0"),
    *("fp16", "e4m3:rtz", "q-1.4", "q999.1", "float(e=99,p=9)", "float(e=inf,p=4)", "float(e=,p=)"),
    *("mxfp4", "int8", "uq0.0", "e4m3:rtz:rtz", "e4m3:", ":rtz", "e4m3:sr99", "fp16:x", "q3.4:rno"),
    *("--random-bits", "-1", "99999999999999999999", "--kind", "float", "[/b]", "show", "bisect"),
)


@pytest.mark.long
def test_any_words_give_an_answer_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Property: no words make another exception, and an error is one line."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    for _ in range(400):
        command = rng.choice(("show", "show", "show", "formats", "bisect"))
        words = [command, *rng.choices(WORDS, k=rng.randrange(4))]
        status = main(words)
        out, err = capsys.readouterr()
        assert status in (0, 2), words
        assert (err.count("\n"), out == "") == ((0, False) if status == 0 else (1, True)), words
