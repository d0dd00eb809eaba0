"""The files of vectors: they are read, they are the oracle's, and independent facts agree."""

import math
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import precsim as ps
from conformance.generate import MODES, RULES, files
from conformance.vector_file import FLAGS, FOLDER, Vectors, parse, read
from conformance.vector_file import RULES as RULE_WORDS

FILES = dict(read())
ROUNDING = [name for name in FILES if name.startswith("round/")]
SAMPLE = (
    *("round/e2m1.any.txt", "round/e5m2.satfinite.txt", "round/fp32.infinity.txt"),
    *("round/binary4p2sf.any.txt", "round/q7.8.wrap.txt", "stochastic/bf16.txt"),
)


def columns(vectors: Vectors) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the arguments and the results of a file of roundings."""
    return vectors.argument("x"), {mode: vectors.expected(mode) for mode in vectors.results}


def test_the_files_are_those_that_would_be_generated() -> None:
    assert set(FILES) == set(files())
    assert sum(len(vectors.arguments["x"]) for vectors in FILES.values()) > 25_000
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 1_600_000


@pytest.mark.parametrize("name", SAMPLE)
def test_generation_gives_the_same_bytes(name: str) -> None:
    path = FOLDER / name
    assert files()[name]().text().encode("ascii") == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(files()) - set(SAMPLE)))
def test_generation_of_every_other_file(name: str) -> None:
    test_generation_gives_the_same_bytes(name)


def test_text_and_contents_round_trip() -> None:
    for name, vectors in FILES.items():
        text = (FOLDER / name).read_text(encoding="ascii")
        assert parse(text) == vectors
        assert vectors.text() == text


def test_every_format_has_every_mode_and_rule() -> None:
    for fmt, rules in RULES.items():
        for rule in ("any", *rules):
            vectors = FILES[f"round/{fmt}.{rule}.txt"]
            assert set(vectors.results) >= set(MODES)
            assert len(set(vectors.arguments["x"])) == int(vectors.facts["cases"])


@pytest.mark.parametrize("name", ["round/e4m3.any.txt", "round/e8m0.any.txt", "round/q3.4.any.txt"])
def test_the_header_defines_the_format(name: str) -> None:
    """By the sentences of README.md alone, codes are decoded as precsim decodes them."""
    facts = FILES[name].facts
    width = int(facts["width"])
    decoded = ps.decode(np.arange(1 << width), facts["format"]).tolist()
    for code, value in enumerate(decoded):
        if facts["kind"] == "fixed":
            integer = code - (code >> (width - 1) << width)
            assert value == integer * 2.0 ** -int(facts["fraction_bits"])
            continue
        p, bias = int(facts["precision"]), int(facts["bias"])
        signed = facts["signed"] == "yes"
        sign = -1 if signed and code >> (width - 1) else 1
        magnitude = code & ((1 << (width - signed)) - 1)
        exponent, fraction = magnitude >> (p - 1), (magnitude % (1 << (p - 1))) / 2 ** (p - 1)
        if magnitude == (1 << (width - signed)) - 1:
            assert facts["specials"] == "fn"
            assert math.isnan(value)
        elif exponent == 0 and facts["subnormals"] == "yes":
            assert value == sign * fraction * 2.0 ** (1 - bias)
        else:
            assert value == sign * (1 + fraction) * 2.0 ** (exponent - bias)


@pytest.mark.parametrize(("fmt", "dtype"), [("fp16", np.float16), ("fp32", np.float32)])
def test_against_ieee_types_of_numpy(fmt: str, dtype: type[np.floating]) -> None:
    for rule in ("any", "infinity"):
        x, results = columns(FILES[f"round/{fmt}.{rule}.txt"])
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(results["rne"], x.astype(dtype).astype(np.float64))


@pytest.mark.parametrize("name", [name for name in ROUNDING if ".any." in name])
def test_results_are_the_neighbours(name: str) -> None:
    """Without the oracle: directed modes enclose the number tightly, the other modes choose."""
    x, results = columns(FILES[name])
    fmt = ps.get_format(FILES[name].facts["format"])
    finite = np.isfinite(x)
    low, high = results["rtn"][finite], results["rtp"][finite]
    x, results = x[finite], {mode: values[finite] for mode, values in results.items()}
    assert np.all((low <= x) & (x <= high))
    assert np.array_equal(low == high, np.isin(x, low) & (low == x))
    if fmt.width is not None and fmt.width <= 8:
        values = ps.decode(np.arange(1 << fmt.width), fmt).astype(np.float64)
        values = np.unique(values[np.isfinite(values)])
        assert np.array_equal(low, values[np.searchsorted(values, x, side="right") - 1])
        assert np.array_equal(high, values[np.searchsorted(values, x, side="left")])
    assert np.array_equal(np.abs(results["rtz"]), np.minimum(np.abs(low), np.abs(high)))
    assert np.array_equal(np.abs(results["raz"]), np.maximum(np.abs(low), np.abs(high)))
    below, above = x - low, high - x  # exact: neighbours and number are close, or one of them is 0
    for mode in {"rne", "rna", "rnz", "rno", "rnp", "rnn"} & set(results):
        assert np.all(np.where(below < above, results[mode] == low, results[mode] >= low))
        assert np.all(np.where(below > above, results[mode] == high, results[mode] <= high))
    tie = (below == above) & (low != high)
    assert tie.any()
    assert np.array_equal(results["rna"][tie], results["raz"][tie])
    assert np.array_equal(results["rnz"][tie], results["rtz"][tie])


@pytest.mark.parametrize("name", ROUNDING)
def test_inexact_is_flagged(name: str) -> None:
    vectors = FILES[name]
    x, results = columns(vectors)
    for mode, values in results.items():
        flags = np.array(
            [word.removeprefix("nan").lstrip("0123456789abcdef") for word in vectors.results[mode]]
        )
        defined = np.isfinite(x) & ~np.char.count(flags, "i").astype(bool)
        assert np.array_equal(
            (values != x)[defined], np.char.count(flags, "x").astype(bool)[defined]
        )
        assert not (".any." in name and np.char.count(flags, "o").any())


def test_operations_show_every_exception() -> None:
    seen = Counter(
        (vectors.facts["operation"], letter)
        for name, vectors in FILES.items()
        if name.startswith("operations/")
        for word in vectors.results["rne"]
        for letter in word
        if letter in FLAGS.values()
    )
    for operation in ("add", "subtract", "multiply", "divide", "fma"):
        for letter in "xoi":
            assert seen[operation, letter] > 5
    assert min(seen["multiply", "u"], seen["divide", "u"], seen["fma", "u"]) > 3
    assert seen["divide", "z"] > 10
    assert (seen["sqrt", "i"], seen["sqrt", "o"]) == (seen["sqrt", "i"], 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("conformance: 1", "conformance: 9"), "version '9'; allowed is '1'"),
        (("cases: ", "cases: 1"), "not 1.* rows of 9 words"),
        ((" rne", ""), "not 78 rows of 8 words"),
        (("\n\n", "\n"), "the header has the line 'x rne rna"),
        (("signed: yes", "signed yes"), "the header has the line 'signed yes'"),
        (("signed: yes", "colour: blue"), "the header has the line 'colour: blue'"),
        (("kind: float", "width: 4"), "the header has the line 'width: 4'"),
        (("operation: round", "operation: cube"), "operation is 'cube'; allowed are round, add"),
        (("rule: any", "rule: none"), "rule is 'none'; allowed are any"),
        (("rule: any\n", ""), "rule is None"),
        (("arguments: float64", "arguments: fp32"), "arguments is 'fp32'; allowed are float64"),
        (("format: e2m1", "format: mxfp4"), "format is mxfp4; allowed are formats of at most 64"),
        (("format: e2m1", "format: e2m2"), "unknown format 'e2m2'"),
        (("format: e2m1", "format: e2m3"), "width is '4'; e2m3 has 6 bits"),
        (("\nx rne", "\ny rne"), "the columns of arguments are y; wanted are x"),
        (("rne rna", "rne rne"), "a column stands twice"),
        (("rne rna", "rne rn1"), "a column is named 'rn1'"),
        (("\nc018", "\n-018"), "column x has '-018"),
        ((" f f", " 10 f"), "column rne has '10'; allowed are numbers below 0x10"),
        ((" f f", " fxy f"), "column rne has 'fxy'"),
        (("source: ", "source: \xe9"), "not ASCII"),
    ],
)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    text = (FOLDER / "round/e2m1.any.txt").read_text(encoding="ascii")
    folder = tmp_path / "round"
    folder.mkdir()
    (folder / "damaged.txt").write_text(text.replace(*change, 1), encoding="latin-1")
    with pytest.raises(ValueError, match=f"round/damaged.txt: .*({message})"):
        list(read(tmp_path))


def test_damage_gives_a_clean_read_or_one_line() -> None:
    """Property: a file damaged at random is refused by a ValueError, or can be computed with."""
    names = ("round/e8m0.infinity.txt", "operations/e4m3.sqrt.txt", "round/q3.4.wrap.txt")
    texts = [(FOLDER / name).read_text(encoding="ascii") for name in names]
    rng, read_well = random.Random(0), 0
    for _ in range(400):
        text = rng.choice(texts)
        for _ in range(rng.choice((1, 2))):
            at = rng.randrange(min(len(text), rng.choice((500, 10_000))))
            new = rng.choice(("", "f", "-", "\n", " ", ": ", "nan", "z", "9" * 20))
            text = text[: at + rng.randrange(3)] + new + text[at + rng.randrange(3) :]
        try:
            vectors = parse(text if rng.randrange(8) else text[:at])
        except ValueError as problem:
            message = str(problem)
            assert "\n" not in message
            assert len(message) < 250
            continue
        read_well += 1
        for name in vectors.arguments:
            vectors.argument(name)
        for mode in vectors.results:
            vectors.expected(mode)
    assert 20 < read_well < 200


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_program_in_the_readme(tmp_path: Path) -> None:
    """It reads the files by their specification, and the processor's own cast is right on them."""
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    program = readme.partition("```c\n")[2].partition("```")[0]
    (tmp_path / "cast.c").write_text(program, encoding="ascii")
    build = ["cc", "-Wall", "-Wextra", "-Werror", "-O1", "cast.c", "-o", "cast"]
    subprocess.run(build, cwd=tmp_path, check=True)
    for name in ("round/fp32.any.txt", "round/fp32.infinity.txt"):
        text = (FOLDER / name).read_bytes()
        done = subprocess.run([tmp_path / "cast"], input=text, capture_output=True, check=True)
        assert done.stdout.decode() == f"{FILES[name].facts['cases']} cases, 0 wrong\n"


def test_the_readme_names_every_mode_and_rule() -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    modes = {mode for vectors in FILES.values() for mode in vectors.results if ":" not in mode}
    keys = {key for vectors in FILES.values() for key in vectors.facts}
    for word in {*modes, *keys, *RULE_WORDS}:
        assert f"`{word}`" in readme, word
