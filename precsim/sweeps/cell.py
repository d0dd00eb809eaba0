"""`Cell`: one run of a sweep, as a text that is the same wherever it is written."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from precsim import __version__
from precsim.formats.arguments import shown
from precsim.training.config import TrainConfig
from precsim.training.control.schedule import schedule_from
from precsim.transform.policy import Policy

REFERENCE = "fp32"
"""The policy that every sweep has, with which the others are compared seed by seed."""

_PACKAGES = ("numpy", "jax", "jaxlib", "ml_dtypes", "optax", "scikit-learn")
"""What may change a result, besides precsim."""


@dataclass(frozen=True)
class Cell:
    """One run.

    Parameters
    ----------
    config : TrainConfig
        All that decides it. The name of its policy is a label, unless it is a schedule.

    Examples
    --------
    >>> cell = Cell(TrainConfig(policy="bf16", model="linear", steps=3, seed=4))
    >>> cell == Cell.parse(cell.text)
    True
    >>> len(cell.key({"jax": "0.10.2"})), cell.program == cell.with_seed(5).program
    (64, True)
    """

    config: TrainConfig

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Return the cell of a text that `text` has written.

        Raises
        ------
        ValueError
            If the text is none.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            policy = _policy(found.pop("policy"), found.pop("name"))
            return cls(TrainConfig(policy=policy, **found))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"cell is {shown(text)}, which is none: {error}") from None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings by name; the policy is written out, and its name stands beside it."""
        policy = self.config.policy
        values = {f.name: getattr(self.config, f.name) for f in fields(self.config)}
        return {**values, "name": policy.name, "policy": _words(policy, policy.name)[0]}

    @cached_property
    def text(self) -> str:
        """The settings as JSON in one canonical form."""
        return _canonical(self.settings)

    @cached_property
    def program(self) -> str:
        """What cells share that differ in their seed only: JAX compiles them once."""
        return _canonical(self._identity() | {"seed": None})

    @cached_property
    def group(self) -> str:
        """What cells share that differ in their policy only, and are compared."""
        return _canonical(self.settings | {"name": None, "policy": None})

    @cached_property
    def block(self) -> str:
        """What cells share that differ in policy and seed only: a model and its settings."""
        return _canonical(self.settings | {"name": None, "policy": None, "seed": None})

    @property
    def label(self) -> str:
        """A few words for people."""
        config = self.config
        return f"{config.policy.name}, {config.model}, seed {config.seed}"

    @property
    def is_reference(self) -> bool:
        """Whether it is the run that others are compared with."""
        return self.config.policy == Policy.parse(REFERENCE) and not self._schedule()

    def reference(self) -> "Cell":
        """Return the cell that this one is compared with."""
        return Cell(replace(self.config, policy=Policy.parse(REFERENCE)))

    def with_seed(self, seed: int) -> "Cell":
        """Return the cell with another seed."""
        return Cell(replace(self.config, seed=seed))

    def key(self, facts: dict[str, str | None]) -> str:
        """Return the SHA-256 of what decides the result: the cell, and the versions."""
        return hashlib.sha256(_canonical([self._identity(), facts]).encode()).hexdigest()

    def _identity(self) -> dict[str, Any]:
        """Return the settings; a name that is only a label is not one."""
        return {**self.settings, "name": self._schedule()}

    def _schedule(self) -> str:
        policy = self.config.policy
        return _words(policy, policy.name)[1]


@lru_cache(maxsize=1024)
def _policy(text: str, name: str) -> Policy:
    return replace(Policy.parse(text), name=name)


@lru_cache(maxsize=1024)
def _words(policy: Policy, name: str) -> tuple[str, str]:
    """Return a policy written out, and its name if that is a schedule, which decides a run too."""
    return str(policy), name if schedule_from(policy) else ""


def versions() -> dict[str, str | None]:
    """Return the versions that may change a result.

    Examples
    --------
    >>> sorted(versions())[:3]
    ['jax', 'jaxlib', 'ml_dtypes']
    """
    return {"precsim": __version__, **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
