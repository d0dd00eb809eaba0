"""A layer's own loss scale that adapts: the usual rule, by the overflows of this layer alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.arithmetic.elementwise import divide
from precsim.rounding.scaled.scale import Scale
from precsim.training.recipes.loss_scaling import DynamicLossScale, as_loss_scale, narrowed
from precsim.transform.tensor_scaling import LAYER


@jax.tree_util.register_dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScale:
    """The state of a layer's scale: a power of two on its cotangents."""

    text: str = field(metadata={"static": True})
    """The tensor scaling of its policy, such as "cotangents@dynamic"."""
    state: DynamicLossScale

    @classmethod
    def start(cls, text: str) -> "LayerScale":
        """Return the state before the first step."""
        scale = narrowed(as_loss_scale(text.partition("@")[2]))
        return cls(text=text, state=cast("DynamicLossScale", scale))

    @property
    def scale(self) -> Scale:
        """The factor on the cotangents of the next step, and its reciprocal, which is exact."""
        factor = jnp.asarray(self.state.factor, jnp.float32)
        return Scale(scale=divide(jnp.float32(1), factor, "fp32"), factor=factor)

    def update(self, largest: Array) -> "LayerScale":
        """Return the state after a step, by what `transform.rules.own_scales` told of the layer."""
        after = self.state.adjust(~jnp.isinf(largest))
        kept = jax.tree.map(lambda new, old: jnp.where(largest == 0, old, new), after, self.state)
        return replace(self, state=kept)


def layer_scales(states: Mapping[str, Any]) -> dict[str, LayerScale]:
    """Return those of all scales with a state that are layers' own, by the layers' scopes."""
    found = {name: state for name, state in states.items() if isinstance(state, LayerScale)}
    return {name.removesuffix(LAYER): state for name, state in found.items()}


def any_overflow(states: Mapping[str, Any], largest: Mapping[str, Array]) -> Array:
    """Return whether the scale of a layer has made its cotangents overflow in a step."""
    found = [largest[f"{name}{LAYER}"] for name in layer_scales(states)]
    return jnp.isinf(jnp.stack(found)).any() if found else jnp.asarray(False)
