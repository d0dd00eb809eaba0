"""Models written by others, under `precsim.emulate`: what is emulated, and what that costs.

    python -m benchmarks.models [NAME ...]

Weights are random, inputs small. A package that is not installed is left out by name.
"""

import importlib.metadata
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import precsim as ps

POLICIES = ("e=bf16,fwd=bf16_bf16_fp32", "e=fp16,fwd=fp16_fp16_fp32")
KEY = jax.random.key(0)

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


def timed(fun: Callable[..., Any], args: Any) -> tuple[float, float]:
    """Return the seconds to trace and compile, and the least seconds of a call."""
    wait: Callable[[Any], Any] = jax.block_until_ready
    start = time.perf_counter()
    compiled = jax.jit(fun).lower(*args).compile()
    compiling = time.perf_counter() - start
    wait(compiled(*args))
    calls = []
    for _ in range(5):
        start = time.perf_counter()
        wait(compiled(*args))
        calls.append(time.perf_counter() - start)
    return compiling, min(calls)


def main(names: list[str]) -> None:
    """Print the table of some models, or of all, as Markdown."""
    from benchmarks import public_models, public_programs  # noqa: F401 (they fill MODELS)

    print("| model | package | operations | emulated | without a rule | compile | run |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in names or MODELS:
        package, make = MODELS[name]
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{name}: {package} is not installed", file=sys.stderr)
            continue
        try:
            program = make()
            operations, share, unknown = counted(program)
        except Exception as error:  # noqa: BLE001 (a package of another time)
            print(f"{name}: {package} {version} does not run: {error!r:.300}", file=sys.stderr)
            continue
        row = f"| {name} | {package} {version} | {operations} | {share:.0%} |"
        if unknown:
            print(f"{row} {', '.join(unknown)} | | |", flush=True)
            continue
        fun, args = program
        plain, other = timed(fun, args), timed(ps.emulate(fun, POLICIES[0]), args)
        ratios = " | ".join(f"{b / a:.1f}" for a, b in zip(plain, other, strict=True))
        print(f"{row} none | {ratios} |", flush=True)


if __name__ == "__main__":
    from benchmarks.models import main as start  # not `__main__`'s: one MODELS

    start(sys.argv[1:])
