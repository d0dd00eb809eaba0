"""`strict`: refuse, when a function is traced, what loses precision without a word."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from precsim.formats.arguments import shown
from precsim.transform import jaxprs
from precsim.transform.tracing import check_function, flattened

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LOSSES = ("sum", "dot", "precision", "downcast", "promotion")

_SUMS = frozenset(
    [
        "reduce_sum",
        "reduce_prod",
        "reduce_window_sum",
        "cumsum",
        "cumprod",
        "cumlogsumexp",
        "scatter-add",
        "scatter_add",
        "scatter-mul",
        "scatter_mul",
        "select_and_scatter_add",
        "psum",
        "psum_invariant",
        "reduce_scatter",
    ]
)
_PRODUCTS = frozenset(["dot_general", "conv_general_dilated", "ragged_dot_general"])
_APPLYING = ("scatter", "reduce", "psum")
"""Operations that hold a program for two of their numbers, not for their operands."""
_CASTS = frozenset(["astype", "_astype", "asarray", "array", "convert_element_type"])
"""Functions of JAX whose name in the source says that the dtype changes."""
_PROMOTIONS = ("promote", "ufunc", "_operator_")
"""Parts of the names of what makes the dtypes of two operands equal."""
_DEFAULT = lax.Precision.DEFAULT
_DEFAULTS = (None, _DEFAULT, (_DEFAULT, _DEFAULT), lax.DotAlgorithmPreset.DEFAULT)


def strict(
    fun: Callable[Parameters, Result], *, allow: Iterable[str] = ()
) -> Callable[Parameters, Result]:
    """Return a function that refuses to be traced where it loses precision silently.

    Parameters
    ----------
    fun : callable
        A function of pytrees of arrays.
    allow : iterable of str
        Kinds of loss that are not refused: "sum", "dot", "precision", "downcast", "promotion".

    Returns
    -------
    callable
        It has the signature of `fun` and computes the same.

    Raises
    ------
    TypeError
        When it is traced and loses precision; a line for each place says what and where.
    ValueError
        If `allow` names another kind.

    Notes
    -----
    These are refused. They are found in the program that JAX traces, also inside jit, scan,
    while_loop, cond, checkpoint, shard_map and functions with derivatives of their own.

    * "sum": a sum, product or cumulative sum, or a scatter-add, whose partial results have fewer
      than 32 bits. `jnp.sum` and `jnp.mean` of bfloat16 add in float32 and pass; with
      ``dtype=jnp.bfloat16`` and in `jnp.cumsum` they do not.
    * "dot": a matrix product or convolution of narrow operands whose result is narrow and whose
      accumulator no argument names. ``preferred_element_type=jnp.float32`` or a
      `jax.lax.DotAlgorithmPreset` does.
    * "precision": a float32 product at default precision, which is TF32 or bfloat16 on
      accelerators. ``precision="highest"``, `jax.default_matmul_precision` or a preset changes it.
    * "downcast": a conversion to a narrower float that no line outside JAX asks for by `astype`,
      `asarray`, a dtype such as ``jnp.float16(x)``, or `convert_element_type`; and a float64
      argument while jax_enable_x64 is off. A function of JAX that computes in float32 and returns
      the dtype of its operand, as `jnp.mean` does, is no downcast.
    * "promotion": operands of different floating-point dtypes that JAX makes equal; a scalar of
      NumPy counts if it makes the result wider.

    The backward pass is checked if the function has one: ``strict(jax.grad(loss))``. Conversions
    there are derivatives of those in the forward pass, and pass. A float64 array of NumPy that the
    function closes over is float32 when JAX traces it without jax_enable_x64: it passes too. With
    jax_enable_x64 it is a promotion.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> x = jnp.ones(1000, jnp.bfloat16)
    >>> float(ps.strict(jnp.sum)(x))
    1000.0
    >>> try:
    ...     ps.strict(lambda x: jnp.cumsum(x))(x)
    ... except TypeError as error:
    ...     print(str(error).split("): ")[1].split(";")[0])
    cumsum has partial sums in bfloat16
    """
    check_function(fun)
    allowed = frozenset([allow] if isinstance(allow, str) else allow)
    if unknown := sorted(allowed - set(LOSSES), key=str):
        raise ValueError(
            f"allow has {shown(unknown[0])}; allowed are {', '.join(map(repr, LOSSES))}"
        )

    @wraps(fun)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        flat = flattened(fun, args, kwargs)
        program, shape = jax.make_jaxpr(flat.fun, return_shape=True)(*flat.arrays)
        found = [*_narrowed_arguments((args, kwargs)), *_losses_of(program)]
        lines = [loss.text for loss in found if loss.kind not in allowed]
        if lines:
            raise TypeError("\n".join(dict.fromkeys(lines)))
        results = jaxpr_as_fun(program)(*map(jnp.asarray, flat.arrays))
        return cast("Result", jax.tree.unflatten(jax.tree.structure(shape), results))

    return checked


class _Loss(NamedTuple):
    kind: str
    text: str


class _Born(NamedTuple):
    """The dtype that the user's arrays had of which JAX made this one, by widening at a line."""

    dtype: Any
    line: str = ""


