"""The interpreter: a program of JAX, equation by equation, each by the rule of its primitive."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precsim.formats.registry import get_format
from precsim.transform import jaxprs
from precsim.transform.identity import runs_as_it_is
from precsim.transform.operation import COMPLEX_RULES, RULES, Context, Operation
from precsim.transform.policy import Policy
from precsim.transform.rounded import Place, nearest_value
from precsim.transform.scopes import kind_of
from precsim.transform.treatment import How
from precsim.transform.values import Value, has_all_of, is_float, rounds_nothing

_FP32 = get_format("fp32")


def evaluate(program: Any, operands: Sequence[Value], context: Context) -> list[Value]:
    """Return the results of a program (a jaxpr, closed or not), in the dtypes that it says."""
    results = interpret(program, operands, context)
    return [
        declared(v, atom) for v, atom in zip(results, jaxprs.opened(program).outvars, strict=True)
    ]


def declared(value: Value, atom: Any) -> Value:
    """Return a value in the dtype that a program gives it."""
    if not _has_dtype(atom) or not is_float(atom.aval) or value.array.dtype == atom.aval.dtype:
        return value
    return value._replace(array=jnp.asarray(value.array, atom.aval.dtype))


def interpret(program: Any, operands: Sequence[Value], context: Context) -> list[Value]:
    """Return the results of a program, in the dtypes in which its operations leave them."""
    jaxpr = jaxprs.opened(program)
    known: dict[Any, Value] = {}
    for variable, constant in zip(jaxpr.constvars, getattr(program, "consts", ()), strict=True):
        known[variable] = _constant(constant)
    known.update(zip(jaxpr.invars, operands, strict=True))

    def read(atom: Any) -> Value:
        if jaxprs.is_variable(atom):
            return known[atom]
        return _constant(np.asarray(atom.val, atom.aval.dtype))

    users = jaxprs.only_users(jaxpr)
    for n, eqn in enumerate(map(ruled, jaxpr.eqns)):
        here, names = context_of(eqn, n, context)
        user = users.get(eqn.outvars[0], "") if eqn.outvars else ""
        op = Operation(here, eqn, list(map(read, eqn.invars)), user)
        with jax.named_scope(names) if names else nullcontext():
            results = (context.compute or apply)(op)
        known.update(zip(eqn.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def ruled(eqn: Any) -> Any:
    """Return an equation, or one that does the same by operations that have rules."""
    name = eqn.primitive.name
    return eqn if name in RULES or name in COMPLEX_RULES else jaxprs.spelled_out(eqn)


def evaluate_function(
    fun: Callable[..., Any], operands: Sequence[Value], context: Context
) -> list[Value]:
    """Return the results of a function of arrays under a context."""
    program = jax.make_jaxpr(fun)(*[value.array for value in operands])
    return evaluate(program, operands, context)


def _constant(array: Any) -> Value:
    """Return a constant of a program; of a single number it is known which."""
    is_single = isinstance(array, (np.ndarray, np.generic)) and array.ndim == 0
    number = float(array) if is_single and is_float(array) else None
    return Value(array, None, number)


def context_of(eqn: Any, n: int, context: Context) -> tuple[Context, str]:
    """Return the context of an equation, and the names that it adds to the scope around."""
    names, is_backward = jaxprs.scope_of(eqn.source_info.name_stack)
    scope = "/".join(filter(None, (context.scope, names, _kind(eqn, context.policy))))
    is_backward = is_backward or context.is_backward
    path = f"{context.path}/{n}"
    return replace(context, scope=scope, path=path, is_backward=is_backward), names


def _kind(eqn: Any, policy: Policy) -> str:
    """Return the library's function for a softmax or a normalisation, where the policy asks."""
    if policy.softmax is None and policy.normalisation is None:
        return ""
    called = jaxprs.library_functions(eqn.source_info.traceback)
    return next((name for name in reversed(called) if kind_of(name)), "")


def apply(op: Operation) -> list[Value]:
    """Return the results of one operation."""
    has_programs = next(jaxprs.inner_jaxprs(op.eqn), None) is not None
    if has_programs and runs_as_it_is(op):
        return op.as_it_is()
    rule = RULES.get(op.name)
    dtypes = _dtypes(op)
    kinds = [jnp.issubdtype(dtype, jnp.inexact) for dtype in dtypes]
    if not any(kinds) and not (has_programs and rule is not None):
        op.record(How.EXEMPT)
        return op.as_it_is()
    is_complex = any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes)
    if is_complex:
        rule = COMPLEX_RULES.get(op.name, rule if has_programs else None)
    if rule is not None and has_programs:
        return rule(op)
    if rule is not None:
        with jax.named_scope(op.name):  # around what it takes to emulate it
            return rule(op)
    return without_rule(op)


def _dtypes(op: Operation) -> list[Any]:
    """Return the dtypes of the operands and results."""
    return [atom.aval.dtype for atom in (*op.eqn.invars, *op.eqn.outvars) if _has_dtype(atom)]


def _has_dtype(atom: Any) -> bool:
    return hasattr(atom.aval, "dtype")


def without_rule(op: Operation) -> list[Value]:
    """Leave, refuse or round an operation for which there is no rule."""
    spec = op.spec
    carried = [d for d in _dtypes(op) if jnp.issubdtype(d, jnp.floating)]
    is_left = has_all_of(spec.format, _FP32) and all(rounds_nothing(spec, d) for d in carried)
    if is_left or not any(_is_inexact(atom) for atom in op.eqn.outvars):
        op.record(How.AS_IS)
        return op.as_it_is()
    op.record(How.UNKNOWN, spec)
    if op.context.strict:
        raise NotImplementedError(_refusal(op))
    return [_parts_rounded(op, value, n) for n, value in enumerate(op.as_it_is())]


def _is_inexact(atom: Any) -> bool:
    return _has_dtype(atom) and bool(jnp.issubdtype(atom.aval.dtype, jnp.inexact))


def _parts_rounded(op: Operation, value: Value, n: int) -> Value:
    """Round what the platform computed: of complex numbers both parts."""
    y = value.array
    if is_float(y):
        return op.rounded(y, op.spec, n)
    if jnp.issubdtype(y.dtype, jnp.complexfloating):
        parts = (
            nearest_value(part, op.spec, Place(op.context.key, f"{op.context.path}/{name}"))
            for name, part in (("real", y.real), ("imaginary", y.imag))
        )
        return value._replace(array=jax.lax.complex(*parts))
    return value


def _refusal(op: Operation) -> str:
    line = op.line or jaxprs.NOWHERE
    dtypes = ", ".join(dict.fromkeys(str(v.array.dtype) for v in op.operands))
    return (
        f"'{op.name}' of {dtypes} at {line} has no rule to emulate it in '{op.spec}'; allowed are a rule "
        f"of your own (precsim.register_rule({op.name!r}, ...)), strict=False, which rounds its float32 "
        "result, or a rule of the policy that leaves its scope in fp32"
    )
