"""Parsers of texts: formats, roundings, products, policies, schedules, numbers, questions."""

import json
import math
import random
from fractions import Fraction
from typing import Any

import precsim as ps
from conformance.fuzzing.inputs import NUMBERS, Grammar, changed_text, sentence, words_of
from conformance.fuzzing.parser import Inputs, Parser, named

_FORMATS: Grammar = {
    "int": NUMBERS,
    "float": ("float(<field>)", "float(<field>,<field>)", "float(<field>,<field>,<field>)"),
    "field": ("e=<int>", "p=<int>", "bias=<int>", "specials=fn", "specials=<word>", "<word>=<int>"),
    "fixed": ("q<int>.<int>", "uq<int>.<int>", "fixed(<int>,<int>)", "int<int>", "uint<int>"),
    "p3109": ("p3109_k<int>p<int><word>", "p3109_k8p4se", "p3109_k6p3uf"),
    "scaled": ("<plain>:scale=<word>", "mxfp<int>_<plain>", "<plain>[<int>]", "<plain>x<int>"),
    "word": ("se", "uf", "tensor", "channel", "block32", "e8m0", "ieee", "none", "fnuz", "s", "u"),
    "plain": tuple(ps.list_formats()),
    "format": ("<plain>", "<plain>", "<float>", "<fixed>", "<p3109>", "<scaled>"),
}
_ROUNDINGS: Grammar = {
    **_FORMATS,
    "mode": (
        "rne",
        "rna",
        "rnz",
        "rtz",
        "raz",
        "rtp",
        "rtn",
        "rto",
        "sr",
        "sr<int>",
        "sr8:b",
        "sr<int>:c",
    ),
    "part": (
        "<mode>",
        *("saturate", "infinity", "wrap", "propagate", "saturate_infinity", "infinity_or_max"),
        *(
            "flush_after_rounding",
            "nearest_of_zero_and_min",
            "gradual",
            "scale=tensor",
            "scale=<word>",
        ),
    ),
    "rounding": (
        "<format>",
        "<format>:<part>",
        "<format>:<part>:<part>",
        "<format>:<part>:<part>:<part>",
    ),
}
_PRODUCTS: Grammar = {
    **_ROUNDINGS,
    "machine": ("h100", "a100", "v100", "b200", "ada", "cdna3", "h<int>"),
    "order": (
        *(
            "sequential",
            "pairwise",
            "kahan",
            "exact",
            "blocked<int>",
            "promote<int>",
            "splitk<int>",
        ),
        *("fused(L=<int>,F=<int>)", "<order>:<order>", "adder=<rounding>", "o=<rounding>"),
    ),
    "product": (
        "<plain>_<plain>_<plain>",
        "<plain>_<plain>_<plain>:<order>",
        "<rounding>_<rounding>_<rounding>:<part>",
        "<machine>:<plain>",
        "<machine>:<plain>:<order>",
    ),
}
_POLICIES: Grammar = {
    **_PRODUCTS,
    "preset": ps.list_policies(),
    "key": (
        *("p", "c", "o", "acc", "fwd", "dgrad", "wgrad", "e", "update", "opt", "scale", "tensor"),
        *("fn", "red", "order", "softmax", "norm", "out", "params", "compute", "output"),
    ),
    "value": (
        *(
            "<rounding>",
            "<product>",
            "<order>",
            "dynamic",
            "dynamic@<int>",
            "static(<int>)",
            "none",
        ),
        *("current", "delayed", "delayed(<int>)", "portable", "platform", "kahan", "True", "f32"),
    ),
    "setting": ("<key>=<value>", "<key>=<value>,<setting>"),
    "scope": ("block0/qkv", "*", "softmax*", "conv?", "[a-", "<int>", "a;b", "'x:y'", "**/w"),
    "rule": ("<scope>:<policy1>", "<scope>:<setting>"),
    "policy1": ("<preset>", "<preset>,<setting>", "<setting>", "<rounding>"),
    "policy": ("<policy1>", "<policy1>;<rule>", "<policy1>;<rule>;<rule>"),
}
_SCHEDULES: Grammar = {
    **_POLICIES,
    "phase": ("<preset>@<int>", "<policy>@<int>"),
    "ladder": ("q3.{<int>..<int>}", "{4..8}", "<plain>", "fp16|bf16", "q{1..3}.{4..6}"),
    "schedule": (
        "<phase>",
        "<phase>,<phase>",
        "<phase>,<phase>,@<int>",
        "cyclic[<int>]:<ladder>",
        "ramp[<int>]:<ladder>",
    ),
}
_NUMBERS: Grammar = {
    "digits": (
        *NUMBERS,
        "0.1",
        "1e-3",
        "0x1.8p-3",
        "pi",
        "e",
        "infinity",
        "65504",
        "1e9999",
        "0xp",
    ),
    "number": (
        "<digits>",
        *("<number><op><number>", "(<number>)", "-<number>", "+<number>", "<digits>**<digits>"),
    ),
    "op": ("+", "-", "*", "/", "**", "^", "//", " "),
}
_EXPRESSIONS: Grammar = {
    **_NUMBERS,
    "list": ("[<number>]", "[<number>,<number>]", "[<number>, <expression>]"),
    "expression": (
        *("<number>", "<expression><op><expression>", "sqrt(<expression>)", "kahan(<list>)"),
        *(
            "fma(<number>,<number>,<number>)",
            "sum(<list>)",
            "dot(<list>,<list>)",
            "blocked4(<list>)",
        ),
        *("dot(<list>,<list>,h100:fp16)", "dot(<list>,<list>,c=<number>)", "(<expression>)"),
    ),
}
_CODES: Grammar = {
    "code": ("0x<hex>", "0b<bits>", "<bits> <bits> <bits>", "<hex>", "<int>"),
    "hex": ("3c00", "0", "ffffffffffffffff", "FF", "g", "<hex><hex>", "_", "\u0663"),
    "bits": ("0", "1", "0111", "<bits><bits>", "2", "\u0661"),
    "int": NUMBERS,
}
_SMALL: Grammar = {
    **_ROUNDINGS,
    "all_reduce": (
        "ring",
        "tree",
        "doubling",
        "platform",
        "ring:<rounding>",
        "tree:<rounding>:feedback",
    ),
    "accumulator": ("<rounding>", "<rounding>:kahan", "<rounding>:first", "<rounding>:kahan:first"),
    "devices": ("<int>", "<int>x<int>", "4x2", "1x1x1", "x"),
    "promotion": ("flat", "promote<int>", "splitk<int>", "residue_first<int>", "pairs", "<word>"),
}


