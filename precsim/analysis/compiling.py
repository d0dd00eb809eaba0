"""How programs of analyses are compiled: small ones soon, since they run a few times."""

from typing import Any

import jax

from precsim.transform import jaxprs

_SMALL = 1 << 20
"""Numbers of a program that is compiled without optimisation, a turn of each loop counted."""
_HASTY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""Options of XLA on a CPU: compilation takes a third of the time."""


def compiler_options(program: Any) -> dict[str, Any]:
    """Return options of `jax.jit` for the analysis of a program."""
    counts = [a.aval.size for e in jaxprs.equations(program) for a in e.outvars]
    is_small = sum(counts) < _SMALL and jax.default_backend() == "cpu"
    return _HASTY if is_small else {}
