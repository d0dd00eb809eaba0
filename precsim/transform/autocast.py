"""`autocast`: a function as it is, its products by the platform's kernels for narrow operands.

The operations are in three lists, as in PyTorch's autocast: products run in the narrow dtype of the
policy, what adds many numbers or is sensitive to rounding in the program's own dtype, and the rest
in the widest dtype of its operands.
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim.formats.arguments import integer
from precsim.products.native.hlo import Kernel, read_kernels
from precsim.products.native.stored import DTYPES
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec
from precsim.transform import jaxprs
from precsim.transform.emulate import run
from precsim.transform.interpreter import declared, interpret
from precsim.transform.native_products import BF16, FLOAT8, float8_dot_general, has_kernel
from precsim.transform.operation import RULES, Context, Operation
from precsim.transform.policy import Policy
from precsim.transform.rules.control import CALLS, called_program
from precsim.transform.scopes import kind_of
from precsim.transform.tracing import check_function, flattened
from precsim.transform.values import Origin, Value, common_origin, is_float

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PRODUCTS = frozenset(["dot_general", "conv_general_dilated", "ragged_dot_general"])
_HOLDING = frozenset(
    [
        *("custom_vmap_call", "custom_jvp_call", "custom_vjp_call", "cond", "scan", "while"),
        *("remat2", "checkpoint", "remat", "shard_map"),
    ]
)
"""Operations that hold programs: what enters and leaves them has the dtypes of the program."""
_WIDEST = frozenset(
    [
        *("add", "add_any", "mul", "square", "integer_pow", "neg", "abs", "sign", "max", "min"),
        *(
            "one_minus_square",
            "tanh",
            "logistic",
            "erf",
            "clamp",
            "select_n",
            "floor",
            "ceil",
            "round",
            "is_finite",
        ),
        *("eq", "ne", "lt", "le", "gt", "ge", "argmax", "argmin", "reduce_max", "reduce_min"),
        *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "rev", "copy"),
        *("slice", "dynamic_slice", "dynamic_update_slice", "gather", "concatenate", "pad"),
        *("split", "copy_p", "name", "stop_gradient", "optimization_barrier"),
        *("sharding_constraint", "reduce_window_max", "all_gather", "all_to_all", "ppermute"),
    ]
)
"""Operations that are no more sensitive than the products around. All others but products run in
the program's own dtypes: subtractions, divisions, sums, exponentials, logarithms, powers, roots,
linear algebra, and what is not known here."""
_MOVES = frozenset(["broadcast_in_dim", "reshape", "squeeze", "copy", "transpose"])


def autocast(
    fun: Callable[Parameters, Result],
    policy: str | Policy = "bf16_mixed",
    *,
    params: int | None = 0,
) -> Callable[Parameters, Result]:
    """Return a function whose products run on the platform's kernels for narrow operands.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays, usually in float32: a model, a loss, a training step.
    policy : str or Policy
        Its products' operand formats count, of each scope: bf16, fp16, e4m3 and e5m2 are narrow,
        and fp32 leaves a product as it is.
    params : int, optional
        Which argument holds the weights; None: no argument.

    Returns
    -------
    callable
        It has the signature of `fun` and results of the same dtypes. Under jit it is as fast as if
        the casts were written by hand.

    Raises
    ------
    ValueError
        If a format of the policy's products is none of those. When it is called: if the platform
        has no kernel for it, or a rule of the policy matches no scope.

    Warns
    -----
    UserWarning
        If the policy asks for 8 bits and the platform has no such kernel, or the product is a
        convolution: it runs in bf16.

    Notes
    -----
    There are three lists of operations, as in PyTorch's autocast.

    * Products: operands and result have the narrow dtype. The platform accumulates, in float32 on
      CPUs and GPUs. Products of 8-bit operands are scaled by powers of two, per tensor; their
      cotangents are e5m2, and their results bf16.
    * Additions, multiplications, maxima, tanh and the logistic function, and what moves numbers:
      the widest dtype among the operands. Weights take the dtype of the activations that they
      meet, and so do constants of one number.
    * All else runs in the program's dtypes: subtractions, divisions, reductions, exponentials,
      logarithms, powers, roots; what a scope marks as a softmax or a normalisation; optimizers.

    Weights keep their dtype: casts are inside, and gradients of float32 weights are float32.
    Functions with derivatives of their own keep them, and these run as they are. What enters and
    leaves such functions, loops, branches, `jax.checkpoint` and `shard_map` has the program's
    dtypes; inside, this function works on. Products of float64 are left, and those whose
    `jax.lax.DotAlgorithmPreset` the program names.

    Each product has an error of at most ``2 u + gamma(k, 2**-24)``, relative to the sum of the
    magnitudes of its k terms, plus u of the result, where u is the unit roundoff of the narrow
    format (2**-8 for bf16), as long as nothing overflows. ``ps.emulate(fun, policy)`` shows what
    such errors do to the whole; `kernels.which_kernel` and `kernels.measure_gain` show what ran.
    fp16 needs loss scaling: `value_and_grad` of this function has it.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, precsim as ps
    >>> w, x = jnp.full((2, 2), 1 / 3), jnp.ones((2, 2))
    >>> model = lambda w, x: jnp.sum(x @ w)
    >>> fast = jax.jit(ps.autocast(model, "bf16_mixed"))
    >>> float(fast(w, x)), jax.grad(fast)(w, x).dtype
    (2.671875, dtype('float32'))
    """
    policy = Policy.parse(policy)
    check_function(fun)
    for each in (policy, *(rule.policy for rule in policy.rules)):
        for spec in (each.forward, each.dgrad, each.wgrad):
            _check_operands(spec)
    if params is not None:
        params = integer(params, "params", 0)

    @wraps(fun)
    def cast_inside(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        key = jax.random.key(0)
        context = Context(policy=policy, backend="native", strict=False, key=key, compute=_compute)
        return cast("Result", run(fun, args, kwargs, params, context))

    return cast_inside


def _dtype(part: RoundingSpec | None) -> Any:
    """Return the narrow dtype of an operand; None for float32 and what is not rounded."""
    dtype = None if part is None else np.dtype(DTYPES[part.format])
    return None if dtype == np.float32 else dtype


def _check_operands(spec: MatmulSpec) -> None:
    for name, part in (("lhs", spec.lhs), ("rhs", spec.rhs)):
        if part is not None and part.format not in DTYPES:
            names = ", ".join(str(fmt) for fmt in DTYPES)
            raise ValueError(f"{name} of '{spec}' is '{part}'; native kernels have {names}")
    left, right = _dtype(spec.lhs), _dtype(spec.rhs)
    if left != right and not {left, right} <= set(FLOAT8):
        raise ValueError(f"operands of '{spec}' differ; native kernels have two of one width")


def _compute(op: Operation) -> list[Value]:
    """Return the results of one operation, in the dtypes of its list."""
    name = op.name
    called = str(op.params.get("name", "")) if name in CALLS else ""
    if name in CALLS and not called.startswith("precsim."):
        with jax.named_scope(called) if called else nullcontext():
            return interpret(called_program(op.eqn), op.operands, op.inside(called))
    if name in _HOLDING:
        entering = _declared(op)
        bare = [Value(value.array, origin=value.origin) for value in entering]
        return RULES[name](replace(op, operands=bare))
    if name in _PRODUCTS:
        return _product(op)
    if name == "convert_element_type" and op.eqn.invars[0].aval.dtype == op.params["new_dtype"]:
        return op.operands  # of a weak type only
    if name == "convert_element_type" or not any(is_float(v.array) for v in op.operands):
        return op.as_it_is()
    if name in _WIDEST and kind_of(op.context.scope) is None:
        return _in_widest(op)
    return _bound(op, [value.array for value in _declared(op)])


def _declared(op: Operation) -> list[Value]:
    """Return the operands in the dtypes of the program."""
    return [declared(v, atom) for v, atom in zip(op.operands, op.eqn.invars, strict=True)]


def _bound(op: Operation, arrays: list[Any]) -> list[Value]:
    origin = common_origin(op.operands, is_backward=op.context.is_backward)
    return [Value(y, origin=origin) for y in op.bind(*arrays)]


def _in_widest(op: Operation) -> list[Value]:
    """Run an operation in the widest dtype among the operands that have a say."""
    floats = [v for v in op.operands if is_float(v.array)]
    dtype = _widest(floats)
    if dtype is None:
        results = _bound(op, [value.array for value in _declared(op)])
        constant = floats[0].constant if op.name in _MOVES else None
        return [value._replace(constant=constant) for value in results]
    arrays = [jnp.asarray(v.array, dtype) if is_float(v.array) else v.array for v in op.operands]
    return _bound(op, arrays)


def _widest(floats: list[Value]) -> Any:
    """Return the widest dtype of activations, or of all if there are cotangents; else None.

    Weights take the dtype of activations, but not that of gradients, which update them.
    """
    varying = [v for v in floats if v.constant is None]
    if any(v.origin is Origin.ACTIVATIONS for v in varying):
        deciding = [v for v in varying if v.origin is not Origin.WEIGHTS]
    else:
        deciding = varying
    return jnp.result_type(*[v.array.dtype for v in deciding]) if deciding else None


def _product(op: Operation) -> list[Value]:
    """Multiply operands of the narrow dtype."""
    left, right = op.operands[:2]
    spec = op.policy.forward
    dtype = _dtype(spec.lhs)
    atoms = [*op.eqn.invars[:2], op.eqn.outvars[0]]
    is_named = isinstance(op.params["precision"], (lax.DotAlgorithm, lax.DotAlgorithmPreset))
    if dtype is None or is_named or not all(_is_float32_or_narrower(atom) for atom in atoms):
        return _bound(op, [value.array for value in _declared(op)])
    if dtype in FLOAT8:
        if op.name == "dot_general" and has_kernel(dtype):
            dtypes = tuple(_float8_of(v, part) for v, part in ((left, spec.lhs), (right, spec.rhs)))
            numbers = op.params["dimension_numbers"]
            y = float8_dot_general(left.array, right.array, numbers, dtypes)
            return _result(op, [y])
        warnings.warn(_statement(op), UserWarning, stacklevel=2)
        dtype = BF16
    if not has_kernel(dtype):
        raise ValueError(
            f"{op.name} at {op.line or jaxprs.NOWHERE} has operands in {dtype} under the policy; "
            f"{jax.default_backend()} has no kernel for them, allowed is a rule that leaves its scope in fp32"
        )
    eqn = op.eqn.replace(params=op.params | {"preferred_element_type": np.dtype(dtype)})
    arrays = [jnp.asarray(v.array, dtype) for v in (left, right)]
    return _result(op, jaxprs.bind(eqn, [*arrays, *(v.array for v in op.operands[2:])]))


def _result(op: Operation, arrays: list[Array]) -> list[Value]:
    origin = common_origin(op.operands, is_backward=op.context.is_backward)
    return [Value(y, origin=origin) for y in arrays]


def _is_float32_or_narrower(atom: Any) -> bool:
    return is_float(atom.aval) and atom.aval.dtype.itemsize <= 4


def _float8_of(value: Value, part: RoundingSpec | None) -> Any:
    """Return the dtype of an operand: cotangents need the range of e5m2."""
    return FLOAT8[1] if value.origin is Origin.COTANGENTS else _dtype(part)


def _statement(op: Operation) -> str:
    reason = (
        "no convolution of 8-bit operands is known here"
        if op.name != "dot_general"
        else f"{jax.default_backend()} has no kernel for 8-bit operands"
    )
    return f"{op.name} at {op.line or jaxprs.NOWHERE} runs in bf16: {reason}"


class Gain(NamedTuple):
    """What `autocast` gains here.

    Examples
    --------
    >>> import precsim as ps
    >>> print(ps.kernels.Gain("bf16_mixed", "cpu", 0.002, 0.001, (), ()))
    bf16_mixed on cpu: 2.00x the speed of the function as it is (2 ms, now 1 ms); products: none
    """

    policy: str
    """Name of the policy."""
    platform: str
    """What JAX runs on."""
    before: float
    """Seconds of the function as it is."""
    after: float
    """Seconds under `autocast`."""
    kernels_before: tuple[Kernel, ...]
    """Its products, as compiled."""
    kernels: tuple[Kernel, ...]
    """The products under `autocast`."""

    @property
    def ratio(self) -> float:
        """How many times as fast it is."""
        return self.before / self.after

    def __str__(self) -> str:
        """Return one line."""
        kinds = Counter(f"{k.kind} -> {k.result.partition('[')[0]}" for k in self.kernels)
        products = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
        return (
            f"{self.policy} on {self.platform}: {self.ratio:.2f}x the speed of the function as it "
            f"is ({1e3 * self.before:.3g} ms, now {1e3 * self.after:.3g} ms); products: {products}"
        )


def measure_gain(
    fun: Callable[..., Any], policy: str | Policy, /, *args: Any, repeats: int = 5
) -> Gain:
    """Measure what `autocast` gains on this machine.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays. Both it and ``autocast(fun, policy)`` are compiled.
    policy : str or Policy
        As of `autocast`.
    *args : pytree of arrays
        Arguments of the calls.
    repeats : int
        Calls of each, in turn; the fastest one counts.

    Returns
    -------
    Gain
        Times, and the kernels of the products before and after. Printed, it is one line.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> ones = jnp.ones((8, 8))
    >>> gain = ps.kernels.measure_gain(jnp.matmul, "bf16_mixed", ones, ones)
    >>> gain.platform, gain.ratio > 0
    ('cpu', True)
    """
    policy = Policy.parse(policy)
    repeats = integer(repeats, "repeats", 1)
    compiled = []
    for each in (fun, autocast(fun, policy)):
        flat = flattened(each, args, {})
        program = jax.jit(flat.fun).lower(*flat.arrays).compile()
        compiled.append((program, flat.arrays))
    seconds: list[list[float]] = [[], []]
    for _ in range(repeats + 1):
        for found, (program, arrays) in zip(seconds, compiled, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(program(*arrays))  # type: ignore[no-untyped-call]
            found.append(time.perf_counter() - start)
    before, after = (min(found[1:]) for found in seconds)
    kernels = [read_kernels(program.as_text() or "") for program, _ in compiled]
    return Gain(policy.name, jax.default_backend(), before, after, *kernels)
