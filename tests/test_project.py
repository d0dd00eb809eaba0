"""The project's files agree with each other and keep its rules on words and paths."""

import itertools
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import precsim

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Written in pieces, so that this file passes its own test.
FORBIDDEN = {
    "word (say significand)": "(?i)mant" + "issa",
    "word (say subnormal)": "(?i)de" + "normal",
    "leftover": r"\b(TO" + "DO|FIX" + r"ME)\b",
    "absolute path": r"(^|[^A-Za-z0-9_.])/(work|tmp|root|home|Users)" + "/",
    "package-registry host": r"pypi\."
    + r"org|pythonhosted\."
    + r"org|anaconda\."
    + r"org|npm"
    + "js",
}


def faults(text: str) -> list[str]:
    """List the kinds of forbidden text in a file."""
    return [kind for kind, p in FORBIDDEN.items() if re.search(p, text, flags=re.MULTILINE)]


def files_of_the_project() -> list[Path]:
    """Return what git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, flags=re.MULTILINE) == [version]
    assert metadata.version("precsim") == version
    assert precsim.__version__ == version


def test_citation_is_cff_1_2_with_author_and_license() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for line in ("cff-version: 1.2.0", "  - name: The precsim developers", "license: MIT"):
        assert line in citation.splitlines()
    assert "Copyright (c) 2026 The precsim developers" in (ROOT / "LICENSE").read_text()


def test_requirements_are_lower_bounds_only() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in itertools.chain(PROJECT["project"]["dependencies"], *extras):
        assert re.fullmatch(r"[A-Za-z0-9_-]+>=[0-9.]+", requirement), requirement


def test_dependency_groups_equal_the_extras_of_the_same_name() -> None:
    for name in ("test", "docs"):
        extra = PROJECT["project"]["optional-dependencies"][name]
        assert PROJECT["dependency-groups"][name] == extra


def test_readme_has_the_two_commands() -> None:
    """`.ci/run` reads the second one from README and runs it."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("precsim train")
    assert commands[1].endswith("-m pytest")


def test_no_forbidden_text_in_any_file() -> None:
    files = files_of_the_project()
    assert len(files) > 20
    found = {}
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if kinds := faults(text):
            found[path.relative_to(ROOT).as_posix()] = kinds
    assert found == {}


def test_forbidden_text_is_noticed() -> None:
    examples = ["the Mant" + "issa", "de" + "normals", "# TO" + "DO: x", "see /tm" + "p/x"]
    examples += ["FIX" + "ME", "https://pypi" + ".org/simple", "'/ho" + "me/me/'"]
    for text in examples:
        assert len(faults(text)) == 1, text
    for text in ("significand", "subnormal", "a/tmp/b", "x/home/", "experiments/out/"):
        assert faults(text) == [], text
