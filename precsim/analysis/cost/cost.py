"""`cost`: what a step of a training, or a call of a model, needs under a policy."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

from precsim.analysis.cost import memory
from precsim.analysis.cost.built_in import Task, task_of
from precsim.analysis.cost.operations import (
    format_of_product,
    multiply_adds,
    other_operations,
    product_of,
)
from precsim.analysis.cost.program import Program, flat_program
from precsim.analysis.cost.storage import copy_for, stored_bits
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.arguments import integer, shown
from precsim.formats.storage import in_bytes
from precsim.training.config import TrainConfig
from precsim.training.gradients import with_loss_apart
from precsim.training.recipes.leaves import is_trained
from precsim.training.recipes.optimizers import make_optimizer
from precsim.transform.emulate import check_rules, trace
from precsim.transform.policy import Policy
from precsim.transform.tracing import check_function

BYTES = ("weights", "masters", "gradients", "optimizer", "activations", "scales")
"""Fields of a `Cost` that are bytes; their sum is its total."""


class CostRow(NamedTuple):
    """Operations of one kind.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> ps.cost(jnp.dot, jnp.ones((4, 8)), jnp.ones((8, 2)), policy="bf16_mixed").rows[0]
    CostRow(role='forward', format='bf16_bf16_fp32->bf16', operations=128)
    """

    role: str
    """"forward", "dgrad", "wgrad": products; "other"; "update": those of the optimizer."""
    format: str
    """The spec of the products, or the format of the results."""
    operations: int
    """Multiplications and additions; a multiply-add of a product is two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a step needs under a policy: bytes that are kept, operations that are done.

    Parameters
    ----------
    policy : str
        The policy.
    weights : int
        Bytes of the weights as products take them, or as they are stored where that is the same.
    masters : int
        Bytes of the weights in `params` of the policy, where products take narrower copies.
    gradients : int
        Bytes of the gradients of the weights.
    optimizer : int
        Bytes of the optimizer's state, and of the buffers of compensated updates.
    activations : int
        Bytes of what the backward pass reads of the forward pass, examples included.
    scales : int
        Bytes of the state of the loss scale and of delayed scales, and of scales of whole arrays,
        rows and channels. Those of blocks and tiles count with their elements.
    rows : tuple of CostRow
        Operations by role and format.

    Examples
    --------
    >>> import precsim as ps
    >>> found = ps.cost(10_000_000, policy="fp16_mixed", optimizer="adam")
    >>> found.weights, found.masters, found.optimizer
    (20000000, 40000000, 80000004)
    """

    policy: str
    weights: int
    masters: int
    gradients: int
    optimizer: int
    activations: int
    scales: int
    rows: tuple[CostRow, ...]

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(getattr(self, name) for name in BYTES)

    @property
    def operations(self) -> int:
        """All operations."""
        return sum(row.operations for row in self.rows)

    def products(self, role: str = "") -> int:
        """Return the operations of the products of a role, or of all."""
        roles = (role,) if role else ("forward", "dgrad", "wgrad")
        return sum(row.operations for row in self.rows if row.role in roles)

    def __str__(self) -> str:
        """Return a table of the bytes, and one of the operations."""
        tables = [text_table(("what", "bytes"), self._bytes())]
        if self.rows:
            tables.append(text_table(CostRow._fields, self.rows))
        return "\n\n".join([f"policy {self.policy}", *tables])

    def _bytes(self) -> list[tuple[str, int]]:
        return [(name, getattr(self, name)) for name in (*BYTES, "total")]

    def to_json(self) -> str:
        """Return policy, bytes, total, operations and rows as JSON."""
        return json_text(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return policy, bytes, total, operations and rows."""
        rows = [row._asdict() for row in self.rows]
        bytes_of = dict(self._bytes())
        return {"policy": self.policy, **bytes_of, "operations": self.operations, "rows": rows}

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        first = html_table(f"policy {self.policy}", ("what", "bytes"), self._bytes())
        return first + html_table("operations", CostRow._fields, self.rows)