def texts(grammar: Grammar, name: str) -> Inputs:
    """Return what makes inputs: sentences, every second one with places changed."""
    words = words_of(grammar)

    def make(rng: random.Random) -> str:
        text = sentence(rng, grammar, name)
        return changed_text(rng, text, words) if rng.random() < 0.5 else text

    return make


def _number_text(value: Fraction | float) -> str | None:
    """Return a number that is read as this one; None if it would be too long."""
    text = str(value)
    return text if len(text) <= 1_000 else None


def _same_bits(value: Fraction | float) -> Fraction | str:
    """Return a number so that NaN equals itself and -0 is not 0."""
    if isinstance(value, Fraction):
        return value
    return "nan" if math.isnan(value) else f"{value} {math.copysign(1, value)}"


def _show(text: str) -> Any:
    return _same_bits(named("precsim.formats.written:parse_number")(text))


def _json(rng: random.Random, document: Any, words: tuple[str, ...]) -> Any:
    """Return a JSON document with some leaves and fields changed."""
    if isinstance(document, dict):
        found = {key: _json(rng, value, words) for key, value in document.items()}
        if found and rng.random() < 0.1:
            del found[rng.choice(list(found))]
        if rng.random() < 0.1:
            found[rng.choice(words)] = rng.choice(words)
        return found
    if isinstance(document, list):
        return [_json(rng, each, words) for each in document] * rng.choice((1, 1, 1, 2, 0))
    if rng.random() < 0.7:
        return document
    other: tuple[Any, ...] = (None, True, 0, -1, 2**70, 0.5, math.nan, math.inf, [], {}, [[]], "")
    if isinstance(document, str) and rng.random() < 0.8:
        return changed_text(rng, document, words)
    return rng.choice(other)


