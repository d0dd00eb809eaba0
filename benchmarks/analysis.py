"""Cases of `precsim.analyze`: the account of a training step, beside the emulated step itself."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import precsim as ps
from benchmarks.case import Case, Contender, Goal, Setting
from benchmarks.compilation import plain_step
from benchmarks.training import NETWORKS

EMULATED, ANALYSED = "emulated step", "analysed step"
POLICIES = ("bf16", "h100_bf16,fn=platform")


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    goals = (Goal(measured=ANALYSED, against=EMULATED, at_most=5),)
    for network in NETWORKS:
        for policy in POLICIES:
            name = f"analyze/{network}/{policy.partition(',')[0]}"
            build = partial(steps, network, policy)
            yield Case(name=name, build=build, goals=goals, size=1)


def steps(network: str, policy: str, setting: Setting) -> Mapping[str, Contender]:
    """Compute one step, and the account of what its new weights lose."""
    import jax

    plain, arguments = plain_step(network)
    emulated: Any = jax.jit(ps.emulate(plain, policy)).lower(*arguments).compile()
    find = ps.analyzer(plain, policy=policy, strict=False)
    wait: Any = jax.block_until_ready
    return {
        EMULATED: Contender(run=lambda: wait(emulated(*arguments))),
        ANALYSED: Contender(run=lambda: find(*arguments)),
    }
