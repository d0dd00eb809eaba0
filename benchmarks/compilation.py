"""Cases of compilation: tracing and compiling a training step, beside the network in plain JAX."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import precsim as ps
from benchmarks.case import Case, Contender, Goal, Setting
from benchmarks.training import NETWORKS

PLAIN = "plain JAX"
GOALS = {"bf16": 4, "fp16_mixed": 4, "bf16_bf16_bf16": 8, "h100_bf16": 8}
"""At most so many times as long; casts only, rounded accumulators, tensor cores."""
ACCUMULATORS = "c=bf16,acc=bf16"


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    for network in NETWORKS:
        yield Case(
            name=f"compile/{network}",
            build=partial(compilations, network),
            goals=tuple(
                Goal(measured=policy, against=PLAIN, at_most=goal) for policy, goal in GOALS.items()
            ),
            size=1,
        )


def compilations(network: str, setting: Setting) -> Mapping[str, Contender]:
    """Trace and compile one step anew at each call, with nothing cached."""
    return {
        PLAIN: Contender(run=compiling(*plain_step(network))),
        **{policy: Contender(run=compiling(*own_step(network, policy))) for policy in GOALS},
    }


def own_step(
    network: str, policy: str, backend: str = "auto"
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a step of `precsim.train` under a policy, and its arguments."""
    text = ACCUMULATORS if policy == "bf16_bf16_bf16" else policy
    config = ps.TrainConfig(policy=ps.Policy.parse(text), backend=backend, **NETWORKS[network])
    run = ps.replay.prepare_run(config, is_guarded=False)
    return run.step, (run.state, *run.batch(0))


def plain_step(network: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a step of the same network with optax alone, and its arguments."""
    import optax

    from benchmarks import networks

    run = ps.replay.prepare_run(ps.TrainConfig(policy=ps.Policy.parse("fp32"), **NETWORKS[network]))
    optimizer = {
        "mlp": optax.sgd(0.1),
        "cnn": optax.sgd(0.1, momentum=0.9),
        "transformer": optax.adamw(1e-3),
    }[network]
    step = networks.make_step(getattr(networks, network), optimizer)
    return step, (run.state.params, optimizer.init(run.state.params), *run.batch(0))


def compiling(step: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], object]:
    """Return a call that traces and compiles a step as if JAX had never seen it."""
    import jax

    def call() -> object:
        jax.clear_caches()  # type: ignore[no-untyped-call]
        anew = partial(step)  # a function that JAX has not seen
        return jax.jit(anew).lower(*arguments).compile()

    return call
