"""Cases of `precsim.emulate`: a training step in plain JAX, and the same step under a policy."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import precsim as ps
from benchmarks.case import Case, Contender, Goal, Setting
from benchmarks.compilation import compiling, plain_step
from benchmarks.training import NETWORKS

PLAIN = "plain JAX"
CASTS, ACCUMULATORS, TENSOR_CORES = "casts", "accumulators", "tensor cores"
POLICIES = {
    CASTS: ("c=bf16,e=fp32", "native"),
    ACCUMULATORS: ("c=bf16,acc=bf16,e=fp32", "auto"),
    TENSOR_CORES: ("h100_bf16,fn=platform", "auto"),
}
"""Policy and backend: what is rounded is the products; all else is the program's own."""
RUN_GOALS: dict[str, int | None] = {CASTS: 3, ACCUMULATORS: 10, TENSOR_CORES: 12}
COMPILE_GOALS: dict[str, int | None] = {CASTS: 4, ACCUMULATORS: None, TENSOR_CORES: None}
TRACE_GOALS: dict[str, int | None] = {CASTS: 2, ACCUMULATORS: None, TENSOR_CORES: None}


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    kinds: dict[str, tuple[Callable[..., Any], dict[str, int | None]]] = {
        "run": (runs, RUN_GOALS),
        "compile": (compilations, COMPILE_GOALS),
        "trace": (traces, TRACE_GOALS),
    }
    for kind, (build, goals) in kinds.items():
        for network in NETWORKS:
            yield Case(
                name=f"emulate/{kind}/{network}",
                build=partial(build, network),
                goals=tuple(
                    Goal(measured=name, against=PLAIN, at_most=goal) for name, goal in goals.items()
                ),
                size=1,
            )


def steps(network: str) -> tuple[dict[str, Callable[..., Any]], tuple[Any, ...]]:
    """Return the step by name, plain and under each policy, and its arguments."""
    plain, arguments = plain_step(network)
    emulated = {
        name: ps.emulate(plain, policy, backend=backend)
        for name, (policy, backend) in POLICIES.items()
    }
    return {PLAIN: plain, **emulated}, arguments


def runs(network: str, setting: Setting) -> Mapping[str, Contender]:
    """Run one compiled step."""
    import jax

    found, arguments = steps(network)

    def calling(step: Callable[..., Any]) -> Callable[[], object]:
        compiled: Any = jax.jit(step).lower(*arguments).compile()
        wait: Callable[[Any], Any] = jax.block_until_ready
        return lambda: wait(compiled(*arguments))

    return {name: Contender(run=calling(step)) for name, step in found.items()}


def compilations(network: str, setting: Setting) -> Mapping[str, Contender]:
    """Trace and compile one step anew at each call, with nothing cached."""
    found, arguments = steps(network)
    return {name: Contender(run=compiling(step, arguments)) for name, step in found.items()}


def traces(network: str, setting: Setting) -> Mapping[str, Contender]:
    """Trace one step anew at each call."""
    import jax

    found, arguments = steps(network)

    def tracing(step: Callable[..., Any]) -> Callable[[], object]:
        def call() -> object:
            jax.clear_caches()  # type: ignore[no-untyped-call]
            return jax.make_jaxpr(partial(step))(*arguments)

        return call

    return {name: Contender(run=tracing(step)) for name, step in found.items()}
