"""Bytes that a training step keeps, by what they are for, from its flat program."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import jax

from precsim.analysis.cost.operations import contracted, format_of_product, product_of
from precsim.analysis.cost.program import Program, Step, Tensor
from precsim.analysis.cost.storage import (
    Copy,
    copy_for,
    dtype_bits,
    scale_bits,
    stored_bits,
)
from precsim.formats.storage import element_bits
from precsim.training.recipes.layer_scales import LayerScale
from precsim.training.recipes.loss_scaling import as_loss_scale
from precsim.training.recipes.optimizers import find_buffers
from precsim.training.recipes.rounded_leaves import moment_at
from precsim.transform.policy import Policy
from precsim.transform.tensor_scaling import adapts, delayed
from precsim.transform.values import Origin, is_inexact


def copy_read(step: Step, n: int) -> Copy | None:
    """Return the copy of an operand that a step reads; None where it takes any."""
    found = product_of(step)
    if found is None:
        return Copy(step.op.spec.format)
    if n >= len(found.sides):
        return None
    side = getattr(found.spec, found.sides[n])
    return None if side is None else copy_for(side, contracted(step, n), found.role)


def kept_copies(program: Program) -> dict[Tensor, set[Copy]]:
    """Return what the backward pass reads of the forward pass, and in which formats."""
    return {
        tensor: {copy for step, n in readers if (copy := copy_read(step, n)) is not None}
        for tensor, readers in program.readers().items()
        if not tensor.is_backward and not tensor.is_constant and not _is_weight(tensor, program)
        for readers in [[each for each in readers if each[0].op.context.is_backward]]
        if readers
    }


def _is_weight(tensor: Tensor, program: Program) -> bool:
    return tensor.origin is Origin.WEIGHTS and any(tensor is x for x in program.inputs)


def copies_of_weights(program: Program) -> dict[Tensor, set[Copy]]:
    """Return, for each weight, the formats in which products take it.

    Of a weight that no product takes, those in which other operations compute with it.
    """
    readers = program.readers()
    found = {}
    for weight in program.inputs:
        if weight.origin is Origin.WEIGHTS:
            reads = readers.get(weight, [])
            products = [each for each in reads if product_of(each[0]) is not None]
            copies = (copy_read(step, n) for step, n in products or reads)
            found[weight] = {copy for copy in copies if copy is not None}
    return found


def weight_bits(
    copies: Iterable[Copy], size: int, dtype: Any, policy: Policy, *, is_trained: bool
) -> tuple[Fraction, Fraction, int]:
    """Return the bits of the copies that products take, of the masters, and of all scales.

    A copy is made where it is narrower than `params` of the policy. Others are converted when they
    are read, from the weights themselves, which then are no masters.
    """
    own = stored_bits(policy.params.format, dtype)
    narrow = [copy for copy in copies if element_bits(copy.format) < own]
    scales = sum(scale_bits(copy, size) for copy in narrow)
    working = size * sum((element_bits(copy.format) for copy in narrow), Fraction(0))
    if not narrow:
        return size * own, Fraction(0), 0
    return working, size * own * is_trained, scales


def gradient_bits(program: Program) -> Fraction:
    """Return the bits of the gradients, each in the format of the operation that makes it."""
    sources = program.sources()
    total = Fraction(0)
    for gradient in program.outputs[1:]:
        step = sources.get(gradient)
        bits = Fraction(dtype_bits(gradient.dtype))
        if step is not None:
            found = product_of(step)
            fmt = step.op.spec.format if found is None else format_of_product(found.spec)
            bits = stored_bits(fmt, gradient.dtype)
        total += bits * gradient.size
    return total


def activation_bits(program: Program) -> tuple[Fraction, int]:
    """Return the bits of what is kept for the backward pass, and of its scales."""
    total, scales = Fraction(0), 0
    for tensor, copies in kept_copies(program).items():
        if not is_inexact(tensor) or not copies:
            total += tensor.size * dtype_bits(tensor.dtype)
            continue
        total += tensor.size * sum(stored_bits(copy.format, tensor.dtype) for copy in copies)
        scales += sum(scale_bits(copy, tensor.size) for copy in copies)
    return total, scales


def optimizer_bits(optimizer: Any, weights: Any, policy: Policy) -> Fraction:
    """Return the bits of an optimizer's state, and of the buffers of a compensated update."""
    state = jax.eval_shape(optimizer.init, weights)
    try:
        buffers = jax.tree.leaves(find_buffers(optimizer, state))
    except ValueError:  # all buffers are one vector, as in optax.flatten
        buffers = [leaf.ndim > 0 for leaf in jax.tree.leaves(state)]
    specs, total = policy.buffers, Fraction(0)
    for (path, leaf), is_buffer in zip(
        jax.tree_util.tree_leaves_with_path(state), buffers, strict=True
    ):
        fmt = specs.get(moment_at(path), specs[""]).format
        bits = stored_bits(fmt, leaf.dtype) if is_buffer else dtype_bits(leaf.dtype)
        total += leaf.size * bits
    if policy.is_compensated:
        for leaf in jax.tree.leaves(weights):
            total += leaf.size * stored_bits(policy.params.format, leaf.dtype)
    return total


def history_bytes(program: Program) -> int:
    """Return the bytes of scales with a state.

    Delayed scales have a factor and a history for each operand of a product, layers whose own loss
    scale adapts the numbers of a dynamic loss scale.
    """
    layers = {}
    total = 0
    for step in program.steps:
        text = step.op.policy.tensor_scaling
        found, options = product_of(step), delayed(text)
        if found is not None and adapts(text):
            layers[step.op.scope] = len(jax.tree.leaves(LayerScale.start(text)))
        if found is not None and options is not None:
            own = getattr(step.op.policy, found.role)
            changed = [
                side for side in ("lhs", "rhs") if getattr(found.spec, side) != getattr(own, side)
            ]
            total += 4 * len(changed) * (1 + options.length)
    return total + 4 * sum(layers.values())


def loss_scale_bytes(policy: Policy) -> int:
    """Return the bytes of the state of the loss scale: its numbers are 32 bits wide."""
    return 4 * len(jax.tree.leaves(as_loss_scale(policy.loss_scale)))
