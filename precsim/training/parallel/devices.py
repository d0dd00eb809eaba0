"""Which devices a training runs on, and where its arrays lie."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from precsim.formats.arguments import integer, shown
from precsim.products.columns import COLUMNS

SHARDS = "precsim_shards"
"""The axis of a mesh along which the shards of a batch are shared out."""

partition: Any = jax.sharding.PartitionSpec
"""JAX's own name has no types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """How many devices share out a training; they change no bit of it.

    Parameters
    ----------
    data : int
        Devices, or groups of them, that share out the shards of each batch; a divisor of the
        config's `shards`. Each has all weights.
    tensor : int
        Devices of a group, which share out the columns of each product. Each has all weights and
        computes all that is no product.

    Raises
    ------
    ValueError
        If a number is no integer from 1 on, or a string is not of the form ``DATA`` or
        ``DATAxTENSOR``.

    Notes
    -----
    Devices are those of `jax.devices()`, in that order, of all processes.

    Examples
    --------
    >>> import precsim as ps
    >>> ps.replay.Devices.parse("4x2"), ps.replay.Devices.parse(2).count
    (Devices(data=4, tensor=2), 2)
    """

    data: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("data", "tensor"):
            object.__setattr__(self, name, integer(getattr(self, name), name, 1))

    @classmethod
    def parse(cls, given: "int | str | Devices") -> "Devices":
        """Return the devices that a number or a string stands for."""
        if isinstance(given, Devices):
            return given
        parts = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", str(given).strip())
        if parts is None or isinstance(given, bool) or not all(map(int, parts.groups("1"))):
            raise ValueError(
                f"devices is {shown(given)}; allowed is a number of devices, or DATAxTENSOR, such as "
                "'4x2'"
            )
        data, tensor = map(int, parts.groups("1"))
        return cls(data=data, tensor=tensor)

    def __str__(self) -> str:
        """Return a string that parses to these devices."""
        return f"{self.data}x{self.tensor}"

    @property
    def count(self) -> int:
        """All of them."""
        return self.data * self.tensor

    def mesh(self) -> Mesh | None:
        """Return the mesh of these devices; None for the only one.

        Raises
        ------
        ValueError
            If there are fewer, or if a process would have none of them.
        """
        there, processes = jax.devices(), jax.process_count()
        if self.count > len(there) or (processes > 1 and self.count != len(there)):
            simulated = (
                "; a CPU simulates N with XLA_FLAGS=--xla_force_host_platform_device_count=N"
                if there[0].platform == "cpu" and processes == 1
                else ""
            )
            said = "all" if processes > 1 else "up to"
            raise ValueError(
                f"devices is {self.count}; allowed are {said} {len(there)}, which JAX sees{simulated}"
            )
        # Where a process sees several GPUs, kernels are trusted inside `shard_map` only.
        if self.count == 1 and (len(there) == 1 or there[0].platform == "cpu"):
            return None
        chosen = np.array(there[: self.count]).reshape(self.data, self.tensor)
        return Mesh(chosen, (SHARDS, COLUMNS))


def on_each(mesh: Mesh | None, run: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that every device of a mesh runs, each on the same arrays.

    Products are shared out by columns.
    """
    if mesh is None:
        return jax.jit(run)
    same = partition()
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=same, out_specs=same, check_vma=False))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what each device has."""
    return NamedSharding(mesh, partition())


def shared_out(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what is divided along its first axis among the devices for data."""
    return NamedSharding(mesh, partition(SHARDS))


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Put arrays that each process has where a sharding wants them."""
    return jax.tree.map(partial(_placed, sharding=sharding), tree)


def _placed(x: Any, sharding: NamedSharding) -> Any:
    if isinstance(x, jax.Array) and x.sharding == sharding:
        return x
    if not hasattr(x, "dtype"):
        return x  # a number, which has no place
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        bits = _placed(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(x))
    there = np.asarray(x)
    return jax.make_array_from_callback(there.shape, sharding, lambda index: there[index])


def fetched(tree: Any) -> Any:
    """Return arrays that lie on several devices as each process can read them."""

    def fetch(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return x
        assert isinstance(x.sharding, NamedSharding)
        return _gather(x.sharding.mesh)(x)

    return jax.tree.map(fetch, tree)


@lru_cache(maxsize=8)
def _gather(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda x: x, out_shardings=everywhere(mesh))
