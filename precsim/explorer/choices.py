"""What can be chosen: formats and their fields, the parts of a rule, orders, machines."""

from dataclasses import MISSING, fields
from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.sums import ARRANGEMENTS, METHODS
from precsim.explorer.table import WIDEST
from precsim.formats.floating import Specials
from precsim.formats.registry import get_format, list_formats
from precsim.products.specs.machines import MACHINES
from precsim.products.specs.matrix_units import MATRIX_UNITS
from precsim.products.specs.spec import MatmulSpec

_SPECIALS = {
    Specials.IEEE: "infinities and NaNs (IEEE 754)",
    Specials.FN: "one NaN for each sign, no infinity",
    Specials.FNUZ: "NaN in the place of -0, no infinity",
    Specials.NONE: "none",
    Specials.P3109_FINITE: "one NaN, no infinity (P3109)",
    Specials.P3109_EXTENDED: "one NaN, infinities (P3109)",
}
_ORDERS = {
    "sequential": "one after the other",
    "pairwise": "pairwise",
    "kahan": "compensated (Kahan)",
    "two_sum": "with all errors kept (two-sum)",
    "exact": "exactly, rounded once",
}
_FP8 = ("e4m3", "e5m2")
"""What the kind "fp8" of a machine stands for."""
_BLOCKS = {"b200": ("mxfp8_e4m3", "mxfp4", "nvfp4")}
"""Block formats that a machine multiplies too."""


def formats(asked: Asked) -> dict[str, Any]:
    """List what can be chosen."""
    names = {kind: list_formats(kind=kind) for kind in ("float", "fixed", "block")}
    orders = [(name, _ORDERS.get(name, f"in {_with_size(name)}")) for name in METHODS]
    machines = {name: _operands(name) for name in MACHINES}
    machines |= {name: list(units) for name, units in MATRIX_UNITS.items()}
    return {
        "kinds": {kind: [_listed(name, kind) for name in of] for kind, of in names.items()},
        "rule": {name: [_choice(member) for member in kind] for name, kind in read.RULE.items()},
        "fields": {kind: list(names_of) for kind, names_of in read.FIELDS.items()},
        "defaults": {kind: _defaults(kind) for kind in read.FIELDS},
        "specials": [[str(member), _SPECIALS[member]] for member in Specials],
        "machines": machines,
        "without_c": [
            f"{name}:{kind}"
            for name, kinds in machines.items()
            for kind in kinds
            if MatmulSpec.parse(f"{name}:{kind}").scales_sums
        ],
        "arrangements": list(ARRANGEMENTS),
        "orders": [{"value": name, "label": label} for name, label in orders],
    }


def _with_size(order: str) -> str:
    """Write "blocked16" as words."""
    return f"blocks of {order.removeprefix('blocked')}"


def _operands(machine: str) -> list[str]:
    """Return the operands of a machine."""
    kinds = list(MACHINES[machine])
    numbers = [name for kind in kinds for name in (_FP8 if kind == "fp8" else (kind,))]
    return [*numbers, *_BLOCKS.get(machine, ())]


def _defaults(kind: str) -> dict[str, Any]:
    """Return the fields of a format that have a default."""
    found = {field.name: field.default for field in fields(read.CLASSES[kind])}
    return {name: _json(found[name]) for name in read.FIELDS[kind] if found[name] is not MISSING}


def _choice(member: Any) -> dict[str, str]:
    return {"value": str(member), "label": member.name.lower().replace("_", " ")}


def _listed(name: str, kind: str) -> dict[str, Any]:
    fmt = get_format(name)
    width = getattr(fmt, "width", None)
    known = {field: getattr(fmt, field) for field in read.FIELDS.get(kind, ())}
    return {
        "name": name,
        "kind": kind,
        "width": width,
        "is_small": isinstance(width, int) and width <= WIDEST,
        "fields": {key: _json(value) for key, value in known.items()},
    }


def _json(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int)) else str(value)
