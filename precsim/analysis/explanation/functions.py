"""Arithmetics that a whole function may have had: itself on this machine, and policies."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from precsim.formats.arguments import shown

_PRODUCTS = {"dot_general", "conv_general_dilated", "ragged_dot_general"}


@dataclass(frozen=True, kw_only=True)
class Computation:
    """A way to compute a function: `run` takes its arguments."""

    name: str
    meaning: str
    run: Callable[..., Any]


def computations(fun: Callable[..., Any], args: tuple[Any, ...]) -> list[list[Computation]]:
    """Return ways to compute a function, those that need no emulation first."""
    import jax

    itself = [
        Computation(name="fun", meaning="the function as it runs here", run=fun),
        Computation(
            name="jax.jit(fun)", meaning="the function compiled by XLA here", run=jax.jit(fun)
        ),
    ]
    has_products = bool(_primitives(fun, args) & _PRODUCTS)
    tiers = [_operands, _formats, _machines] if has_products else [_formats]
    emulated = [[under(fun, *named) for named in tier()] for tier in (*tiers, _orders)]
    return [itself, *emulated]


def under(fun: Callable[..., Any], policy: str, meaning: str) -> Computation:
    """Return the computation of a function under a policy."""
    import jax

    from precsim.transform.emulate import emulate

    return Computation(name=policy, meaning=meaning, run=jax.jit(emulate(fun, policy)))


def _primitives(fun: Callable[..., Any], args: tuple[Any, ...]) -> set[str]:
    import jax

    from precsim.transform.jaxprs import equations
    from precsim.transform.tracing import flattened

    try:
        flat = flattened(fun, args, {})
        program = jax.make_jaxpr(flat.fun)(*flat.arrays)
    except (TypeError, jax.errors.JAXTypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TypeError(
            f"fun is {shown(fun)}; allowed are products and functions that JAX can trace: {reason}"
        ) from None
    return {eqn.primitive.name for eqn in equations(program)}


def products_by(spec: str) -> str:
    """Return the policy in which all products follow a spec."""
    return f"fwd={spec},dgrad={spec},wgrad={spec}"


def _operands() -> Iterator[tuple[str, str]]:
    for name in ("tf32", "bf16", "fp16"):
        yield products_by(f"{name}_{name}_fp32"), f"operands of products in {name}"


def _formats() -> Iterator[tuple[str, str]]:
    for name in ("bf16", "fp16"):
        yield name, f"everything in {name}"
    for name in ("bf16_mixed", "fp16_mixed"):
        yield name, f"everything in {name.partition('_')[0]}, weights in float32"


def _machines() -> Iterator[tuple[str, str]]:
    for name in ("h100:bf16", "h100:tf32", "a100:bf16", "a100:tf32", "h100:fp16", "v100:fp16"):
        yield products_by(name), f"products of {name} tensor cores"
    yield "fp8_current", "products of scaled 8-bit operands"


def _orders() -> Iterator[tuple[str, str]]:
    for order in ("sequential", "pairwise"):
        products = products_by(f"fp32_fp32_fp32:{order}")
        yield f"{products},order={order},fn=portable", f"float32, all sums {order}"
