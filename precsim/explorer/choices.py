"""What can be chosen: formats and their fields, the parts of a rule, the machines."""

from typing import Any

from precsim.explorer import asked as read
from precsim.explorer.asked import Asked
from precsim.formats.fixed_point import FixedPointFormat
from precsim.formats.floating import Specials
from precsim.formats.registry import get_format, list_formats
from precsim.products.specs.machines import MACHINES


def formats(asked: Asked) -> dict[str, Any]:
    """List what can be chosen: formats by kind with their fields, parts of a rule, machines."""
    names = {kind: list_formats(kind=kind) for kind in ("float", "fixed", "block")}
    return {
        "kinds": {kind: [_listed(name) for name in of] for kind, of in names.items()},
        "rule": {name: [_choice(member) for member in kind] for name, kind in read.RULE.items()},
        "machines": {name: list(kinds) for name, kinds in MACHINES.items()},
        "specials": [str(member) for member in Specials],
    }


def _choice(member: Any) -> dict[str, str]:
    return {"value": str(member), "label": member.name.lower().replace("_", " ")}


def _listed(name: str) -> dict[str, Any]:
    fmt = get_format(name)
    fields = read.FIELDS.get("fixed" if isinstance(fmt, FixedPointFormat) else "float", ())
    known = {field: getattr(fmt, field, None) for field in fields}
    return {
        "name": name,
        "width": getattr(fmt, "width", None),
        "fields": {key: value if value is None else _json(value) for key, value in known.items()},
    }


def _json(value: Any) -> Any:
    return value if isinstance(value, (bool, int)) else str(value)
