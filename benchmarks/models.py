"""Models written by others, under `precsim.emulate`: what is emulated, and what that costs.

    python -m benchmarks.models [NAME ...]

Weights are random, inputs small. A package that is not installed is left out by name. Ratios are of
processor time, paired; several models are measured each in a process of its own.
"""

import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import precsim as ps
from benchmarks.compilation import compiling
from benchmarks.timing import interleave, paired_ratio

POLICIES = ("e=bf16,fwd=bf16_bf16_fp32", "e=fp16,fwd=fp16_fp16_fp32")
KEY = jax.random.key(0)
ROUNDS = 3
"""Compilations of each function; one, if the emulated function takes more than `LONG` seconds."""
LONG = 20.0

Program = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of parameters and inputs, and its arguments."""


class Model(NamedTuple):
    """A public model: its package on the index, and what makes it."""

    package: str
    make: Callable[[], Program]


MODELS: dict[str, Model] = {}


def model(name: str, package: str) -> Callable[[Callable[[], Program]], Callable[[], Program]]:
    """Decorate what makes a model."""

    def register(make: Callable[[], Program]) -> Callable[[], Program]:
        MODELS[name] = Model(package, make)
        return make

    return register


def numbers(*shape: int) -> Any:
    """Return normal random numbers."""
    return jax.random.normal(KEY, shape)


def tokens(*shape: int) -> Any:
    """Return random tokens of a vocabulary of 32."""
    return jax.random.randint(KEY, shape, 0, 32)


def linen(module: Any, *inputs: Any, **options: Any) -> Program:
    """Return a Flax Linen module as a function of its variables."""
    variables = module.init({"params": KEY, "dropout": KEY}, *inputs, **options)

    def apply(variables: Any, *inputs: Any) -> Any:
        return module.apply(variables, *inputs, **options)

    return apply, (variables, *inputs)


def nnx(module: Any, *inputs: Any) -> Program:
    """Return a Flax NNX module as a function of its state."""
    from flax import nnx

    graph, state = nnx.split(module)
    return lambda state, *inputs: nnx.merge(graph, state)(*inputs), (state, *inputs)


def equinox(module: Any, *inputs: Any, **options: Any) -> Program:
    """Return an Equinox module as a function of its arrays."""
    import equinox

    arrays, rest = equinox.partition(module, equinox.is_array)

    def apply(arrays: Any, *inputs: Any) -> Any:
        return equinox.combine(arrays, rest)(*inputs, **options)

    return apply, (arrays, *inputs)


def haiku(function: Callable[..., Any], *inputs: Any) -> Program:
    """Return a Haiku function as one of its parameters."""
    import haiku

    both = haiku.transform(function)

    def apply(weights: Any, *inputs: Any) -> Any:
        return both.apply(weights, KEY, *inputs)

    return apply, (both.init(KEY, *inputs), *inputs)


def counted(program: Program) -> tuple[int, float, list[str]]:
    """Return the operations, the share of arithmetic that is emulated, and what has no rule."""
    fun, args = program
    found = [ps.coverage(fun, policy, *args) for policy in POLICIES]
    unknown = sorted({row.primitive for each in found for row in each.unknown})
    return sum(row.times for row in found[0].rows), found[0].share, unknown


def ratios(program: Program) -> tuple[float, float]:
    """Return how many times as long the emulated function compiles and runs, by processor time."""
    fun, args = program
    both = {"plain": fun, "emulated": ps.emulate(fun, POLICIES[0])}
    compilers = {name: compiling(each, args) for name, each in both.items()}
    compiled: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(ROUNDS):
        for name, compiler in compilers.items():
            start = time.process_time()
            compiled[name] = compiler()
            seconds[name].append(time.process_time() - start)
        if seconds["emulated"][0] > LONG:
            break
    wait: Callable[[Any], Any] = jax.block_until_ready
    calls = {name: lambda each=each: wait(each(*args)) for name, each in compiled.items()}
    runs = interleave(calls, rounds=15, sample_seconds=0.002, clock=time.process_time)
    of_compiling, of_running = (
        paired_ratio(times["emulated"], times["plain"]).median for times in (seconds, runs)
    )
    return of_compiling, of_running


def row(name: str) -> str:
    """Return the row of a model; raise ModuleNotFoundError without its package."""
    package, make = MODELS[name]
    version = importlib.metadata.version(package)
    program = make()
    operations, share, unknown = counted(program)
    found = [name, f"{package} {version}", str(operations), f"{share:.0%}"]
    if unknown:
        return line(*found, ", ".join(unknown), "", "")
    return line(*found, "none", *(f"{ratio:.1f}" for ratio in ratios(program)))


def line(*cells: str) -> str:
    """Return a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def main(names: list[str]) -> None:
    """Print the table of some models, or of all, as Markdown."""
    from benchmarks import public_models, public_programs  # noqa: F401 (they fill MODELS)

    if len(names) == 1:
        try:
            print(row(names[0]))
        except importlib.metadata.PackageNotFoundError as missing:
            print(f"{names[0]}: {missing.name} is not installed", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 (a package of another time)
            print(f"{names[0]} does not run: {error!r:.300}", file=sys.stderr)
        return
    print(line("model", "package", "operations", "emulated", "without a rule", "compile", "run"))
    print("| --- | --- | ---: | ---: | --- | ---: | ---: |", flush=True)
    for name in names or MODELS:
        subprocess.run([sys.executable, "-m", "benchmarks.models", name], check=False)


if __name__ == "__main__":
    from benchmarks.models import main as start  # not `__main__`'s: one MODELS

    start(sys.argv[1:])
