"""Exponents of everything that comes back in a backward pass, counted in the same pass.

A probe changes nothing: an array passes through it, and in the backward pass its cotangent does.
Gradients are the one channel that leads out of a backward pass, so the counts leave it as the
gradient of the probe, where loops and batches add them up by themselves.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim._arrays import Array
from precsim.analysis.ranges import exponent_histogram
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.round_to import round_to
from precsim.rounding.spec import RoundingSpec
from precsim.transform import jaxprs
from precsim.transform.emulate import run
from precsim.transform.interpreter import apply
from precsim.transform.operation import Context, Operation
from precsim.transform.policy import Policy, Rule
from precsim.transform.values import Value, is_float

EXPONENTS = np.arange(-149, 128)
"""Of float32 numbers: the columns of the counts. One more column has infinities and NaN."""

_SIZE = EXPONENTS.size + 1
_WIDE_BITS = 8


def exponent_counts(x: Array, precision: int) -> Array:
    """Return how many elements, rounded to this many bits, have each exponent: shape (278,).

    Zeros are left out.
    """
    wide = f"float(e={_WIDE_BITS},p={precision})"
    rounded = round_to(x.astype(jnp.float32), wide) if precision < 24 else x.astype(jnp.float32)
    found = exponent_histogram(rounded)
    return jnp.concatenate([found.counts, jnp.reshape(found.nonfinite, (1,))]).astype(jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _probed(x: Array, probe: Array, precision: int) -> Array:
    return x


def _forward(x: Array, probe: Array, precision: int) -> tuple[Array, None]:
    return x, None


def _backward(precision: int, _: None, g: Array) -> tuple[Array, Array]:
    return g, exponent_counts(g, precision)


_probed.defvjp(_forward, _backward)


def counted_gradient(
    loss_fn: Callable[..., Array], policy: Policy, precision: int
) -> Callable[..., tuple[Array, Any, dict[str, Array]]]:
    """Return f(params, *args): the loss, its gradient, and counts of exponents by place.

    Places are the parameters, by path, and the operations of the emulated function, by scope; their
    cotangents are counted, rounded to a precision.
    """

    def gradient(params: Any, *args: Any) -> tuple[Array, Any, dict[str, Array]]:
        def loss(params: Any, probes: dict[str, Array], seen: dict[str, Array]) -> Array:
            def through(name: str, x: Array) -> Array:
                zeros = jnp.zeros(_SIZE, jnp.float32)
                seen[name] = zeros
                return _probed(x, probes.get(name, zeros), precision)

            flat, tree = jax.tree_util.tree_flatten_with_path(jax.tree.map(jnp.asarray, params))
            leaves = [through(_path(path), x) if is_float(x) else x for path, x in flat]
            context = Context(
                policy=policy,
                backend="auto",
                strict=False,
                key=jax.random.key(0),
                compute=partial(_compute, through),
            )
            watched: Array = run(loss_fn, (jax.tree.unflatten(tree, leaves), *args), {}, 0, context)
            return watched

        # A pass over shapes finds the places.
        probes: dict[str, Array] = {}
        jax.eval_shape(lambda params: loss(params, {}, probes), params)
        zeros = {name: jnp.zeros(_SIZE, jnp.float32) for name in probes}
        both = jax.value_and_grad(lambda params, zeros: loss(params, zeros, {}), argnums=(0, 1))
        value, (grads, counts) = both(params, zeros)
        return value, grads, counts

    return gradient


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "parameters"


def _compute(through: Callable[[str, Array], Array], op: Operation) -> list[Value]:
    """Return the results of an operation, with probes on those that were computed."""
    results = apply(op)
    if op.name in jaxprs.MOVES or next(jaxprs.inner_jaxprs(op.eqn), None) is not None:
        return results
    place = f"{op.scope}/{op.name}".lstrip("/") + f" at {op.context.path.lstrip('/')}"
    return [
        value._replace(array=through(f"{place}.{n}" if n else place, value.array))
        if is_float(value.array)
        else value
        for n, value in enumerate(results)
    ]


def widened(policy: Policy) -> Policy:
    """Return a policy with the precisions of another one and the exponents of float32.

    What it computes is scaled exactly where a loss is scaled by a power of two, so one pass tells
    what any scale does. Fixed-point formats, formats with scales, and the fixed exponents inside
    tensor cores stay.
    """
    part = partial(_widened, keep=("params", "update", "optimizer_state", "name", "rules"))
    rules = tuple(Rule(rule.scope, part(rule.policy)) for rule in policy.rules)
    wide: Policy = replace(part(policy), rules=rules, loss_scale="none")
    return wide


def _widened(value: Any, *, keep: tuple[str, ...] = ()) -> Any:
    """Widen the formats in the fields of a policy or of a product."""
    changed = {}
    for name in value.__dataclass_fields__:
        part = getattr(value, name)
        if name in keep:
            continue
        if isinstance(part, RoundingSpec):
            changed[name] = _wide(part)
        elif isinstance(part, MatmulSpec) and not hasattr(part.order, "fraction_bits"):
            changed[name] = _widened(part)
    return replace(value, **changed)


def _wide(spec: RoundingSpec) -> RoundingSpec:
    fmt = spec.format
    if not isinstance(fmt, FloatFormat) or (fmt.exponent_bits or _WIDE_BITS) >= _WIDE_BITS:
        return spec
    wide: Any = get_format(f"float(e={_WIDE_BITS},p={fmt.precision})")
    return RoundingSpec(format=wide, mode=spec.mode)
