"""Arithmetics that a whole function may have had: itself on this machine, and policies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from precsim._arrays import is_array
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
    compiled = _compiled(fun)
    itself = [
        Computation(name="fun", meaning="the function as it runs here", run=fun),
        Computation(name="jax.jit(fun)", meaning="the function compiled by XLA", run=compiled),
    ]
    from precsim.transform.jaxprs import equations

    primitives = {eqn.primitive.name for eqn in equations(_program(fun, args))}
    has_products = bool(primitives & _PRODUCTS)
    tiers = [_operands, _formats, _machines] if has_products else [_formats]
    emulated = [[under(fun, *named) for named in tier()] for tier in (*tiers, _orders)]
    return [itself, *emulated]


def under(fun: Callable[..., Any], policy: str, meaning: str) -> Computation:
    """Return the computation of a function under a policy."""
    from precsim.transform.emulate import emulate

    return Computation(name=policy, meaning=meaning, run=_compiled(emulate(fun, policy)))


def is_product(fun: Callable[..., Any], args: Sequence[Any]) -> bool:
    """Return whether all that a function does is to multiply its two arguments, as a @ b does.

    They have up to two dimensions.
    """
    from precsim.transform.jaxprs import inner_jaxprs, opened

    if len(args) != 2 or not all(map(is_array, args)):
        return False
    program = opened(_program(fun, tuple(args)))
    while len(program.eqns) == 1:
        eqn = program.eqns[0]
        if list(eqn.invars) != list(program.invars) or eqn.outvars != program.outvars:
            return False
        inner = list(inner_jaxprs(eqn))
        if len(inner) != 1:
            dimensions = [atom.aval.ndim for atom in eqn.invars]
            return eqn.primitive.name == "dot_general" and _is_matmul(eqn.params, dimensions)
        program = inner[0]
    return False


def _is_matmul(params: Any, dimensions: Sequence[int]) -> bool:
    contracted, batch = params["dimension_numbers"]
    last = dimensions[0] - 1, max(dimensions[1] - 2, 0)
    is_plain = tuple(map(tuple, contracted)) == ((last[0],), (last[1],))
    return is_plain and not any(batch) and max(dimensions) <= 2


def _compiled(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function compiled for the arrays among its arguments."""

    def run(*args: Any) -> Any:
        import jax

        from precsim.transform.tracing import flattened

        flat = flattened(fun, args, {})
        return jax.jit(flat.fun)(*flat.arrays)

    return run


def _program(fun: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    import jax

    from precsim.transform.tracing import flattened

    try:
        flat = flattened(fun, args, {})
        return jax.make_jaxpr(flat.fun)(*flat.arrays)
    except (TypeError, jax.errors.JAXTypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TypeError(
            f"fun is {shown(fun)}; allowed are products and functions that JAX can trace: {reason}"
        ) from None


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
    for name in ("mi300x:bf16", "mi300x:fp16"):
        yield products_by(name), f"products of {name} matrix units"
    yield "fp8_current", "products of scaled 8-bit operands"


def _orders() -> Iterator[tuple[str, str]]:
    for order in ("sequential", "pairwise"):
        products = products_by(f"fp32_fp32_fp32:{order}")
        yield f"{products},order={order},fn=portable", f"float32, all sums {order}"
