"""Numerical-precision simulator and error-analysis toolkit for JAX and NumPy.

What does a computation lose in a format, where, and why? `precsim` answers with bit-exact emulation of
number formats, rounding, arithmetic and matrix products, with training loops that use them, and with
measurements of every loss.

Public names load on first use, so that ``import precsim`` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from precsim.formats.codec import decode as decode
    from precsim.formats.codec import encode as encode
    from precsim.formats.fixed_point import FixedPointFormat as FixedPointFormat
    from precsim.formats.floating import FloatFormat as FloatFormat
    from precsim.formats.floating import Specials as Specials
    from precsim.formats.registry import get_format as get_format
    from precsim.formats.registry import list_formats as list_formats
    from precsim.formats.registry import register_format as register_format
    from precsim.rounding.api import round_to as round_to
    from precsim.rounding.api import ulp as ulp
    from precsim.rounding.oracle import Flags as Flags
    from precsim.rounding.oracle import round_exact as round_exact
    from precsim.rounding.spec import RoundingSpec as RoundingSpec

_MODULES = {
    "formats.codec": ("decode", "encode"),
    "formats.fixed_point": ("FixedPointFormat",),
    "formats.floating": ("FloatFormat", "Specials"),
    "formats.registry": ("get_format", "list_formats", "register_format"),
    "rounding.api": ("round_to", "ulp"),
    "rounding.oracle": ("Flags", "round_exact"),
    "rounding.spec": ("RoundingSpec",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_WHERE)  # noqa: PLE0605

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name from the module that defines it."""
        if name not in _WHERE:
            raise AttributeError(f"module 'precsim' has no attribute {name!r}")
        return getattr(import_module(f"precsim.{_WHERE[name]}"), name)

    def __dir__() -> list[str]:
        """List the public names."""
        return sorted([*globals(), *__all__])
