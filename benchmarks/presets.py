"""Cases of presets: the training step of a small network under each, beside the float32 step."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.case import Case, Contender, Goal, Setting
from benchmarks.compilation import compiling, own_step

NAMES = (
    *("fp16", "fp16_mixed", "bf16", "bf16_mixed", "bf16_sr", "bf16_kahan"),
    *("fp8_current", "fp8_delayed", "fp8_rowwise", "fp8_block", "mxfp8", "mxfp4", "nvfp4", "int8"),
    *("q3.12", "q3.12_sr", "q3.8", "q3.8_sr", "q3.4", "q3.4_sr"),
    *("h100_bf16", "h100_fp16", "h100_fp8"),
)
"""All presets but `fp32`, which is what they are measured against."""
NETWORK, PLAIN = "mlp", "fp32"


def cases() -> Iterator[Case]:
    """Yield them in the order of the table."""
    for name in NAMES:
        goals = (Goal(measured=f"{name}, {what}", against=f"{PLAIN}, {what}") for what in _WHAT)
        yield Case(
            name=f"presets/{name}", build=partial(contenders, name), goals=tuple(goals), size=1
        )


def contenders(name: str, setting: Setting) -> Mapping[str, Contender]:
    """Run a step as `precsim.train` does at first; trace and compile it anew at each call.

    The float32 step multiplies by XLA's own kernels.
    """
    return {
        f"{policy}, {what}": Contender(run=make(*own_step(NETWORK, policy, backend)))
        for policy, backend in ((name, "auto"), (PLAIN, "native"))
        for what, make in _WHAT.items()
    }


def _running(step: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], object]:
    import jax

    # What only the measurements of a run need is not computed.
    compiled = jax.jit(lambda *given: step(*given)[0]).lower(*arguments).compile()
    return lambda: jax.block_until_ready(compiled(*arguments))  # type: ignore[no-untyped-call]


_WHAT = {"run": _running, "compile": compiling}