def cost(
    fun: Callable[..., Any] | TrainConfig | int,
    *args: Any,
    policy: str | Policy | None = None,
    optimizer: Any = None,
    params: int = 0,
) -> Cost:
    """Count the bytes and the operations of a step on a machine that has the policy's formats.

    Parameters
    ----------
    fun : callable, TrainConfig or int
        A loss, with an optimizer: a step of its training. A function without one: a call. A config:
        a step of that run. A number: the weights alone of a model with this many parameters, all of
        them operands of products.
    *args : pytree of arrays
        Arguments of a callable, or `jax.ShapeDtypeStruct` instead of arrays. Only shapes and dtypes
        matter; nothing is computed.
    policy : str or Policy, optional
        As of `emulate`; "fp32", or that of the config, where none is given.
    optimizer : optax.GradientTransformation or str, optional
        A transformation, or "sgd", "momentum", "adam", "adamw"; that of the config for one.
    params : int
        Position of the argument that holds the weights.

    Returns
    -------
    Cost
        Bytes by what they are for, operations by role and format.

    Raises
    ------
    TypeError
        If `fun` is none of these.
    ValueError
        If the policy or the optimizer is unknown, a rule matches no scope, a format has no width,
        or, with an optimizer, `fun` does not return one number.

    Notes
    -----
    The function is traced, differentiated by JAX, and its program read. What the machine is: each
    array is stored in the format in which the policy reads it, in the bits of the format, but in no
    more than in the program. An array that is read in two formats is stored twice.

    Counted: a copy of the weights for each format narrower than `params` in which products take
    them (for scales along rows or blocks one for each direction); gradients in the format of the
    operation that makes them; the buffers of the optimizer in `optimizer_state` of the policy;
    everything else in its dtype. Activations are what steps of the backward pass read of the
    forward pass, of examples too, once each in all turns of a `scan`; what `jax.checkpoint`
    computes again is not kept. Not counted: arrays that live inside one pass only, the arguments as
    they were given, workspaces of kernels, padding, fragments of memory.

    Operations: two for each multiply-add of a product, without those that meet a padding; one for
    each element of an elementwise result and for each element that a reduction reads. Moving,
    comparing, choosing, negating and converting numbers, integers and random bits count as none, a
    root or an exponential as one. The body of a `while_loop` and each branch of a `cond` count
    once.

    Examples
    --------
    >>> import jax.numpy as jnp, precsim as ps
    >>> def loss(w, x):
    ...     return jnp.sum((x @ w) ** 2)
    >>> w, x = jnp.ones((64, 32)), jnp.ones((16, 64))
    >>> for policy in ("fp32", "bf16_mixed"):
    ...     found = ps.cost(loss, w, x, policy=policy, optimizer="adam")
    ...     print(found.weights, found.masters, found.gradients, found.activations)
    8192 0 8192 6144
    4096 8192 4096 3072
    """
    if isinstance(fun, TrainConfig):
        return _of_config(fun, args, policy, optimizer)
    policy = Policy.parse("fp32" if policy is None else policy)
    rule = _optimizer(optimizer)
    if not callable(fun):
        return _of_parameters(fun, policy, rule)
    check_function(fun)
    params = integer(params, "params", 0, max(len(args) - 1, 0))
    if not args:
        raise ValueError("args is empty; allowed are example arguments of fun, weights among them")
    leaves, tree = jax.tree.flatten(args[params])
    where = [n for n, leaf in enumerate(leaves) if is_trained(leaf)]
    weights = [leaves[n] for n in where]
    fixed = {n: leaf for n, leaf in enumerate(leaves) if n not in where}

    def of_weights(weights: Any, fixed: Any, others: Any) -> Any:
        every = fixed | dict(zip(where, weights, strict=True))
        given = jax.tree.unflatten(tree, [every[n] for n in range(len(leaves))])
        return fun(*others[:params], given, *others[params:])

    rest = [*args[:params], *args[params + 1 :]]
    if rule is not None:
        _check_loss(of_weights, weights, fixed, rest)
    traced = trace(
        of_weights if rule is None else jax.value_and_grad(of_weights),
        (weights, fixed, rest),
        {},
        0,
    )
    check_rules(policy, traced.program)
    return _of_program(flat_program(traced, policy), weights, policy, rule)


def _of_config(config: TrainConfig, args: Any, policy: Any, optimizer: Any) -> Cost:
    if args:
        raise ValueError(f"args are {shown(args)}; allowed with a config are none")
    chosen = Policy.parse(config.policy if policy is None else policy)
    rule = make_optimizer(config) if optimizer is None else optimizer
    return of_task(task_of(config), chosen, rule)


def of_task(task: Task, policy: Policy, optimizer: Any) -> Cost:
    """Return the cost of a step of a run, with its loss in float32."""
    found = cost(task.loss, *task.arrays, policy=with_loss_apart(policy), optimizer=optimizer)
    return replace(found, policy=policy.name)


