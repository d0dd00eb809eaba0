"""A program with every rounding stochastic: its operations in float64, each rounded at random."""

import zlib
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precsim._arrays import Array
from precsim.analysis.account.wide import bind_wide, widen
from precsim.arithmetic.sums.order import PAIRWISE, SEQUENTIAL
from precsim.formats.scaled import scaled_format
from precsim.products.dot_general import arrange
from precsim.products.specs.fused_block import FusedBlock
from precsim.products.specs.spec import MatmulSpec
from precsim.products.specs.step_block import StepBlock
from precsim.rounding.kernel.kernel import round_array
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.transform.interpreter import apply
from precsim.transform.operation import RULES, Operation
from precsim.transform.policy import Policy, Rule
from precsim.transform.rules.elementwise import rounded_once
from precsim.transform.rules.functions import computed, correctly_rounded
from precsim.transform.rules.products import convolution, product
from precsim.transform.rules.sums import sum_over_axes
from precsim.transform.values import Value, is_float, is_known, rounds_nothing, widened


def stochastic(policy: Policy) -> Policy:
    """Return a policy with every rounding in mode sr, sums and products of float32 included.

    Where functions are portable, no operation is left to the platform.
    """
    specs: dict[str, Any] = {
        name: None if getattr(policy, name) is None else _rounding(getattr(policy, name))
        for name in ("elementwise", "reductions", "softmax", "normalisation", "output")
    }
    products: dict[str, Any] = {
        name: _product(getattr(policy, name)) for name in ("forward", "dgrad", "wgrad")
    }
    rules = tuple(Rule(rule.scope, stochastic(rule.policy)) for rule in policy.rules)
    fp32: Any = "fp32"
    return Policy(
        params=fp32,
        functions="portable",
        tensor_scaling=policy.tensor_scaling,
        reduction_order=policy.reduction_order,
        rules=rules,
        **specs,
        **products,
    )


def _rounding(spec: RoundingSpec) -> RoundingSpec:
    if spec.mode is RoundingMode.STOCHASTIC:
        return spec
    return replace(spec, mode=RoundingMode.STOCHASTIC, num_random_bits=0)


def _product(spec: MatmulSpec) -> MatmulSpec:
    """Return a product whose sums and results are rounded stochastically, where that is defined."""
    if spec.has_register:
        return spec
    order = SEQUENTIAL if isinstance(spec.order, FusedBlock | StepBlock) else spec.order
    output = None if spec.output is None else _rounding(spec.output)
    spec = replace(spec, order=order, output=output)
    if spec.stretch is not None:  # scales that change along the sum
        return spec
    return replace(spec, accumulator=_rounding(spec.accumulator))


def compute_at_random(op: Operation) -> list[Value]:
    """Compute an operation in float64 and round it once; other sums and products by their rules."""
    rule = RULES.get(op.name)
    is_real = all(is_float(x) for x in op.arrays)
    if rule in (product, convolution) and is_real:
        return _multiplied(op)
    if rule is sum_over_axes and is_real and op.policy.reduction_order == PAIRWISE:
        return [_pairwise(op)]
    if rule not in (rounded_once, correctly_rounded, computed) or not is_real:
        return apply(op)
    operands = [_operand(op, n, op.spec) for n in range(len(op.operands))]
    results = bind_wide(op.eqn, operands, np.float64)
    return [
        op.result(_rounded(op, y, op.spec, f"result {n}"), op.spec.format, n=n)
        for n, y in enumerate(results)
    ]


def _operand(op: Operation, n: int, spec: RoundingSpec) -> Array:
    """Return an operand in float64, in the format of a spec."""
    value = op.operands[n]
    x = widen(value.array, np.float64)
    is_of_format = is_known(value, spec.format) or rounds_nothing(spec, value.array.dtype)
    return x if is_of_format else _rounded(op, x, spec, f"operand {n}")


def _rounded(op: Operation, x: Array, spec: RoundingSpec, name: str, turn: Any = 0) -> Array:
    """Return numbers rounded stochastically, by bits that cost less than those of `emulate`."""
    words = [jnp.uint32(word) for word in jax.random.key_data(op.context.key)]
    place = np.uint32(zlib.crc32(f"{op.context.path}/{name}".encode()))
    index = jnp.arange(x.size, dtype=np.uint32).reshape(x.shape)
    bits = _mixed(
        _mixed(index * np.uint32(0x9E3779B9) + words[0] ^ place) + words[1] + jnp.uint32(turn)
    )
    return round_array(x, bits, spec)


def _mixed(word: Array) -> Array:
    """Return integers whose bits each depend on all bits of the given ones."""
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        word = (word ^ word >> 15) * np.uint32(factor)
    return word ^ word >> 16


def _pairwise(op: Operation) -> Value:
    """Return a sum over axes, neighbours first, every partial sum rounded."""
    spec, axes = op.policy.reductions, op.params["axes"]
    x = _operand(op, 0, spec)
    kept = [n for n in range(x.ndim) if n not in axes]
    rows = x.transpose(*sorted(axes), *kept).reshape(-1, *[x.shape[n] for n in kept])
    level = 0
    while (count := len(rows)) > 1:
        sums = _rounded(op, rows[0 : count // 2 * 2 : 2] + rows[1::2], spec, f"level {level}")
        rows, level = jnp.concatenate([sums, rows[count // 2 * 2 :]]), level + 1
    total = rows[0] if len(rows) else jnp.zeros([x.shape[n] for n in kept])
    return op.result(total, spec.format)


def _multiplied(op: Operation) -> list[Value]:
    """Multiply operands that are rounded stochastically, if both have one format."""
    policy = op.policy
    specs = {policy.dgrad, policy.wgrad} if op.context.is_backward else {policy.forward}
    parts = {part for spec in specs for part in (spec.lhs, spec.rhs)}
    part = parts.pop()
    is_plain = part is not None and not scaled_format(part.format)
    if part is None or parts or not is_plain or policy.tensor_scaling != "none":
        return apply(op)
    a, b = (_operand(op, n, _rounding(part)) for n in range(2))
    spec = specs.pop()
    is_sequential = spec.order == SEQUENTIAL and spec.product is None and spec.adder is None
    if op.name == "dot_general" and is_sequential and not specs and not spec.has_register:
        return [_product_of(op, a, b, spec)]
    operands = [
        value._replace(array=x.astype(widened(value.array).dtype))
        for value, x in zip(op.operands, (a, b), strict=True)
    ]
    return apply(replace(op, operands=operands))


def _product_of(op: Operation, a: Array, b: Array, spec: MatmulSpec) -> Value:
    """Return a product whose terms are added one after the other, each sum rounded."""
    contracted, batch = op.params["dimension_numbers"]
    rows, rows_shape = arrange(a, batch[0], contracted[0], contract_last=True)
    columns, columns_shape = arrange(b, batch[1], contracted[1], contract_last=False)
    rows, columns = jnp.moveaxis(rows, -1, 0), jnp.moveaxis(columns, -2, 0)

    def step(total: Any, k: Any) -> tuple[Any, None]:
        total = total + rows[k][..., :, None] * columns[k][..., None, :]
        return _rounded(op, total, spec.accumulator, "sum", turn=k), None

    start = jnp.zeros((*rows.shape[1:], columns.shape[-1]))
    total: Array = lax.scan(step, start, jnp.arange(len(rows)))[0]
    if spec.output is not None:
        total = _rounded(op, total, spec.output, "output")
    shared = [a.shape[d] for d in batch[0]]
    total = total.reshape(*shared, *rows_shape, *columns_shape)
    return op.result(total, (spec.output or spec.accumulator).format)
