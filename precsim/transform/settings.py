"""The text of a policy, as a string or as TOML: settings ``KEY=VALUE,...``, then rules."""

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from precsim.formats.arguments import shown, unknown
from precsim.formats.scaled import scaled_format
from precsim.products.specs.grammar import split_outside_brackets
from precsim.rounding.modes import RoundingMode
from precsim.rounding.spec import RoundingSpec
from precsim.transform.presets import PRESETS

ONCE = ("p", "update", "opt", "mu", "nu", "scale", "out")
"""Keys of what exists once in a training or function, so that no scope has its own."""

FIELDS = {
    "p": "params",
    "fwd": "forward",
    "dgrad": "dgrad",
    "wgrad": "wgrad",
    "e": "elementwise",
    "update": "update",
    "opt": "optimizer_state",
    "mu": "first_moment",
    "nu": "second_moment",
    "scale": "loss_scale",
    "tensor": "tensor_scaling",
    "fn": "functions",
    "red": "reductions",
    "order": "reduction_order",
    "softmax": "softmax",
    "norm": "normalisation",
    "out": "output",
}
"""Key -> field, for each key that sets one field, in the order in which they are written."""

PARTS = {"lhs": "c", "rhs": "c", "accumulator": "acc", "output": "o"}
"""Part of a product -> key that sets it in all products."""

JMP = {"params": "p", "compute": "c", "output": "o"}
"""Long key of jmp -> key."""

_KEYS = ("p", "c", "o", "acc", *list(FIELDS)[1:])


def both_names(field: str) -> str:
    """Return the name of a field, with its key in texts: "first_moment (mu=)"."""
    key = next((key for key, name in FIELDS.items() if name == field), field)
    return field if key == field else f"{field} ({key}=)"


