"""What a model computes with: products and roundings of one policy, at named places.

The names of places, and those of calls of functions ("softmax 1"), are the policy's scopes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from precsim._arrays import Array
from precsim.formats.arguments import shown
from precsim.training import watched as products
from precsim.training.functions import functions_of
from precsim.training.watched import Setting, Watched
from precsim.transform.noise import fold_in
from precsim.transform.policy import Policy
from precsim.transform.tags import tag, tag_both


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The operations of a policy, for one evaluation of a model.

    Parameters
    ----------
    policy : Policy
        Says how every operation rounds.
    backend : str
        Backend of the products: "auto", "emulated" or "native"; `UNGUARDED` may follow.
    key : jax.Array
        Key of this step's random bits; they depend on it, the place and the element only.
    probes : dict of str to Watched, optional
        A `probe` for each place: their gradients are what the backward pass counts. None where
        nobody asks for it.
    events : dict of str to Watched
        What the forward pass counts at each place, filled while the model runs.
    """

    policy: Policy
    backend: str
    key: Any
    probes: dict[str, Watched] | None = None
    events: dict[str, Watched] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def functions(self) -> "Functions":
        """The policy's functions: a module of `precsim.training.functions`, its results tagged."""
        return Functions(self.policy, self.backend, self.calls)

    def check_rules(self) -> None:
        """Refuse a rule that decides nothing in the model that has run."""
        calls = [_label(name, k + 1) for name, count in self.calls.items() for k in range(count)]
        functions = self.policy.functions
        changed = [call for call in calls if self.policy.at(call).functions != functions]
        followed = {self.policy.matching(scope) for scope in (*self.events, *changed)}
        for rule in self.policy.rules:
            if rule not in followed:
                raise ValueError(
                    f"rule {shown(rule.scope)} of the policy decides nothing: it matches no place, "
                    "or earlier rules match all that it does; places are "
                    f"{', '.join(map(repr, self.events))}, and for fn= {', '.join(map(repr, calls))}"
                )

    def data(self, name: str, x: Array) -> Array:
        """Round the data that enters a model; nobody needs its gradient."""
        setting = self._setting(name)
        y, self.events[name] = products.round_watched(x, self.key, setting, "forward")
        return tag(y, name)

    def linear(self, name: str, x: Array, w: Array, b: Array, *, is_first: bool = False) -> Array:
        """Return x @ w + b, shapes (M, K), (K, N), (N,); of the first layer, without x's gradient.

        The bias is one more row of `w`, which meets a constant input 1: it enters the same sum, and
        its gradient follows from the same product.
        """
        ones = jnp.ones((x.shape[0], 1), x.dtype)
        x = jnp.concatenate([x, ones], axis=1)
        w = jnp.concatenate([w, b.reshape(1, -1)])
        setting = self._setting(name, is_first=is_first)
        y, self.events[name] = products.linear(x, w, self._probe(name), self.key, setting)
        return tag_both(y, name)

    def product(self, name: str, a: Array, b: Array) -> Array:
        """Return a @ b of two activations, (..., M, K) and (..., K, N), equal batch dimensions."""
        setting = self._setting(name)
        y, self.events[name] = products.linear(a, b, self._probe(name), self.key, setting)
        return tag_both(y, name)

    def conv(self, name: str, x: Array, w: Array, b: Array, *, is_first: bool = False) -> Array:
        """Convolve with "SAME" padding and add a bias; (B, H, W, C), (R, S, C, F), (F,).

        The bias is the weight of one more channel, constant 1, at the centre of the window.
        """
        ones = jnp.ones((*x.shape[:3], 1), x.dtype)
        x = jnp.concatenate([x, ones], axis=3)
        centre = [(size // 2, size - 1 - size // 2) for size in w.shape[:2]]
        extra = jnp.pad(b.reshape(1, 1, 1, -1), (*centre, (0, 0), (0, 0)))
        w = jnp.concatenate([w, extra], axis=2)
        setting = self._setting(name, is_first=is_first)
        y, self.events[name] = products.conv(x, w, self._probe(name), self.key, setting)
        return tag_both(y, name)

    def rounded(self, name: str, x: Array) -> Array:
        """Round values, and in the backward pass their cotangents, by the elementwise spec."""
        setting = self._setting(name)
        y, self.events[name] = products.rounded(x, self._probe(name), self.key, setting)
        return tag_both(y, name)

    def scan(
        self, name: str, body: Callable[["Layers", Array, Any], Array], x: Array, stacked: Any
    ) -> Array:
        """Apply ``x = body(layers, x, weights)`` for the weights of each block, one compiled body.

        The weights of block k are entries k of the stacked arrays. A place of the body counts what
        all blocks count there, and its random bits depend on the block. Only weights and `x` may
        need gradients: JAX would add up those of other arrays in an arithmetic of its own.
        """
        calls = dict(self.calls)

        def block(x: Array, given: tuple[Array, Any]) -> tuple[Array, dict[str, Watched]]:
            k, weights = given
            key = fold_in(self.key, k)
            inner = replace(self, key=key, events={}, calls=dict(calls))
            x = body(inner, x, weights)
            self.calls.update(inner.calls)
            return x, inner.events

        count = jax.tree.leaves(stacked)[0].shape[0]
        with jax.named_scope(name):
            x, events = jax.lax.scan(block, x, (jnp.arange(count), stacked))
        for place, watched in events.items():
            self._refuse_second(place)
            self.events[place] = jax.tree.map(lambda each: each.sum(0), watched)
        return x

    def _setting(self, name: str, *, is_first: bool = False) -> Setting:
        self._refuse_second(name)
        return Setting(self.policy.at(name), self.backend, name, is_first)

    def _refuse_second(self, name: str) -> None:
        if name in self.events:
            raise ValueError(
                f"the model uses the name {shown(name)} twice; allowed is one place per name"
            )

    def _probe(self, name: str) -> Watched:
        return products.probe() if self.probes is None else self.probes[name]


@dataclass(frozen=True, slots=True)
class Functions:
    """Functions whose results get names, which are their scopes: ``softmax 1``, ``softmax 2``.

    The cross-entropy is always portable, unless products are the platform's own.
    """

    policy: Policy
    backend: str
    calls: dict[str, int]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function of the module that the policy names."""

        def call(*args: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            label = _label(name, self.calls[name])
            result = getattr(functions_of(self._chosen(name, label)), name)(*args)
            if isinstance(result, tuple):
                return result  # of a fork: the gradients of its branches are tagged elsewhere
            return tag_both(result, label)

        return call

    def _chosen(self, name: str, label: str) -> str:
        """Return which functions compute a call."""
        is_native = self.backend.removesuffix(products.UNGUARDED) == "native"
        is_stated = name == "cross_entropy" and not is_native
        return "portable" if is_stated else self.policy.at(label).functions


def _label(name: str, call: int) -> str:
    return f"{name} {call}"


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """Largest of each 2 by 2 square; (B, H, W, C) with even H and W. Exact, forward and backward.

    The gradient goes to the first of equal elements; JAX's own maximum would divide it among them.
    """
    return jnp.max(_squares(x), axis=-1)


def _squares(x: Array) -> Array:
    b, h, w, c = x.shape
    squares = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
    return squares.reshape(b, h // 2, w // 2, c, 4)


def _max_pool_forward(x: Array) -> tuple[Array, Array]:
    return max_pool(x), jnp.argmax(_squares(x), axis=-1)


def _max_pool_backward(first: Array, g: Array) -> tuple[Array]:
    b, h, w, c = g.shape
    squares = jnp.where(first[..., None] == jnp.arange(4), g[..., None], 0)
    squares = squares.reshape(b, h, w, c, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return (squares.reshape(b, 2 * h, 2 * w, c),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
