"""`fix_scales`: activations rounded with scales that example batches have decided before."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from precsim._arrays import Array
from precsim.analysis.compression.fixed_scale import round_with_scale
from precsim.analysis.cost.operations import PRODUCTS
from precsim.analysis.cost.program import HOLDING
from precsim.formats.arguments import shown
from precsim.rounding.scaled.calibration import calibrate
from precsim.rounding.scaled.scale import Scale
from precsim.rounding.spec import RoundingSpec, SpecLike
from precsim.transform import jaxprs
from precsim.transform.emulate import output, trace
from precsim.transform.interpreter import evaluate
from precsim.transform.operation import Context, Operation
from precsim.transform.policy import Policy
from precsim.transform.rules.control import called_program
from precsim.transform.tracing import check_function
from precsim.transform.values import Origin, Value, is_float

Visit = Callable[[str, Array], Array]
"""From the name of an activation at a product, and the activation, to what is multiplied."""


@dataclass(frozen=True, eq=False)  # so that jax.jit can hold it
class FixedScales:
    """A function whose activations are rounded with fixed scales where products take them.

    Parameters
    ----------
    fun : callable
        The function.
    spec : RoundingSpec
        Format and rule of the activations.
    scales : mapping
        The scales, by scope, kind and place of the product and number of its operand:
        "hidden/dot_general/0:0".

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> x = np.float32([[0.5, -1.0]])
    >>> fixed = ps.fix_scales(lambda w, x: x @ w, "int8", np.eye(2, dtype="f4"), [(x,)])
    >>> list(fixed.scales)
    ['dot_general/0:0']
    """

    fun: Callable[..., Any]
    spec: RoundingSpec
    scales: Mapping[str, Scale]

    def __call__(self, params: Any, *args: Any) -> Any:
        """Return what the function returns for rounded activations."""

        def rounded(name: str, x: Array) -> Array:
            if name not in self.scales:
                raise ValueError(
                    f"product {name!r} has no scale; allowed are arguments with which fun takes the "
                    f"way that it took for the batches: {', '.join(map(repr, self.scales))}"
                )
            return round_with_scale(x, self.spec, self.scales[name])

        return _visited(self.fun, params, args, rounded)


def fix_scales(
    fun: Callable[..., Any],
    spec: SpecLike,
    params: Any,
    batches: Iterable[tuple[Any, ...]],
    *,
    method: str = "minmax",
    percentile: float = 99.99,
) -> FixedScales:
    """Choose a scale for each activation that a product takes, from example batches.

    Parameters
    ----------
    fun : callable
        ``fun(params, *batch)``, a function that JAX can trace.
    spec : str, AffineFormat, TileFormat or RoundingSpec
        Format of the activations, with one scale for each array: "int8", "e4m3:scale=tensor".
    params : pytree of arrays
        The weights; they are not rounded (`ps.compress` does that).
    batches : iterable of tuples of arrays
        The other arguments, a tuple for each batch.
    method : {"minmax", "percentile", "mse"}
        How a scale follows from the numbers of all batches, as of `calibrate`.
    percentile : float
        For that method, 50 to 100.

    Returns
    -------
    FixedScales
        A function with the arguments and results of `fun`, for inference; `scales` has what was
        chosen.

    Raises
    ------
    ValueError
        If there are no batches, the format has several scales, or an activation is not finite.
    NotImplementedError
        If a product stands in a loop or a branch, where its turns would need scales of their own.

    Notes
    -----
    An activation is an operand of a product (matrix product or convolution) that does not follow
    from the weights alone; in attention both operands are. Each is rounded once, its element times
    the scale once more; numbers beyond the range of the batches become its end. Everything else
    runs in float32. Rules of `custom_jvp` and `custom_vjp` do not take part: differentiate the
    original. All activations of all batches are in memory at once.

    Source: Jacob et al., CVPR 2018 (arXiv 1712.05877), 3.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> def apply(w, x):
    ...     return x @ w
    >>> w, x = np.eye(2, dtype=np.float32), np.float32([[0.5, -1.0]])
    >>> fixed = ps.fix_scales(apply, "int4_symmetric", w, [(x,), (0.5 * x,)])
    >>> fixed(w, np.float32([[7.0, 0.3]])).round(4).tolist()
    [[1.0, 0.2857]]
    """
    check_function(fun)
    spec = RoundingSpec.parse(spec)
    found: dict[str, list[np.ndarray]] = defaultdict(list)

    def seen(name: str, x: Array) -> Array:
        found[name].append(np.asarray(x, np.float32).reshape(-1))
        return x

    for batch in batches:
        if not isinstance(batch, (tuple, list)):
            raise TypeError(f"a batch is {shown(batch)}; allowed are tuples of arguments")
        _visited(fun, params, batch, seen)
    if not found:
        raise ValueError("batches have no activations that a product takes; allowed is one or more")
    scales = {
        name: calibrate(np.concatenate(parts), spec, method=method, percentile=percentile)
        for name, parts in found.items()
    }
    return FixedScales(fun, spec, scales)


def _visited(fun: Callable[..., Any], params: Any, args: Any, visit: Visit) -> Any:
    """Run a function; a visitor replaces each activation that a product takes."""

    def compute(op: Operation) -> list[Value]:
        if op.name in HOLDING:
            program = called_program(op.eqn)
            return evaluate(program, op.operands, op.inside(str(op.params.get("name", ""))))
        if op.name not in PRODUCTS:
            _refuse_hidden_products(op)
            return op.as_it_is()
        place = "/".join(filter(None, (op.scope, op.name))) + op.context.path
        operands = [
            value._replace(array=visit(f"{place}:{n}", value.array))
            if n < 2 and value.origin is Origin.ACTIVATIONS and is_float(value.array)
            else value
            for n, value in enumerate(op.operands)
        ]
        return replace(op, operands=operands).as_it_is()

    traced = trace(fun, (params, *args), {}, 0)
    context = Context(
        policy=Policy.parse("fp32"),
        backend="native",
        strict=False,
        key=jax.random.key(0),
        compute=compute,
    )
    values = evaluate(traced.program, traced.values(), context)
    results = [output(value, context, n) for n, value in enumerate(values)]
    return jax.tree.unflatten(jax.tree.structure(traced.shape), results)


def _refuse_hidden_products(op: Operation) -> None:
    for program in jaxprs.inner_jaxprs(op.eqn):
        if any(eqn.primitive.name in PRODUCTS for eqn in jaxprs.equations(program)):
            raise NotImplementedError(
                f"{op.name} at {op.line or 'an unknown line'} has products in it; allowed are products "
                "outside of loops and branches, each with a scale of its own"
            )