def read_settings(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings of the preset, and those given, in ``PRESET,KEY=VALUE,...``.

    Each part may be missing.
    """
    first, *others = _split(text)
    if "=" in first.partition("(")[0]:
        return {}, _settings(text)
    preset = PRESETS.get(first) or _everywhere(first)
    return _settings(preset), _settings(",".join(others))


def _everywhere(text: str) -> str:
    """Return the policy that a format stands for: everything is stored and computed in it.

    Operands are rounded to nearest where results are rounded stochastically.
    """
    try:
        spec = RoundingSpec.parse(text)
    except ValueError:
        raise ValueError(
            f"{unknown('policy', text, PRESETS)} (also a format, or KEY=VALUE,...)"
        ) from None
    if scaled_format(spec.format) is not None:
        raise ValueError(
            f"policy is {shown(text)}, a format with scales; allowed are formats of single numbers, and "
            f"formats with scales as operands of products, such as 'fwd={spec}_{spec}_fp32'"
        )
    if spec.mode is not RoundingMode.STOCHASTIC:
        return f"p={text},c={text},o={text}"
    nearest = RoundingSpec(format=spec.format)
    return f"p={nearest},c={nearest},o={text},e={text},update={text}"


def read_change(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what `read_settings` does, for a scope: without what exists once."""
    preset, own = read_settings(text)
    for key in ONCE:
        if key in own:
            raise ValueError(
                f"{key}= is given; {', '.join(ONCE)} exist once and are allowed in the base only"
            )
    return {key: value for key, value in preset.items() if key not in ONCE}, own


def write_settings(settings: dict[str, object]) -> str:
    """Return ``KEY=VALUE,...``."""
    return ",".join(f"{key}={value}" for key, value in settings.items())


def split_rule(text: str) -> tuple[str, str]:
    """Return the scope and the change of ``SCOPE:CHANGE``."""
    scope, colon, change = (part.strip() for part in text.partition(":"))
    if not (scope and colon and change):
        raise ValueError(
            f"rule {shown(text)} is not understood; a rule is SCOPE:SETTINGS, such as 'layer3:bf16' "
            "or 'layer3:e=bf16'"
        )
    return scope, change


def _split(text: str) -> list[str]:
    """Split at the commas outside of parentheses and brackets."""
    return split_outside_brackets(text, ",", "()[]")


def _settings(text: str) -> dict[str, str]:
    """Split ``KEY=VALUE,...``."""
    settings: dict[str, str] = {}
    for part in filter(None, _split(text)):
        key, equals, value = part.partition("=")
        key = JMP.get(key, key)
        if not equals or key not in _KEYS or not value:
            raise ValueError(
                f"policy setting {shown(part)} is not understood; keys are {', '.join(_KEYS)}"
            )
        if key in settings:
            raise ValueError(f"policy {shown(text)} gives {shown(key)} twice")
        settings[key] = value
    return settings


def read_toml(source: str | Path) -> tuple[str, str]:
    """Return the name, empty where none is given, and the policy string of a TOML file or text."""
    is_file = isinstance(source, Path) or (source.endswith(".toml") and "\n" not in source)
    where = str(source) if is_file else "policy in TOML"
    try:
        content = tomllib.loads(Path(source).read_text("utf-8") if is_file else str(source))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise ValueError(f"{where} cannot be read: {said}") from None
    _check_table(where, content, {"policy": str, "name": str, "rule": list}, ("policy",))
    rules = content.get("rule", [])
    for number, rule in enumerate(rules, 1):
        keys = {"scope": str, "policy": str}
        _check_table(f"{where}, rule {number}", rule, keys, tuple(keys))
    texts = [content["policy"], *(f"{rule['scope']}:{rule['policy']}" for rule in rules)]
    if wrong := [text for text in texts if ";" in text]:
        raise ValueError(f"{where}: {shown(wrong[0])} has a ';'; a rule is a table, [[rule]]")
    return content.get("name", ""), ";".join(texts)


def _check_table(
    where: str, table: Any, kinds: Mapping[str, type], required: tuple[str, ...]
) -> None:
    """Refuse a table without a required key, with an unknown one, or with a value of no use."""
    is_table = isinstance(table, dict)
    if not is_table:
        raise ValueError(f"{where} is {shown(table)}; allowed is a table, [[rule]]")
    for key in required:
        if key not in table:
            raise ValueError(f"{where} has no {key!r}")
    for key, value in table.items():
        if key not in kinds:
            raise ValueError(f"{where}: {unknown('key', key, kinds)}")
        is_of_kind = isinstance(value, kinds[key])
        if not is_of_kind:
            allowed = "is a string" if kinds[key] is str else "are tables, [[rule]]"
            raise ValueError(f"{where}: {key} is {shown(value)}; allowed {allowed}")


def write_toml(name: str, text: str) -> str:
    """Return the TOML of a policy string; an empty name is left out."""
    base, *rules = text.split(";")
    lines = [f"name = {_quoted(name)}"] if name else []
    lines.append(f"policy = {_quoted(base)}")
    for rule in rules:
        scope, change = split_rule(rule)
        lines += ["", "[[rule]]", f"scope = {_quoted(scope)}", f"policy = {_quoted(change)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


FIRST_FACTOR, LEAST_FACTOR, LARGEST_FACTOR = 2.0**15, 1.0, 2.0**24
"""Of a dynamic loss scale, where nothing is said."""
LOSS_SCALE_OPTIONS: dict[str, tuple[str, Callable[[float], bool], str]] = {
    "interval": ("growth_interval", lambda x: x >= 1 and x % 1 == 0, "integers from 1"),
    "growth": ("growth_factor", lambda x: x > 1, "numbers above 1"),
    "backoff": ("backoff_factor", lambda x: x < 1, "numbers between 0 and 1"),
    "min": ("min_factor", lambda x: True, "numbers from 2**-126 to 2**126"),
    "max": ("max_factor", lambda x: True, "numbers from 2**-126 to 2**126"),
}
"""Option of a dynamic loss scale -> field of `DynamicLossScale`, what it can be, in words."""


def loss_scale_text(given: object) -> str:
    """Return a loss scale, given as text or number, as a policy writes it; refuse what is none."""
    read_loss_scale(given)
    return str(given)


def read_loss_scale(given: object) -> tuple[str, dict[str, Any]]:
    """Return "none", "static" or "dynamic", and the fields that a loss scale gives."""
    text = str(given)
    if text == "none":
        return "none", {}
    is_dynamic = re.fullmatch(r"dynamic(@[^\[]+)?(\[(.+)\])?", text)
    number = text if is_dynamic is None else (is_dynamic[1] or "")[1:]
    fields = {"factor": positive(number)} if number or is_dynamic is None else {}
    if None in fields.values():
        raise ValueError(
            f"loss scale is {shown(given)}; allowed are 'none', 'dynamic', a number from 2**-126 to "
            "2**126, 'dynamic@' and such a number, and options after it, as in "
            "'dynamic@1024[interval=200,growth=2,backoff=0.5,min=1,max=65536,redo]'"
        )
    if is_dynamic is None:
        return "static", fields
    options = _loss_scale_options(is_dynamic[3])
    first = fields.get("factor", FIRST_FACTOR)
    if not options.get("min_factor", 0.0) <= first <= options.get("max_factor", math.inf):
        raise ValueError(
            f"loss scale is {shown(text)} and starts at {first:.10g}; allowed is a start from its min "
            "to its max"
        )
    return "dynamic", fields | options


def _loss_scale_options(text: str | None) -> dict[str, Any]:
    """Return the fields that ``OPTION=NUMBER,...,redo`` gives."""
    fields: dict[str, Any] = {}
    for part in text.split(",") if text else ():
        key, _, value = part.partition("=")
        if part == "redo":
            fields["redo"] = True
            continue
        if key not in LOSS_SCALE_OPTIONS:
            known = (*LOSS_SCALE_OPTIONS, "redo")
            raise ValueError(unknown("option of the loss scale", key, known))
        field, is_allowed, allowed = LOSS_SCALE_OPTIONS[key]
        if field in fields:
            raise ValueError(f"loss scale gives {key} twice: {shown(text)}")
        number = positive(value)
        if number is None or not is_allowed(number):
            raise ValueError(f"{key} of the loss scale is {shown(value)}; allowed are {allowed}")
        fields[field] = int(number) if key == "interval" else number
    least, most = fields.get("min_factor", LEAST_FACTOR), fields.get("max_factor", LARGEST_FACTOR)
    if least > most:
        raise ValueError(
            f"loss scale has {shown(text)}; allowed is a min up to its max ({least:.10g} to {most:.10g})"
        )
    return fields


def positive(text: str) -> float | None:
    """Return a number that is normal in float32, like its inverse, else None."""
    if not re.fullmatch(r"\d+(\.\d+)?(e[+-]?\d+)?", text):
        return None
    number = float(text)
    return number if 2.0**-126 <= number <= 2.0**126 else None