_QUESTIONS: tuple[dict[str, Any], ...] = (
    {"question": "number", "value": "0.1", "format": "fp16", "mode": "rne", "random_bits": 3},
    {"question": "number", "value": "1/3", "format": {"kind": "float", "precision": 4, "exponent_bits": 4}},
    {"question": "code", "code": "0x3c01", "format": "fp16"},
    {"question": "roundings", "value": "1+2**-11", "format": "fp16"},
    {"question": "line", "value": "2.6", "format": "e2m1", "view": "whole", "scale": "log"},
    {"question": "table", "format": "e2m1", "first": "0"},
    {"question": "formats"},
    {"question": "histogram", "values": "1, 0, nan, 2**-30", "formats": ["fp16", "q3.4"]},
    {"question": "loss_scales", "values": "1e-3, 3e-8", "format": "fp16"},
    {"question": "block", "values": "1, 0.1, -7", "format": "mxfp4"},
    {"question": "sum", "addends": "2048, 1 x 9", "format": "fp16", "order": "kahan", "arrangement": "reversed", "seed": 1},
    {"question": "orders", "addends": "2048, 1 x 9", "format": "fp16"},
    {"question": "tensor_core", "machine": "h100:fp16", "a": "-2^13, -0.5, -0.25", "b": "2^10, 1, 1", "c": "2^23"},
    {"question": "many", "requests": [{"question": "code", "code": "1", "format": "bf16"}]},
    {"question": "histogram", "name": "x.npy", "file": "k05VTVBZAQB2AA==", "formats": ["fp16"]},
)  # fmt: skip


def _question(rng: random.Random) -> Any:
    words = words_of(_EXPRESSIONS) + words_of(_ROUNDINGS)
    return _json(rng, rng.choice(_QUESTIONS), words)


def _answer(request: Any) -> Any:
    """Answer a question: in JSON whatever it is, and in one line if it cannot be answered."""
    said = named("precsim.explorer.answers:answer")(request)
    json.dumps(said, allow_nan=False)
    if "error" in said:
        raise ValueError(said["error"])
    return None


def _walk(text: str) -> Any:
    named("precsim.analysis.walking.grammar:parse")(text)


def _policy_file(text: str) -> Any:
    return ps.Policy.from_toml(text + "\n")


def _toml(rng: random.Random) -> str:
    rule = '\n[[rule]]\nscope = "<scope>"\npolicy = "<policy1>"'
    lines = ('policy = "<policy1>"', 'name = "x"', rule, rule)
    grammar = {**_POLICIES, "start": ["\n".join(lines[: rng.randint(1, 4)])]}
    text = sentence(rng, grammar)
    return changed_text(rng, text, words_of(grammar)) if rng.random() < 0.5 else text


TEXTS: dict[str, Parser] = {
    "formats": Parser(read=ps.get_format, make=texts(_FORMATS, "format"), written=str, share=8),
    "roundings": Parser(
        read=ps.RoundingSpec.parse, make=texts(_ROUNDINGS, "rounding"), written=str, share=8
    ),
    "products": Parser(
        read=ps.MatmulSpec.parse, make=texts(_PRODUCTS, "product"), written=str, share=6
    ),
    "policies": Parser(read=ps.Policy.parse, make=texts(_POLICIES, "policy"), written=str, share=8),
    "policy_toml": Parser(read=_policy_file, make=_toml, written=ps.Policy.to_toml, share=4),
    "schedules": Parser(
        read=ps.Schedule.parse, make=texts(_SCHEDULES, "schedule"), written=str, share=4
    ),
    "all_reduces": Parser(
        read=ps.options.AllReduce.parse, make=texts(_SMALL, "all_reduce"), written=str, share=6
    ),
    "accumulators": Parser(
        read=named("precsim.training.recipes.accumulation:Accumulator.parse"),
        make=texts(_SMALL, "accumulator"),
        written=str,
        share=4,
    ),
    "devices": Parser(
        read=ps.replay.Devices.parse, make=texts(_SMALL, "devices"), written=str, share=6
    ),
    "orders": Parser(
        read=named("precsim.arithmetic.sums.order:parse_order"),
        make=texts(_PRODUCTS, "order"),
        share=6,
    ),
    "block_schedules": Parser(
        read=named("precsim.products.specs.fused_block:parse_schedule"),
        make=texts(_SMALL, "promotion"),
        written=str,
        share=6,
    ),
    "numbers": Parser(
        read=_show,
        make=texts(_NUMBERS, "number"),
        written=lambda value: _number_text(
            value if isinstance(value, Fraction) else float(value.split()[0])
        ),
        share=12,
    ),
    "codes": Parser(
        read=named("precsim.formats.fields:parse_code"), make=texts(_CODES, "code"), share=12
    ),
    "expressions": Parser(read=_walk, make=texts(_EXPRESSIONS, "expression"), share=8),
    "questions": Parser(read=_answer, make=_question, share=1),
}
"""Name -> parser of texts; the questions are those of the explorer's page."""
