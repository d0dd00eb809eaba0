"""Signatures on the pages are short, and no default is lost."""

import enum
import inspect

import precsim as ps
from docs.extensions.short_signatures import MAX_CHARACTERS, add_defaults, short_signature
from tests.public_names import public_objects


def signatures() -> dict[str, inspect.Signature]:
    """Return the signatures of public functions and classes, without annotations."""
    found = {}
    for name, value in public_objects().items():
        if callable(value) and not isinstance(value, enum.EnumMeta):
            bare = inspect.signature(value)
            parameters = [p.replace(annotation=p.empty) for p in bare.parameters.values()]
            found[name] = inspect.Signature(parameters)
    return found


def test_only_required_arguments_make_a_signature_long() -> None:
    long = {n: s for n, s in signatures().items() if len(short_signature(s)) > MAX_CHARACTERS}
    assert [name for name, signature in long.items() if "=" in short_signature(signature)] == []


def test_spec_is_its_string() -> None:
    shown = short_signature(signatures()["MatmulSpec"], width=1000)
    assert "FloatFormat(" not in shown
    assert "<" not in shown


def test_defaults_are_written_where_parameters_are() -> None:
    lines = inspect.cleandoc(ps.TrainConfig.__doc__ or "").splitlines()
    add_defaults(lines, inspect.signature(ps.TrainConfig))
    assert "steps : int, default 900" in lines
    assert "policy : Policy or str" in lines
