"""Loss scaling keeps small gradients from underflow (Micikevicius et al., ICLR 2018)."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from precsim._arrays import Array, count_true
from precsim.arithmetic.elementwise import divide, multiply
from precsim.formats.arguments import integer, shown
from precsim.formats.reals import real
from precsim.training.recipes.leaves import is_trained, joined, map_joined, map_trained
from precsim.transform.settings import FIRST_FACTOR, LARGEST_FACTOR, LEAST_FACTOR, read_loss_scale


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class NoLossScale:
    """No scaling, and no step is ever skipped.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.NoLossScale().scale(3.0)
    3.0
    """

    @property
    def factor(self) -> float:
        """The factor on the loss."""
        return 1.0

    def scale(self, tree: Any) -> Any:
        """Return the tree as it is."""
        return tree

    def unscale(self, tree: Any) -> Any:
        """Return the tree as it is."""
        return tree

    def adjust(self, grads_finite: Array) -> "NoLossScale":
        """Return the state for the next step: itself."""
        return self


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class StaticLossScale:
    """A constant factor; non-finite gradients skip the step.

    Parameters
    ----------
    factor : float
        The factor; powers of two scale and unscale without rounding.
    skipped : int
        Steps skipped so far.

    Examples
    --------
    >>> import precsim as ps
    >>> scale = ps.StaticLossScale(factor=1024.0)
    >>> float(scale.scale(0.5)), float(scale.unscale(512.0))
    (512.0, 0.5)
    """

    factor: Any = 1024.0
    skipped: Any = 0

    def scale(self, tree: Any) -> Any:
        """Multiply every differentiable leaf by the factor; others stay as they are."""
        return _multiply(tree, jnp.float32(_checked(self).factor))

    def unscale(self, tree: Any) -> Any:
        """Multiply every differentiable leaf by the factor's reciprocal.

        In float32; exact for powers of two.
        """
        return _multiply(tree, divide(jnp.float32(1), jnp.float32(_checked(self).factor), "fp32"))

    def adjust(self, grads_finite: Array) -> "StaticLossScale":
        """Return the state for the next step, with the skipped steps counted."""
        skipped = jnp.asarray(_checked(self).skipped, jnp.int32) + jnp.where(grads_finite, 0, 1)
        return replace(self, skipped=skipped)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicLossScale:
    """A factor that backs off at every overflow and grows after a run of finite steps.

    Parameters
    ----------
    factor : float
        Current factor S.
    growth_interval : int
        Finite steps in a row after which S grows.
    growth_factor, backoff_factor : float
        What S is multiplied by; powers of two keep scaling exact.
    min_factor, max_factor : float
        Floor and ceiling of S.
    finite_steps : int
        Finite steps since the last change of S.
    skipped : int
        Steps skipped so far.
    redo : bool
        Whether a step with a gradient that is not finite is repeated on the same batch, by
        `value_and_grad` and `train`, with a factor that has backed off, until its gradient is
        finite or the factor has reached the floor. Only then is the step skipped, and counted.

    Notes
    -----
    Gradients have to be unscaled with the state that scaled them, before `adjust`; test them for
    finiteness after any all-reduce. All fields but `redo`, which is static, are leaves of the
    pytree: none is lost under jit. As text, in a policy and elsewhere:
    ``dynamic@32768[interval=2000,growth=2,backoff=0.5,min=1,max=16777216,redo]``, where each part
    after ``dynamic`` may be missing.
    Defaults are those of PyTorch's GradScaler, except for the start (2**15, since 2**16 is not
    finite in fp16).

    Examples
    --------
    >>> import precsim as ps
    >>> scale = ps.DynamicLossScale(factor=2.0**16).adjust(False)
    >>> float(scale.factor), int(scale.skipped)
    (32768.0, 1)
    """

    factor: Any = FIRST_FACTOR
    growth_interval: Any = 2000
    growth_factor: Any = 2.0
    backoff_factor: Any = 0.5
    min_factor: Any = LEAST_FACTOR
    max_factor: Any = LARGEST_FACTOR
    finite_steps: Any = 0
    skipped: Any = 0
    redo: bool = field(default=False, metadata={"static": True})

    def scale(self, tree: Any) -> Any:
        """Multiply every differentiable leaf by the factor; others stay as they are."""
        return _multiply(tree, jnp.float32(_checked(self).factor))

    def unscale(self, tree: Any) -> Any:
        """Multiply every differentiable leaf by the factor's reciprocal.

        In float32; exact for powers of two.
        """
        return _multiply(tree, divide(jnp.float32(1), jnp.float32(_checked(self).factor), "fp32"))

    def adjust(self, grads_finite: Array) -> "DynamicLossScale":
        """Return the state for the next step: smaller after an overflow, larger after long runs."""
        steps = jnp.where(grads_finite, jnp.asarray(_checked(self).finite_steps, jnp.int32) + 1, 0)
        grows = steps >= self.growth_interval
        factor = jnp.asarray(self.factor, jnp.float32)
        larger = jnp.where(grows, _product(factor, self.growth_factor), factor)
        factor = jnp.where(grads_finite, larger, _product(factor, self.backoff_factor))
        return replace(
            self,
            factor=jnp.clip(factor, self.min_factor, self.max_factor),
            finite_steps=jnp.where(grows, 0, steps),
            skipped=jnp.asarray(self.skipped, jnp.int32) + jnp.where(grads_finite, 0, 1),
        )


LossScale: TypeAlias = NoLossScale | StaticLossScale | DynamicLossScale
_Kind = TypeVar("_Kind", bound=LossScale)
_COUNTS = ("growth_interval", "finite_steps", "skipped")


def _checked(state: _Kind) -> _Kind:
    """Return a loss scale; refuse fields that are no numbers, and numbers that none can have.

    It is done where the fields are used: JAX puts anything into the leaves of a pytree. Of arrays
    of JAX, which may be traced, only the dtype is looked at.
    """
    for each in fields(state):
        name, value = each.name, getattr(state, each.name)
        is_count = name in _COUNTS
        if name == "redo":
            if not isinstance(value, bool):
                raise TypeError(f"redo is {shown(value)}; allowed are True, False")
        elif isinstance(value, jax.Array):
            kinds = [jnp.integer] if is_count else [jnp.integer, jnp.floating]
            if not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
                allowed = "integers" if is_count else "numbers"
                raise TypeError(f"{name} is an array of {value.dtype}; allowed are {allowed}")
        elif is_count:
            integer(value, name, 1 if name == "growth_interval" else 0)
        elif not 0 < real(value, name) < math.inf:
            raise ValueError(f"{name} is {shown(value)}; allowed are finite numbers above 0")
    return state


def _multiply(tree: Any, factor: Array) -> Any:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if is_trained(leaf)]
    if len(leaves) > 1 and all(getattr(leaf, "dtype", None) == jnp.float32 for leaf in leaves):
        return map_joined(lambda x: _product(x, factor), tree)
    return map_trained(lambda x: _product(x, factor), tree)


def _product(x: Any, factor: Any) -> Array:
    """Multiply; in float32 with one rounding and subnormals on every device."""
    x = jnp.asarray(x, jnp.float32 if isinstance(x, float) else None)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    if dtype == jnp.float32:
        product: Array = multiply(x.astype(dtype), jnp.float32(factor), "fp32")
    else:
        product = x.astype(dtype) * jnp.asarray(factor, dtype)
    return product


def as_loss_scale(given: str | float | LossScale) -> LossScale:
    """Return a loss scale as it is, or the one that a policy's string or a number stands for."""
    if isinstance(given, LossScale):
        return _checked(given)
    kind, given_fields = read_loss_scale(given)
    kinds = {"none": NoLossScale, "static": StaticLossScale, "dynamic": DynamicLossScale}
    scale: LossScale = kinds[kind](**given_fields)
    return scale


def narrowed(loss_scale: LossScale) -> LossScale:
    """Return a loss scale whose numbers are arrays of 32 bits, as those of a loop have to be."""
    narrow = lambda x: jnp.asarray(x, jnp.float32 if is_trained(x) else jnp.int32)
    narrow_scale: LossScale = jax.tree.map(narrow, loss_scale)
    return narrow_scale


def all_finite(tree: Any) -> Array:
    """Return whether every element of every differentiable leaf is finite."""
    trained = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree) if is_trained(leaf)]
    if not trained:
        return jnp.asarray(True)
    # One pass for leaves of one dtype, and two counts, which XLA compiles sooner than one.
    dtypes = dict.fromkeys(leaf.dtype for leaf in trained)
    groups = [[x for x in trained if x.dtype == dtype] for dtype in dtypes]
    counts = [count_true(jnp.isnan(x), jnp.isinf(x)) for x in map(joined, groups)]
    return jnp.concatenate(counts).sum() == 0