def _optimizer(given: Any) -> Any:
    """Return an optimizer, by its name or as it is."""
    if isinstance(given, str):
        policy: Any = "fp32"
        return make_optimizer(TrainConfig(policy=policy, optimizer=given))
    if given is not None and not (hasattr(given, "init") and hasattr(given, "update")):
        raise TypeError(
            f"optimizer is {shown(given)}; allowed are a transformation of optax, or its name"
        )
    return given


def _check_loss(loss: Callable[..., Any], *args: Any) -> None:
    found = jax.tree.leaves(trace(loss, args, {}, 0).shape)
    if [(x.shape, is_trained(x)) for x in found] != [((), True)]:
        said = ", ".join(f"{x.dtype} of shape {x.shape}" for x in found) or "nothing"
        raise ValueError(f"fun returns {said}; allowed with an optimizer is one number, the loss")


def _of_program(program: Program, weights: Any, policy: Policy, optimizer: Any) -> Cost:
    is_training = optimizer is not None
    working = masters = activations = gradients = state = Fraction(0)
    scales, rows = 0, _rows(program)
    for weight, copies in memory.copies_of_weights(program).items():
        parts = memory.weight_bits(
            copies, weight.size, weight.dtype, policy, is_trained=is_training
        )
        working, masters, scales = working + parts[0], masters + parts[1], scales + parts[2]
    if is_training:
        activations, more = memory.activation_bits(program)
        scales += more + 8 * memory.loss_scale_bytes(policy) + 8 * memory.history_bytes(program)
        gradients = memory.gradient_bits(program)
        state = memory.optimizer_bits(optimizer, weights, policy)
        rows[("update", str(policy.update.format))] += _of_update(optimizer, weights)
    return Cost(
        policy=policy.name,
        weights=in_bytes(working),
        masters=in_bytes(masters),
        gradients=in_bytes(gradients),
        optimizer=in_bytes(state),
        activations=in_bytes(activations),
        scales=in_bytes(scales),
        rows=tuple(CostRow(*key, count) for key, count in rows.items() if count),
    )


def _rows(program: Program) -> Counter[tuple[str, str]]:
    """Return the operations of a program by role and format."""
    found: Counter[tuple[str, str]] = Counter()
    for role in ("forward", "dgrad", "wgrad"):
        for step in program.steps:
            product = product_of(step)
            if product is not None and product.role == role:
                found[role, str(product.spec)] += 2 * multiply_adds(step)
    for step in program.steps:
        if product_of(step) is None:
            found["other", str(step.op.spec.format)] += other_operations(step)
    return found


def _of_update(optimizer: Any, weights: Any) -> int:
    """Return the operations of an optimizer, and of adding its updates."""
    state = jax.eval_shape(optimizer.init, weights)

    def update(gradients: Any, state: Any, weights: Any) -> Any:
        updates, state = optimizer.update(gradients, state, weights)
        return jax.tree.map(jax.numpy.add, weights, updates), state

    program = flat_program(trace(update, (weights, state, weights), {}, None), Policy.parse("fp32"))
    return sum(map(other_operations, program.steps))


def _of_parameters(count: Any, policy: Policy, optimizer: Any) -> Cost:
    """Return what this many weights need, of which nothing else is known."""
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(
            f"fun is {shown(count)}; allowed are a function, a TrainConfig, or a number of parameters"
        )
    size = integer(count, "fun", 1)
    like: Any = jax.ShapeDtypeStruct
    weights = like((size,), np.dtype(np.float32))
    specs = (policy.forward.rhs, policy.dgrad.rhs)
    roles = ("forward", "dgrad") if optimizer is not None else ("forward",)
    copies = {
        copy_for(s, size, role) for s, role in zip(specs, roles, strict=False) if s is not None
    }
    working, masters, scales = memory.weight_bits(
        copies, size, weights.dtype, policy, is_trained=optimizer is not None
    )
    gradients = state = Fraction(0)
    if optimizer is not None:
        gradients = size * stored_bits(format_of_product(policy.wgrad), weights.dtype)
        state = memory.optimizer_bits(optimizer, weights, policy)
        scales += 8 * memory.loss_scale_bytes(policy)
    return Cost(
        policy=policy.name,
        weights=in_bytes(working),
        masters=in_bytes(masters),
        gradients=in_bytes(gradients),
        optimizer=in_bytes(state),
        activations=0,
        scales=in_bytes(scales),
        rows=(),
    )
