"""Nothing that is read can run: no pickle, no eval, no shell; servers listen to this machine alone.

The rules are kept by the package and by what is run from a clone.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("precsim", "lessons", "experiments", "conformance", "benchmarks", "docs")
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
"""What they load can run any program."""


def faults(source: str) -> list[str]:
    """Return what a file does that could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        unsafe = [name for name in names if name.partition(".")[0] in UNSAFE_MODULES]
        found += [f"imports {name}" for name in unsafe]
        if isinstance(node, ast.Call):
            found += [f"{said}, line {node.lineno}" for said in _call_faults(node)]
    return found


def _call_faults(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    options = {k.arg: k.value for k in call.keywords}
    found = []
    if name in ("eval", "exec", "os.system", "os.popen", "yaml.load"):
        found.append(f"calls {name}")
    shell = options.get("shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        found.append("runs a shell")
    pickles = options.get("allow_pickle")  # NumPy's default is False
    if pickles is not None and not (isinstance(pickles, ast.Constant) and pickles.value is False):
        found.append("allows pickles")
    if name.endswith(("HTTPServer", "TCPServer", ".bind")) and "0.0.0.0" in ast.unparse(call):
        found.append("listens to the network")
    return found


@pytest.mark.long
@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_that_is_read_can_run(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {}
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if told := faults(path.read_text("utf-8")):
            found[name] = told
    assert found == {}


BROKEN = (
    "import pickle",
    "from dill import load",
    "eval('1')",
    "exec(text)",
    "import os\nos.system('ls')",
    "subprocess.run('ls', shell=True)",
    "subprocess.run('ls', shell=wanted)",
    "np.load(path, allow_pickle=True)",
    "ThreadingHTTPServer(('0.0.0.0', 80), Handler)",
)
KEPT = (
    "np.load(path)",
    "model.eval()",
    "np.load(path, allow_pickle=False)",
    "subprocess.run(['ls'], shell=False)",
    "ThreadingHTTPServer(('127.0.0.1', 0), Handler)",
)


@pytest.mark.parametrize("source", BROKEN)
def test_each_rule_can_fail(source: str) -> None:
    assert faults(source)


@pytest.mark.parametrize("source", KEPT)
def test_what_is_safe_is_kept(source: str) -> None:
    assert faults(source) == []
