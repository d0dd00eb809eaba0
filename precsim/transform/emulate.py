"""`emulate`: any JAX function under a policy."""

import importlib
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives

from precsim._arrays import Array
from precsim.formats.arguments import integer, shown
from precsim.products.backends import BACKENDS
from precsim.transform import jaxprs
from precsim.transform.interpreter import evaluate
from precsim.transform.operation import Context
from precsim.transform.policy import Policy
from precsim.transform.rounded import Place, nearest_value
from precsim.transform.scopes import matches
from precsim.transform.tracing import check_function, flattened
from precsim.transform.values import Origin, Value, is_float, is_known, rounds_nothing, widened

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

for _kind in (
    "control",
    "derivatives",
    "elementwise",
    "functions",
    "movement",
    "products",
    "sums",
    "linear_algebra",
    "complex_numbers",
):
    importlib.import_module(f"precsim.transform.rules.{_kind}")


def emulate(
    fun: Callable[Parameters, Result],
    policy: str | Policy,
    *,
    strict: bool = True,
    backend: str = "auto",
    params: int | None = 0,
    seed: int | np.integer[Any] | Array = 0,
) -> Callable[Parameters, Result]:
    """Return a function that computes what another one does, every operation under a policy.

    Parameters
    ----------
    fun : callable
        A function that JAX can trace, of pytrees: a model, a loss, a training step, a solver.
        Arguments that are no arrays (numbers and strings of Python, functions) stay as they are.
    policy : str or Policy
        A preset ("bf16", "fp16_mixed", "h100_bf16"), a format ("e4m3:saturate", "bf16:sr"),
        settings ("fwd=e4m3_e4m3_fp32,e=bf16"), with rules for scopes ("bf16;head:fp32"). Its
        updates, optimizer state and loss scale are for trainings.
    strict : bool
        Whether an operation without a rule is refused, with its source line. If not, the platform
        computes it and the result is rounded.
    backend : {"auto", "emulated", "native"}
        "auto": products have the bits of their specs; one whose spec rounds nothing (float32
        operands, float32 sums, in float32 programs) is the program's own. "emulated": all products
        follow the order of their specs. "native": operands are rounded, and the platform's own
        kernels multiply them and add up in float32, in their order.
    params : int, optional
        Position of the argument that holds the parameters, as `argnums` of `jax.grad`. It decides
        which operand of a product is the weight, and so which of `dgrad` and `wgrad` is whose.
    seed : int or jax.Array
        Seed or key of the random bits of stochastic rounding.

    Returns
    -------
    callable
        A function with the same signature, for `jax.jit`, `grad`, `vmap`, `scan`, `checkpoint`,
        `shard_map` and all others. Results keep their dtypes, and are weakly typed where those of
        `fun` are. What is computed is of the policy's formats; what was only moved or chosen may
        not have been rounded yet (``out=`` of a policy rounds all results).

    Raises
    ------
    ValueError
        If the policy is unknown, or, at the call, if one of its rules matches no scope.
    TypeError
        If `fun` cannot be called.
    NotImplementedError
        At the call, if `strict` and an operation has no rule, as calls of the host have none.

    Notes
    -----
    Operands and constants are first brought to the format of an operation, then its exact result is
    rounded once: additions, products, quotients, roots; functions of one variable where that is
    proved (formats of up to 16 bits to nearest), otherwise computed in float32, then rounded. The
    partial sums of reductions are rounded in the order of the policy ("pairwise" by default).
    Cholesky, LU and QR factors and triangular solves are computed by textbook algorithms, each
    operation rounded; eigenvalues and singular values in float32, then rounded.
    Moving, choosing and comparing numbers is exact. Under ``fn=platform``, numbers below 2**-126
    may count as 0 in formats that have such; ``fn=portable`` is exact there too, and slower.
    `coverage` lists what becomes of each operation.

    ``grad(emulate(f))`` rounds the cotangent of each operation by the elementwise spec and computes
    products by `dgrad` and `wgrad`; rules of `custom_jvp` run as they are, those of `custom_vjp`
    are emulated. ``emulate(grad(f))`` rounds every operation that JAX derives, of which there are
    more. Both keep float32 where the policy says so. Forward-mode tangents are not rounded.

    Random bits depend on the seed, the place in the program and the turn of a loop: the same under
    `jit`, `vmap` and recomputation. The samplers of `jax.random` are not emulated.

    Cost: the function is traced at each call, so put `jax.jit` around it. A rounding is about 20
    integer operations; products cost what `matmul` says.

    Source: Figueroa, "When is double rounding innocuous?", SIGNUM 30(3), 1995.

    Examples
    --------
    The squares need 14 significant bits, of which bfloat16 has 8:

    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> def variance(x):
    ...     return jnp.mean(x**2) - jnp.mean(x) ** 2
    >>> x = 100 + jnp.arange(8.0)
    >>> [float(jax.jit(ps.emulate(variance, policy))(x)) for policy in ("fp32", "bf16")]
    [5.25, 64.0]
    """
    policy = Policy.parse(policy)
    check_function(fun)
    if backend not in BACKENDS or backend == "reference":
        raise ValueError(f"backend is {shown(backend)}; allowed are 'auto', 'emulated', 'native'")
    if not isinstance(strict, bool):
        raise TypeError(f"strict is {shown(strict)}; allowed are True, False")
    if params is not None:
        params = integer(params, "params", 0)
    key = key_of(seed)

    @wraps(fun)
    def emulated(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if params and params >= len(args):
            raise ValueError(
                f"params is {params}; allowed are positions of the {len(args)} arguments"
            )
        context = Context(policy=policy, backend=backend, strict=strict, key=key)
        return cast("Result", run(fun, args, kwargs, params, context))

    return emulated


def key_of(seed: Any) -> Array:
    """Return the key of a seed, or a key as it is."""
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        with jax.ensure_compile_time_eval():  # the same key wherever the function is traced
            return jax.random.key(int(seed))
    dtype, shape = getattr(seed, "dtype", None), getattr(seed, "shape", None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.integer) and shape == ():
        return jax.random.key(seed)
    is_raw = dtype == np.uint32 and len(shape or ()) == 1
    if dtype is None or not (is_raw or jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        raise TypeError(f"seed is {shown(seed)}; allowed are an integer and a key of jax.random")
    return cast("Array", seed)


def run(
    fun: Callable[..., Any], args: Any, kwargs: Any, params: int | None, context: Context
) -> Any:
    """Trace a function for these arguments and evaluate its program under a context."""
    traced = trace(fun, args, kwargs, params)
    check_rules(context.policy, traced.program)
    values = evaluate(traced.program, traced.values(), context)
    atoms = jaxprs.opened(traced.program).outvars
    results = [
        _with_weak_type_of(atom.aval, output(value, context, n))
        for n, (atom, value) in enumerate(zip(atoms, values, strict=True))
    ]
    return jax.tree.unflatten(jax.tree.structure(traced.shape), results)


def _with_weak_type_of(aval: Any, y: Array) -> Array:
    """Return a result that is as ready as the program's own to take another's dtype."""
    is_weak = getattr(aval, "weak_type", False)
    if not hasattr(aval, "dtype") or jax.typeof(y).weak_type == is_weak:  # a key has no weak type
        return y
    options = {"new_dtype": y.dtype, "weak_type": is_weak, "sharding": None}
    return jnp.asarray(primitives.convert_element_type_p.bind(y, **options))


class Traced(NamedTuple):
    """The program of a function, for certain arguments."""

    program: Any
    shape: Any
    """Of the result, as `jax.eval_shape` gives it."""
    arrays: list[Any]
    """The arguments that are arrays."""
    origins: list[Origin]
    """What each of them is."""

    def values(self) -> list[Value]:
        """Return the arguments as values of the program."""
        pairs = zip(self.arrays, self.origins, strict=True)
        return [Value(jnp.asarray(x), None, None, origin) for x, origin in pairs]


def trace(fun: Callable[..., Any], args: Any, kwargs: Any, params: int | None) -> Traced:
    """Return the program of a function for these arguments."""
    weights = _are_weights(args, kwargs, params)
    flat, arrays, is_array = flattened(fun, args, kwargs)
    program, shape = jax.make_jaxpr(flat, return_shape=True)(*arrays)
    flags = [w for w, yes in zip(weights, is_array, strict=True) if yes]
    origins = [Origin.WEIGHTS if w else Origin.ACTIVATIONS for w in flags]
    return Traced(program, shape, arrays, origins)


def _are_weights(args: Any, kwargs: Any, params: int | None) -> list[bool]:
    """Return, for each leaf of the arguments, whether it belongs to the parameters."""
    flags = [jax.tree.map(lambda _, n=n: n == params, arg) for n, arg in enumerate(args)]
    others = jax.tree.map(lambda _: False, kwargs)
    return cast("list[bool]", jax.tree.leaves((tuple(flags), others)))


def output(value: Value, context: Context, n: int) -> Array:
    """Return a result of the whole function, rounded to the policy's format for those."""
    spec, y = context.policy.output, value.array
    if spec is None or not is_float(y) or rounds_nothing(spec, y.dtype):
        return jnp.asarray(y)
    if is_known(value, spec.format):
        return jnp.asarray(y)
    return nearest_value(widened(y), spec, Place(context.key, f"output {n}")).astype(y.dtype)


def check_rules(policy: Policy, program: Any) -> None:
    """Refuse a policy with a rule that matches no scope of a program."""
    if not policy.rules:
        return
    found = sorted(set(jaxprs.scopes(program)))
    for rule in policy.rules:
        if not any(matches(rule.scope, scope) for scope in found):
            named = [scope for scope in found if scope]
            listed = ", ".join(map(repr, named[:20])) + (", ..." if len(named) > 20 else "")
            raise ValueError(
                f"rule {rule.scope!r} of the policy matches no scope; allowed here are "
                f"{listed or 'none: the function has no named scopes'}"
            )
