"""`import precsim` is quick: it loads none of the heavy libraries."""

import subprocess
import sys

import pytest

HEAVY = ("jax", "matplotlib", "numpy", "optax", "rich", "scipy", "sklearn")


def heavy_modules_after(statements: str) -> list[str]:
    """Run statements in a fresh interpreter and list the heavy libraries that they loaded."""
    program = f"{statements}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_import_loads_nothing_heavy() -> None:
    assert heavy_modules_after("import precsim") == []


def test_format_names_load_nothing_heavy() -> None:
    assert heavy_modules_after("import precsim; precsim.get_format('bf16')") == []


def test_specs_and_definitions_load_nothing_heavy() -> None:
    program = "import precsim as ps; ps.MatmulSpec.parse('h100:bf16'); ps.oracle; ps.options"
    assert heavy_modules_after(program) == []


def test_the_check_can_fail() -> None:
    assert heavy_modules_after("import precsim, scipy") == ["numpy", "scipy"]


@pytest.mark.long
def test_public_names_are_listed_and_load() -> None:
    program = "import precsim\nfor name in precsim.__all__: getattr(precsim, name)\n"
    program += "print(sorted(set(precsim.__all__) - set(dir(precsim))))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_unknown_name_raises_attribute_error() -> None:
    program = "import precsim\ntry: precsim.no_such_name\nexcept AttributeError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "no_such_name" in done.stdout