class _Place(NamedTuple):
    line: str
    is_backward: bool


_Births = dict[Any, _Born | None]
"""By variable; None for constants of one number, which have the dtype that is needed."""


def _narrowed_arguments(arguments: Any) -> Iterator[_Loss]:
    """Yield the arguments that JAX turns from float64 into float32."""
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(arguments):
        if getattr(leaf, "dtype", None) == np.float64:
            name = jax.tree_util.keystr(path[1:])
            yield _Loss(
                "downcast",
                f"argument {name}: float64 becomes float32; allowed are float32, jax_enable_x64, or "
                "allow=('downcast',)",
            )


def _losses_of(program: Any) -> list[_Loss]:
    jaxpr = jaxprs.opened(program)
    found: list[_Loss] = []
    births = [_own(v) for v in jaxpr.invars]
    results = _walk(jaxpr, births, _Place("", is_backward=False), found)
    for atom, born in zip(jaxpr.outvars, results, strict=True):
        if born is not None and born.line and _bits(atom.aval.dtype) > _bits(born.dtype):
            found.append(_promotion(born.line, [born.dtype, atom.aval.dtype]))
    return found


def _walk(
    jaxpr: Any, operands: Sequence[_Born | None], place: _Place, found: list[_Loss]
) -> list[_Born | None]:
    """Add the losses of a program to those found; return of what its results are made."""
    births: _Births = dict(zip(jaxpr.invars, operands, strict=True))
    births |= {v: _own(v) if v.aval.ndim else None for v in jaxpr.constvars}

    def read(atom: Any) -> _Born | None:
        return births[atom] if jaxprs.is_variable(atom) else None

    for eqn in map(jaxprs.spelled_out, jaxpr.eqns):
        backward = place.is_backward or jaxprs.scope_of(eqn.source_info.name_stack)[1]
        here = _Place(jaxprs.source_line(eqn) or place.line, backward)
        entering = [read(atom) for atom in eqn.invars]
        inner = [(held, _entering(eqn, held, entering)) for held in jaxprs.inner_jaxprs(eqn)]
        leaving = [_walk(held, births_there, here, found) for held, births_there in inner]
        if eqn.primitive.name == "convert_element_type":
            results = [_converted(eqn, entering[0], here, found)]
        elif leaving and not eqn.primitive.name.startswith(_APPLYING):
            results = _leaving(eqn, leaving[-1])
        else:
            found.extend(_losses_at(eqn, here))
            results = _computed(eqn, entering, here, found)
        births.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _entering(eqn: Any, held: Any, entering: list[_Born | None]) -> list[_Born | None]:
    """Return of what the operands of a held program are made: they are the equation's last ones."""
    own = [_own(v) for v in held.invars]
    last = entering[len(entering) - len(own) :]
    dtypes = [getattr(atom.aval, "dtype", None) for atom in eqn.invars[len(entering) - len(own) :]]
    fits = dtypes == [getattr(v.aval, "dtype", None) for v in held.invars]
    return last if fits else own


def _leaving(eqn: Any, results: list[_Born | None]) -> list[_Born | None]:
    same = len(results) == len(eqn.outvars)
    return results if same else [_own(v) for v in eqn.outvars]


def _own(v: Any) -> _Born | None:
    return _Born(v.aval.dtype) if _is_float(v) else None


def _is_float(atom: Any) -> bool:
    return hasattr(atom.aval, "dtype") and bool(jnp.issubdtype(atom.aval.dtype, jnp.floating))


def _bits(dtype: Any) -> int:
    bits: int = jnp.finfo(dtype).bits  # type: ignore[no-untyped-call]
    return bits


