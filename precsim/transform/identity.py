"""Where a policy rounds nothing: there a program's own operations run, bit for bit."""

import itertools
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from precsim.arithmetic.sums.order import SEQUENTIAL
from precsim.products.specs.spec import MatmulSpec
from precsim.transform import jaxprs
from precsim.transform.operation import Operation
from precsim.transform.policy import Policy
from precsim.transform.values import real_dtype, rounds_nothing

_FLOAT32 = frozenset([np.dtype(np.float32)])


def runs_as_it_is(op: Operation) -> bool:
    """Return whether nothing is rounded in the programs that an operation holds.

    Then the operation runs whole, which also keeps the order in which JAX adds up gradients.
    """
    context = op.context
    if context.records is not None or context.backend == "emulated":
        return False  # every operation is to be written down, or emulated
    policy, found = context.policy, {context.policy.at(context.scope)}
    if policy.rules and rounds_nothing_at_all(*found, _FLOAT32):
        found |= {policy.at(scope) for scope in jaxprs.inner_scopes(op.eqn, context.scope)}
    if not all(rounds_nothing_at_all(here, _FLOAT32) for here in found):
        return False
    dtypes = frozenset(_dtypes(op.eqn))
    return all(rounds_nothing_at_all(here, dtypes) for here in found)


@lru_cache(maxsize=256)
def rounds_nothing_at_all(policy: Policy, dtypes: frozenset[Any]) -> bool:
    """Return whether a policy without rules rounds no number of these real dtypes."""
    specs = (policy.elementwise, policy.reductions, policy.softmax, policy.normalisation)
    products = (policy.forward, policy.dgrad, policy.wgrad)
    return policy.functions != "portable" and all(
        all(spec is None or rounds_nothing(spec, dtype) for spec in specs)
        and all(leaves_products(spec, dtypes) for spec in products)
        for dtype in dtypes
    )


def leaves_products(spec: MatmulSpec, dtypes: Iterable[Any]) -> bool:
    """Return whether a product of the spec is the program's own: nothing is rounded to a format.

    The order of its sum is then the platform's.
    """
    parts = (spec.lhs, spec.rhs, spec.product, spec.adder, spec.accumulator, spec.output)
    return (
        spec.order == SEQUENTIAL
        and spec.rotation is None
        and all(part is None or rounds_nothing(part, dtype) for part in parts for dtype in dtypes)
    )


def _dtypes(eqn: Any) -> Iterable[Any]:
    """Yield the real dtypes of all numbers in an equation and in the programs that it holds."""
    inner = (e for program in jaxprs.inner_jaxprs(eqn) for e in jaxprs.equations(program))
    for each in itertools.chain([eqn], inner):
        for atom in (*each.invars, *each.outvars):
            dtype = getattr(atom.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.inexact):
                yield real_dtype(dtype)
