"""How programs of analyses are compiled: small ones soon, since they run a few times."""

from functools import cache
from typing import Any

import jax

from precsim.transform import jaxprs

_SMALL = 1 << 20
"""Numbers of a program that is compiled without optimisation, a turn of each loop counted."""
_HASTY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""Options of XLA on a CPU: compilation takes a third of the time. Not every version has all."""


def compiler_options(program: Any) -> dict[str, Any]:
    """Return options of `jax.jit` for the analysis of a program."""
    counts = [a.aval.size for e in jaxprs.equations(program) for a in e.outvars]
    is_small = sum(counts) < _SMALL and jax.default_backend() == "cpu"
    return _hasty() if is_small else {}


@cache
def _hasty() -> dict[str, Any]:
    """Return those options that this version of XLA has."""
    found: dict[str, Any] = {}
    for name, value in _HASTY.items():
        try:
            jax.jit(lambda x: x, compiler_options={name: value}).lower(0).compile()
        except jax.errors.JaxRuntimeError:
            continue
        found[name] = value
    return found