def _is_narrow(atom: Any) -> bool:
    return _is_float(atom) and _bits(atom.aval.dtype) < 32


def _converted(eqn: Any, born: _Born | None, place: _Place, found: list[_Loss]) -> _Born | None:
    """Return of what a converted array is made; a narrowing that no line asks for is a loss."""
    (old,), (new,) = eqn.invars, eqn.outvars
    if not _is_float(new):
        return None
    if born is None:
        return None
    calls = jaxprs.jax_calls(eqn)
    if any(name in _CASTS or name.startswith("_ScalarMeta") for name in calls[:2]):
        return _own(new)
    to, line = new.aval.dtype, place.line
    if _bits(to) > _bits(old.aval.dtype):
        is_promotion = any(part in name for name in calls for part in _PROMOTIONS)
        return _Born(born.dtype, line) if is_promotion and line else _Born(born.dtype)
    if to != born.dtype and _bits(to) < _bits(old.aval.dtype) and not place.is_backward:
        text = f"{_where(place)}: {old.aval.dtype} becomes {to} without a cast; allowed are "
        found.append(_Loss("downcast", f"{text}x.astype(jnp.{to}) or allow=('downcast',)"))
    return _own(new)


def _computed(
    eqn: Any, entering: list[_Born | None], place: _Place, found: list[_Loss]
) -> list[_Born | None]:
    """Return of what the results of an operation are made; two dtypes at once are a promotion."""
    floats = [
        born
        for v, born in zip(eqn.invars, entering, strict=True)
        if born is not None and _is_float(v)
    ]
    dtypes = list(dict.fromkeys(born.dtype for born in floats))
    if len(dtypes) > 1 and not place.is_backward and eqn.primitive.name not in ("sort", "while"):
        found.append(_promotion(next(filter(None, (b.line for b in floats)), place.line), dtypes))
    used = {v.aval.dtype for v in eqn.invars if _is_float(v)}
    if not floats and used:
        return [None for _ in eqn.outvars]  # made of constants alone
    kept = floats[0] if len(dtypes) == 1 else None
    return [
        kept if kept and _is_float(v) and v.aval.dtype in used else _own(v) for v in eqn.outvars
    ]


def _promotion(line: str, dtypes: Sequence[Any]) -> _Loss:
    names = " and ".join(str(d) for d in dtypes)
    return _Loss(
        "promotion",
        f"{line or jaxprs.NOWHERE}: {names} become one dtype without a cast; allowed are operands of one dtype or "
        "allow=('promotion',)",
    )


def _where(place: _Place) -> str:
    return place.line or jaxprs.NOWHERE


def _losses_at(eqn: Any, place: _Place) -> Iterator[_Loss]:
    """Yield what one operation loses in its partial sums or its products."""
    name = eqn.primitive.name
    if name in _SUMS and _is_narrow(eqn.outvars[0]) and _adds(eqn):
        yield _Loss(
            "sum",
            f"{_where(place)}: {name} has partial sums in {eqn.outvars[0].aval.dtype}; allowed are float32 "
            "operands (x.astype(jnp.float32)) or allow=('sum',)",
        )
    if name in _PRODUCTS:
        yield from _losses_of_product(eqn, place)


def _adds(eqn: Any) -> bool:
    """Return whether any two numbers are added: not where all summed axes have one element."""
    is_reduction = eqn.primitive.name.startswith("reduce_") and len(eqn.invars) == 1
    return not is_reduction or eqn.invars[0].aval.size != eqn.outvars[0].aval.size


def _losses_of_product(eqn: Any, place: _Place) -> Iterator[_Loss]:
    left, right = eqn.invars[:2]
    result = eqn.outvars[0]
    if not (_is_float(left) and _is_float(right)):
        return
    name, precision = eqn.primitive.name, eqn.params.get("precision")
    algorithm = getattr(precision, "accumulation_type", None)
    if _is_narrow(result) and (algorithm is None or _bits(algorithm) < 32):
        yield _Loss(
            "dot",
            f"{_where(place)}: {name} has a result in {result.aval.dtype} and no named accumulator; allowed "
            "are preferred_element_type=jnp.float32 or allow=('dot',)",
        )
    if result.aval.dtype == np.float32 and not _is_narrow(left) and precision in _DEFAULTS:
        yield _Loss(
            "precision",
            f"{_where(place)}: {name} of float32 has default precision, which is TF32 or bfloat16 on "
            "accelerators; allowed are precision='highest' or allow=('precision',)",
        )
