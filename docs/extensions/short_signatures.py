"""Signatures of one line: long ones end in ``...``; the parameter list has all defaults."""

import enum
import inspect
import re
from typing import Any

MAX_CHARACTERS = 80
"""What a signature may be long; further options become ``...``."""


def short_default(value: object) -> str:
    """Return a default as one would type it: a spec is its string, an enumeration its member.

    Examples
    --------
    >>> import precsim as ps
    >>> print(short_default(ps.RoundingSpec.parse("bf16:sr")))
    'bf16:sr'
    >>> print(short_default(ps.RoundingMode.TOWARD_ZERO))
    RoundingMode.TOWARD_ZERO
    """
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if type(value).__module__.startswith("precsim."):
        return repr(str(value))
    text = repr(value)
    return "..." if text.startswith("<") else text


def _parts(signature: inspect.Signature) -> list[tuple[str, bool]]:
    """Return the parts of a signature, and whether each may be left out."""
    parts: list[tuple[str, bool]] = []
    has_star = False
    for parameter in signature.parameters.values():
        is_option = parameter.kind is parameter.KEYWORD_ONLY
        if is_option and not has_star:
            parts.append(("*", False))
        has_star |= is_option or parameter.kind is parameter.VAR_POSITIONAL
        text = str(parameter).partition("=")[0].partition(":")[0].strip()  # with its stars
        has_default = parameter.default is not parameter.empty
        if has_default:
            text += f"={short_default(parameter.default)}"
        parts.append((text, is_option and has_default))
    return parts


def short_signature(signature: inspect.Signature, width: int = MAX_CHARACTERS) -> str:
    """Return a signature of at most `width` characters, if what is required leaves room.

    Parameters
    ----------
    signature : inspect.Signature
        Of a function or class.
    width : int
        Characters, brackets included.

    Returns
    -------
    str
        Options that do not fit are ``...``.

    Examples
    --------
    >>> def f(x, *, loss, steps=900, optimizer="sgd", seed=0): ...
    >>> short_signature(inspect.signature(f), width=34)
    '(x, *, loss, steps=900, ...)'
    """
    parts = _parts(signature)
    while True:
        dropped = len(_parts(signature)) - len(parts)
        text = f"({', '.join([*(text for text, _ in parts), *(['...'] if dropped else [])])})"
        last = next((i for i in reversed(range(len(parts))) if parts[i][1]), None)
        if len(text) <= width or last is None:
            return text
        del parts[last]


def add_defaults(lines: list[str], signature: inspect.Signature) -> None:
    """Write each default into the line of its parameter, in place, where it is not yet said.

    Parameters
    ----------
    lines : list of str
        A numpydoc docstring.
    signature : inspect.Signature
        With the defaults.

    Examples
    --------
    >>> def f(x, steps=900): ...
    >>> lines = ["Parameters", "----------", "x : float", "    A number.", "steps : int", ""]
    >>> add_defaults(lines, inspect.signature(f))
    >>> lines[2], lines[4]
    ('x : float', 'steps : int, default 900')
    """
    heads = [i for i, line in enumerate(lines) if re.fullmatch(r"-{3,}", line)]
    for start in heads:
        if lines[start - 1].strip() != "Parameters":
            continue
        end = min([i - 1 for i in heads if i > start], default=len(lines))
        for i in range(start + 1, end):
            name, colon, kind = lines[i].partition(" : ")
            parameter = signature.parameters.get(name)
            if not colon or parameter is None or parameter.default is parameter.empty:
                continue
            default = short_default(parameter.default)
            if default != "..." and not re.search(r"\b(default|optional)\b", kind):
                lines[i] += f", default {default}"


def _signature_of(what: str, value: Any) -> inspect.Signature | None:
    """Return the signature of a public function, class or method, without annotations."""
    if what not in {"class", "function", "method"} or (
        inspect.isclass(value) and issubclass(value, enum.Enum)
    ):
        return None
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if what == "method" and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    return signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in parameters],
        return_annotation=inspect.Signature.empty,
    )


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx, before numpydoc reads the docstrings."""

    def process_signature(app: Any, what: str, name: str, value: Any, *rest: Any) -> Any:
        signature = _signature_of(what, value)
        return None if signature is None else (short_signature(signature), "")

    def process_docstring(
        app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]
    ) -> None:
        signature = _signature_of(what, value)
        if signature is not None:
            add_defaults(lines, signature)

    app.connect("autodoc-process-signature", process_signature)
    app.connect("autodoc-process-docstring", process_docstring, priority=100)
    return {"parallel_read_safe": True}
