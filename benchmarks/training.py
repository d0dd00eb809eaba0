"""Cases of training steps: portable and exact against the same network's float32 step."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import precsim as ps
from benchmarks.case import Case, Contender, Goal, Setting, SkipError

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"batch_size": 128},
    "cnn": {"model": "cnn", "optimizer": "momentum"},
    "transformer": {
        "model": "transformer",
        "task": "text",
        "optimizer": "adamw",
        "batch_size": 16,
    },
}
PLAIN, EMULATED, NATIVE = "float32 step", "h100_bf16 step, emulated", "h100_bf16 step, native"


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    for name in NETWORKS:
        yield Case(
            name=f"training/{name}",
            build=partial(steps, name, {EMULATED: ("h100_bf16", "emulated")}),
            goals=(Goal(measured=EMULATED, against=PLAIN, at_most=12),),
            size=1,
        )
    for name in NETWORKS:
        yield Case(
            name=f"gpu/training/{name}",
            build=partial(
                steps,
                name,
                {NATIVE: ("h100_bf16", "native"), EMULATED: ("h100_bf16", "emulated")},
            ),
            goals=(
                Goal(measured=NATIVE, against=PLAIN, at_most=2),
                Goal(measured=EMULATED, against=PLAIN),
            ),
            size=1,
            platform="",
        )


def steps(
    name: str, contenders: dict[str, tuple[str, str]], setting: Setting
) -> dict[str, Contender | str]:
    """Compute one step of a network, all but its state left out, by policy and backend.

    The float32 step multiplies by XLA's own kernels and has XLA's functions and optax's optimizer;
    only its weights are updated by precsim's addition.
    """
    import jax

    if NATIVE in contenders and jax.devices()[0].platform != "gpu":
        raise SkipError("JAX has no GPU here")
    return {
        PLAIN: Contender(run=_step(name, "fp32", "native")),
        **{label: _contender(name, *how) for label, how in contenders.items()},
    }


def _contender(name: str, policy: str, backend: str) -> Contender | str:
    try:
        return Contender(run=_step(name, policy, backend))
    except ValueError as problem:  # no native kernel with known bits
        return str(problem)


def _step(name: str, policy: str, backend: str) -> Callable[[], object]:
    import jax

    run = ps.replay.prepare_run(
        ps.TrainConfig(policy=ps.Policy.parse(policy), backend=backend, **NETWORKS[name])
    )
    images, labels = run.batch(0)
    # What only the measurements of a run need is not computed.
    step = jax.jit(lambda *arguments: run.step(*arguments)[0])
    compiled = step.lower(run.state, images, labels).compile()

    def call() -> object:
        return jax.block_until_ready(compiled(run.state, images, labels))  # type: ignore[no-untyped-call]

    return call
