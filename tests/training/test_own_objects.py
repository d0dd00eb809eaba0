"""Objects named as MODULE:FACTORY."""

import sys
from pathlib import Path

import pytest

from precsim.training.own_objects import load_object

MODULE = """
import functools

def make():
    return "made"

class Models:
    @staticmethod
    def small():
        return "small"

with_default = lambda size=3: size
partial = functools.partial(lambda size: size, 5)
value = 3

def needs(size):
    return size

def broken():
    raise RuntimeError("out of order")
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_module_of_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("own_module_")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "made"),
    [("make", "made"), ("Models.small", "small"), ("with_default", 3), ("partial", 5)],
)
def test_factories_are_called(name: str, made: object) -> None:
    assert load_object(f"own_module_of_test:{name}", "--model") == made


def test_modules_in_packages_and_of_libraries(here: Path) -> None:
    (here / "own_module_package").mkdir()
    (here / "own_module_package" / "inside.py").write_text("def make():\n    return 1\n")
    assert load_object("own_module_package.inside:make", "--data") == 1
    assert load_object("collections:OrderedDict", "--data") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp", "--model is 'mlp'; allowed is MODULE:FACTORY, for example mine:make"),
        ("a/b.py:make", "--model is 'a/b.py:make'; allowed is MODULE:FACTORY"),
        (":make", "allowed is MODULE:FACTORY"),
        ("own_module_of_test:", "allowed is MODULE:FACTORY"),
        ("own_module_none:make", "there is no module 'own_module_none' in the current folder, nor"),
        ("own_module_of_test.x:make", "there is no module 'own_module_of_test.x' in the current"),
        (
            "own_module_of_test:mak",
            "module 'own_module_of_test' has no 'mak'; did you mean 'make'?",
        ),
        ("own_module_of_test:value", "of type int; allowed is a function of no arguments"),
        ("own_module_of_test:needs", "a function of no arguments (missing a required argument: 's"),
    ],
)
def test_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^--model is [^\n]+$") as error:
        load_object(text, "--model")
    assert message in str(error.value)


def test_what_a_factory_raises_is_raised_with_a_note() -> None:
    with pytest.raises(RuntimeError, match="out of order") as error:
        load_object("own_module_of_test:broken", "--data")
    assert error.value.__notes__ == ["raised by own_module_of_test:broken, which --data names"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import no_such_library\n", ModuleNotFoundError),
        ("1 / 0\n", ZeroDivisionError),
        ("(", SyntaxError),
    ],
)
def test_what_a_module_raises_is_raised_with_a_note(
    text: str, kind: type[Exception], here: Path
) -> None:
    (here / "own_module_broken.py").write_text(text)
    with pytest.raises(kind) as error:
        load_object("own_module_broken:make", "--model")
    note = "raised by the import of own_module_broken, which --model names"
    assert error.value.__notes__ == [note]
