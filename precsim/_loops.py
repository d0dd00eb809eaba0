"""How arrays are computed under JAX: traced once, computed once, in loops; NumPy as it is."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from precsim._arrays import Array, is_jax, is_lax, on_plain_arrays

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
State = TypeVar("State")
"""An array, or a tuple of arrays, that a loop carries on."""


def traced_once(
    *static: str,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate a function of arrays and static arguments, which are named.

    JAX traces it once for each shape and each value of those, however often a program calls it.
    NumPy arrays take the function as it is.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @cache
        def traced() -> Callable[..., Result]:
            import jax

            from precsim._lax_arrays import with_lax

            return jax.jit(with_lax(function), static_argnames=static)

        @wraps(function)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            is_traced = any(map(is_jax, args))
            return (traced() if is_traced else function)(*args, **kwargs)

        return run

    return decorate


@on_plain_arrays
def computed_once(x: Array) -> Array:
    """Return an array as it is; XLA computes it once, whatever uses it.

    XLA's CPU compiler copies a cheap computation into each of its uses, compiles every copy and
    runs it. It cannot look through a condition.
    """
    if not is_jax(x):
        return x
    from jax import lax

    once: Array = by_platform(_once_on_cpu, lax.optimization_barrier, x)
    return once


def _once_on_cpu(x: Array) -> Array:
    from jax import lax

    apart: Callable[..., Any] = lax.optimization_barrier
    # In one dimension: a loop over the last of several is unrolled where that is short.
    flat: Array = lax.cond(apart(np.True_), apart, _same, x.reshape(-1))
    return flat.reshape(x.shape)


def _same(x: Array) -> Array:
    """Return an array as it is; always the same function, so that JAX compiles a call once."""
    return x


def by_platform(
    on_cpu: Callable[..., Result], elsewhere: Callable[..., Result], *arrays: Any
) -> Result:
    """Call one function for JAX arrays on a CPU and another elsewhere; one of them is compiled."""
    import jax

    if jax.default_backend() == "cpu":
        return on_cpu(*arrays)
    if any(map(is_lax, arrays)):
        from precsim._lax_arrays import plain, with_lax

        on_cpu, elsewhere, arrays = with_lax(on_cpu), with_lax(elsewhere), plain(arrays)
    # Arrays may be placed on the CPU beside a GPU, which only XLA knows.
    result: Result = jax.lax.platform_dependent(*arrays, cpu=on_cpu, default=elsewhere)
    return result


def repeat(
    count: int, body: Callable[[Any, State], State], state: State, *, unroll: int = 1
) -> State:
    """Apply ``state = body(k, state)`` for k = 0 .. count - 1.

    Under JAX this is one compiled loop, `unroll` steps at a time.
    """
    if count < 1:
        return state  # JAX would trace the body, which may take entries that do not exist
    leaves = state if isinstance(state, tuple) else (state,)
    if any(is_jax(x) for x in leaves):
        from jax import lax

        if any(map(is_lax, leaves)):
            from precsim._lax_arrays import loop_of

            body, state = loop_of(body, state)
        state = as_varying(lambda state: body(0, state), state)
        last: State = lax.fori_loop(0, count, body, state, unroll=unroll)
        return last
    for k in range(count):
        state = body(k, state)
    return state


class Fold(Protocol):
    """``state = body(k, state)`` for k = 0 .. count - 1: `repeat` or `unrolled`."""

    def __call__(self, count: int, body: Callable[[Any, State], State], state: State, /) -> State:
        """Return the last state."""


def unrolled(count: int, body: Callable[[Any, State], State], state: State) -> State:
    """Repeat in the program text: long to compile, and then one vectorised loop."""
    leaves = state if isinstance(state, tuple) else (state,)
    if count > 2 and any(map(is_jax, leaves)):
        import jax

        body = jax.jit(body)  # traced once
    for k in map(np.int32, range(count)):
        state = body(k, state)
    return state


def repeat_while(condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    """Apply ``state = body(state)`` as long as the condition holds; one compiled loop under JAX."""
    if any(is_jax(x) for x in state):
        from jax import lax

        if any(map(is_lax, state)):
            from precsim._lax_arrays import loop_of, plain

            body, state = loop_of(body, state)
            return lax.while_loop(lambda s: plain(condition(s)), body, as_varying(body, state))
        return lax.while_loop(condition, body, as_varying(body, state))
    while condition(state):
        state = body(state)
    return state


def as_varying(body: Callable[[Any], Any], state: Any) -> Any:
    """Inside `jax.shard_map`, let a loop's first values vary over the devices of `body`'s results.

    JAX wants that said where a loop starts from constants; outside of `shard_map` there is nothing
    to say.
    """
    import jax

    if not jax.sharding.get_abstract_mesh().manual_axes:
        return state
    while True:
        # What one value depends on, another may get in the next round.
        later = jax.eval_shape(body, state)
        axes = jax.tree.map(lambda x, y: tuple(sorted(devices_of(y) - devices_of(x))), state, later)
        if not any(jax.tree.leaves(axes)):
            return state
        state = jax.tree.map(lambda x, a: jax.lax.pcast(x, a, to="varying"), state, axes)


def devices_of(x: Any) -> frozenset[str]:
    """Return the axes of a mesh that an array, or the shape of one, varies over.

    There are none where JAX does not check.
    """
    import jax

    of_type = (x if isinstance(x, jax.ShapeDtypeStruct) else jax.typeof(x)).manual_axis_type
    return frozenset() if of_type is None else of_type.varying


def vary_alike(*arrays: Any) -> tuple[Any, ...]:
    """Inside `jax.shard_map`, let arrays vary over the devices that any of them varies over."""
    import jax

    every = frozenset().union(*map(devices_of, arrays))
    axes = [tuple(sorted(every - devices_of(x))) for x in arrays]
    return tuple(
        jax.lax.pcast(x, a, to="varying") if a else x for x, a in zip(arrays, axes, strict=True)
    )
