"""What can be chosen: formats and their fields, the parts of a rule, orders, machines."""

from dataclasses import MISSING, fields
from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.explorer.sums import ARRANGEMENTS, METHODS
from precsim.explorer.table import WIDEST
from precsim.formats.floating import Specials
from precsim.formats.registry import get_format, list_formats
from precsim.products.specs.machines import list_machines
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


def formats(asked: Asked) -> dict[str, Any]:
    """List what can be chosen."""
    names = {kind: list_formats(kind=kind) for kind in ("float", "fixed", "block")}
    orders = [(name, _ORDERS.get(name, f"in {_with_size(name)}")) for name in METHODS]
    products = [name for name in list_machines() if ":acc=" not in name]
    machines: dict[str, list[str]] = {}
    for machine, operand in (name.split(":") for name in products):
        machines.setdefault(machine, []).append(operand)
    return {
        "kinds": {kind: [_listed(name, kind) for name in of] for kind, of in names.items()},
        "rule": {name: [_choice(member) for member in kind] for name, kind in read.RULE.items()},
        "fields": {kind: list(names_of) for kind, names_of in read.FIELDS.items()},
        "defaults": {kind: _defaults(kind) for kind in read.FIELDS},
        "specials": [[str(member), _SPECIALS[member]] for member in Specials],
        "machines": machines,
        "without_c": [name for name in products if MatmulSpec.parse(name).scales_sums],
        "arrangements": list(ARRANGEMENTS),
        "orders": [{"value": name, "label": label} for name, label in orders],
    }


def _with_size(order: str) -> str:
    """Write "blocked16" as words."""
    return f"blocks of {order.removeprefix('blocked')}"


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
