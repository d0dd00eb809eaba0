"""Batch normalisation, whose running statistics are a state beside the weights."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from precsim._calls import compiled
from precsim.training.models.initial import ones, zeros
from precsim.training.models.jax_layers import EPSILON

MOMENTUM = 0.9
"""The share of the old running statistics in the new ones."""


def weights(name: str, channels: int) -> dict[str, np.ndarray]:
    """Return a gain of ones and a bias of zeros."""
    return {f"{name}/gain": ones(channels), f"{name}/bias": zeros(channels)}


def init_state(params: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a running mean of zeros and a running variance of ones for each gain."""
    state = {}
    for name, gain in params.items():
        if name.endswith("/gain"):
            layer = name.removesuffix("/gain")
            state[f"{layer}/mean"] = zeros(*gain.shape)
            state[f"{layer}/variance"] = ones(*gain.shape)
    return state


class BatchNorms:
    """The batch normalisations of one pass; `state` is the new one when all have been called.

    Training normalises a channel by the batch's mean and variance (divided by the count), and
    moves the running ones: ``0.9 old + 0.1 new``. Testing normalises by the running ones and keeps
    them. That update is in float32 under every policy, and the state is never rounded: a part of
    0.1 would be lost in a narrow format. The batch's own statistics are sums like any other, which
    the policy rounds. Source: Ioffe and Szegedy, ICML 2015.
    """

    def __init__(
        self, params: Mapping[str, Array], state: Mapping[str, Array], is_training: bool
    ) -> None:
        self.params = params
        self.state = dict(state)
        self.is_training = is_training

    def __call__(self, name: str, x: Array) -> Array:
        """Normalise each channel, the last axis; then times gain, plus bias."""
        with jax.named_scope(name):
            if self.is_training:
                axes = tuple(range(x.ndim - 1))
                mean = x.mean(axes)
                centred = x - mean
                variance = jnp.square(centred).mean(axes)
                self._move(f"{name}/mean", mean)
                self._move(f"{name}/variance", variance)
            else:
                centred = x - self.state[f"{name}/mean"]
                variance = self.state[f"{name}/variance"]
            scale = self.params[f"{name}/gain"] * lax.rsqrt(variance + EPSILON)
            return centred * scale + self.params[f"{name}/bias"]

    def _move(self, name: str, new: Array) -> None:
        self.state[name] = _moved(self.state[name], lax.stop_gradient(new))


@compiled()
def _moved(old: Array, new: Array) -> Array:
    """Return the new running statistic; named after precsim, so that `emulate` leaves it."""
    return MOMENTUM * old + (1 - MOMENTUM) * new
