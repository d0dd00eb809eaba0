"""`Policy`: where in a function or a training step each format applies."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from precsim.arithmetic.sums.order import PAIRWISE, Order, parse_order
from precsim.formats.arguments import shown
from precsim.formats.notebook import InNotebooks
from precsim.formats.scaled import refuse_scaled
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec, refuse_beyond_float32
from precsim.transform.scopes import check_pattern, kind_of, matches
from precsim.transform.settings import (
    FIELDS,
    PARTS,
    both_names,
    loss_scale_text,
    read_change,
    read_settings,
    read_toml,
    split_rule,
    write_settings,
    write_toml,
)
from precsim.transform.tensor_scaling import delayed, tensor_scaling_text

FUNCTIONS = ("platform", "portable")
_FP32 = RoundingSpec.parse("fp32")
_MOMENTS = ("first_moment", "second_moment")
_STATE = ("optimizer_state", *_MOMENTS)
_ONCE = ("params", "update", "is_compensated", *_STATE, "loss_scale", "output")
"""Fields of what exists once, so that a rule's policy has those of the base."""
_CAN_BE_NONE = ("softmax", "normalisation", "output", *_MOMENTS)


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy for the scopes that a pattern names.

    Parameters
    ----------
    scope : str
        Pattern. Its parts, split at "/", match consecutive parts of a scope, wherever they stand:
        "layer3" matches "Model/layer3/Dense_0", "attn*/scores" matches "Model/attn1/scores/dot".
        "*", "?" and "[ab]" stand for any text inside a part, any character, one of a and b.
    policy : Policy or str
        What holds there, all of it. What exists once (params, update, optimizer_state, loss_scale,
        output) is that of the policy that has the rule.

    Raises
    ------
    ValueError
        If `scope` is empty or holds ":", ";" or ",", or `policy` has rules.

    Examples
    --------
    >>> import precsim as ps
    >>> rule = ps.options.Rule("layer3", ps.Policy.parse("fp32"))
    >>> ps.Policy.parse("fp32;layer3:fp32").rules == (rule,)
    True
    """

    scope: str
    policy: "Policy | Any"

    def __post_init__(self) -> None:
        """Turn a string into a policy and check."""
        check_pattern(self.scope)
        object.__setattr__(self, "policy", Policy.parse(self.policy))
        if self.policy.rules:
            raise ValueError(
                f"policy of rule '{self.scope}' has rules; allowed is a policy without rules"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(InNotebooks):
    """Formats of a function or a training: what is stored, multiplied, rounded in between; where.

    Parameters
    ----------
    name : str
        Label. Not compared.
    params : RoundingSpec or str
        Format in which the weights live between steps ("fp32" in mixed precision: master weights).
    forward, dgrad, wgrad : MatmulSpec or str
        Products ``x @ w``, ``dy @ w.T`` and ``x.T @ dy``; their operand formats do the casting.
    elementwise : RoundingSpec or str
        Rounding of everything between the products: activations forward, their cotangents backward.
    update : RoundingSpec or str, optional
        Rounding of ``weight + update``; that of `params` by default.
    is_compensated : bool
        Whether the update is Kahan-compensated, with a buffer in the format of `params`.
    optimizer_state : RoundingSpec or str
        Format of momentum and similar buffers; in mode sr the bits come from seed, step and path.
        Block and affine formats count along the last axis of each buffer.
    first_moment, second_moment : RoundingSpec or str, optional
        Format of Adam's moments, `mu` and `nu` of optax's states; None: that of `optimizer_state`.
    loss_scale : str
        "none", "1024", "dynamic", "dynamic@65536[OPTIONS]" as `DynamicLossScale` has them.
    tensor_scaling : str
        "none"; "current": each operand of a product is scaled by the power of two that brings its
        largest element just inside its format, and the result is scaled back exactly; "delayed":
        the scale follows from the operand's largest elements in the steps before, see
        `DelayedScale`. Its options stand in brackets: the length of the history, "max" or
        "most_recent", "margin=N", "pow2" for powers of two, as in "delayed[16,most_recent]".
        Outside of trainings there are no steps before, and the operand itself decides. Operands in
        block, affine and tile formats have scales of their own. "cotangents@1024", in a rule: the
        loss scale of a layer. The cotangents of its products in the backward pass of the program
        are multiplied by this power of two before they are rounded, and the results divided.
        "cotangents@dynamic[OPTIONS]": it adapts, as "dynamic" of `loss_scale` does, in a training.
    functions : {"platform", "portable"}
        What computes everything that is not a matrix product (activations, softmax, cross-entropy,
        normalisation, optimizer): XLA, in its own way on each device, or precsim, with the same
        bits on every device.
    reductions : RoundingSpec or str, optional
        Rounding of the partial sums of reductions, cumulative sums and scatter-adds; that of
        `elementwise` by default.
    reduction_order : Order or str
        Order of those sums, "pairwise" by default.
    softmax, normalisation : RoundingSpec or str, optional
        Rounding of everything between the products, reductions included, inside a softmax and
        inside a normalisation; None: as elsewhere. `at` says what counts as one.
    output : RoundingSpec or str, optional
        Rounding of the results of the whole function; None: as they are.
    rules : sequence of Rule or str
        Policies of scopes. For each scope the first rule that matches it decides. A string is
        ``"SCOPE:SETTINGS"``, as below.

    Raises
    ------
    ValueError
        If a field is unknown, or a training could not use it: weights, updates and elementwise
        roundings, and the optimizer state of portable functions, take formats of single numbers
        only (no block or affine ones), and all values have to be float32 numbers.

    Notes
    -----
    As a string: a preset ("bf16_mixed", ...), or ``KEY=VALUE,...`` in the manner of jmp: ``p``
    params, ``c`` operands of all products and elementwise, ``o`` outputs of all products (also by
    jmp's long names "params", "compute", "output"), ``acc`` accumulator, ``fwd``, ``dgrad``,
    ``wgrad`` whole products, ``e`` elementwise, ``update`` a rounding or "kahan", ``opt`` optimizer
    state, ``mu``, ``nu`` its moments, ``scale`` loss scale, ``tensor`` tensor scaling, ``fn``
    functions, ``red`` reductions, ``order`` their order, ``softmax``, ``norm``, ``out``; fp32 where
    nothing is said. A preset may come first: ``"bf16,update=bf16:sr"``. Rules follow, each after a
    ";", as ``SCOPE:SETTINGS``. Settings change the policy before the first ";": a preset replaces
    products, tensor scaling, elementwise and reductions, and a key what it names. ``p``,
    ``update``, ``opt``, ``mu``, ``nu``, ``scale`` and ``out`` are not allowed there. None is
    written "none".
    ``Policy.parse(str(policy)) == policy``.

    Examples
    --------
    >>> import precsim as ps
    >>> policy = ps.Policy.parse("p=f32,c=bf16,o=f32")
    >>> str(policy.forward), str(policy.params)
    ('bf16_bf16_fp32->fp32', 'fp32')
    >>> ps.Policy.parse("fp16_mixed").loss_scale
    'dynamic'
    >>> policy = ps.Policy.parse("bf16_mixed;layer3:fwd=e4m3_e4m3_fp32;scores:fp32")
    >>> [str(policy.at(scope).forward) for scope in ("layer2/Dense_0", "layer3/Dense_0", "scores")]
    ['bf16_bf16_fp32->bf16', 'e4m3_e4m3_fp32', 'fp32_fp32_fp32']
    """

    name: str = field(default="", compare=False)
    params: RoundingSpec | Any
    forward: MatmulSpec | Any
    dgrad: MatmulSpec | Any
    wgrad: MatmulSpec | Any
    elementwise: RoundingSpec | Any
    update: RoundingSpec | Any = None
    is_compensated: bool = False
    optimizer_state: RoundingSpec | Any = _FP32
    first_moment: RoundingSpec | Any | None = None
    second_moment: RoundingSpec | Any | None = None
    loss_scale: str = "none"
    tensor_scaling: str = "none"
    functions: str = "platform"
    reductions: RoundingSpec | Any = None
    reduction_order: Order | Any = PAIRWISE
    softmax: RoundingSpec | Any | None = None
    normalisation: RoundingSpec | Any | None = None
    output: RoundingSpec | Any | None = None
    rules: tuple[Rule, ...] | Any = ()

    def __post_init__(self) -> None:
        """Turn strings into specs, fill the defaults, check."""
        fill = object.__setattr__
        for name, usual in (("update", self.params), ("reductions", self.elementwise)):
            fill(self, name, usual if getattr(self, name) is None else getattr(self, name))
        fill(self, "reduction_order", parse_order(self.reduction_order))
        required = ("params", "elementwise", "update", "optimizer_state", "reductions")
        for name in (*required, *_CAN_BE_NONE):
            if name in required or getattr(self, name) is not None:
                fill(self, name, _rounding(name, getattr(self, name)))
        if self.functions == "portable":  # all buffers are one vector there
            for name, spec in self.buffers.items():
                refuse_scaled(spec.format, f"{name or 'optimizer_state'} of portable functions")
        for name in ("forward", "dgrad", "wgrad"):
            product = MatmulSpec.parse(getattr(self, name))
            fill(self, name, product)
            for part in ("lhs", "rhs", "product", "adder", "accumulator", "output"):
                spec = getattr(product, part)
                if spec is not None and (part != "accumulator" or not product.has_register):
                    refuse_beyond_float32(f"{part} of {name}", spec)
        fill(self, "loss_scale", loss_scale_text(self.loss_scale))
        if self.is_compensated and self.update != self.params:
            raise ValueError(
                f"update is '{self.update}'; a compensated update rounds to params, '{self.params}'"
            )
        fill(self, "tensor_scaling", tensor_scaling_text(self.tensor_scaling))
        for name in ("forward", "dgrad", "wgrad"):
            if getattr(self, name).rotation is not None and delayed(self.tensor_scaling):
                raise ValueError(
                    f"{name} is '{getattr(self, name)}'; allowed with tensor=delayed are products "
                    "without a rotation"
                )
        if self.functions not in FUNCTIONS:
            raise ValueError(
                f"functions are {shown(self.functions)}; allowed are {', '.join(map(repr, FUNCTIONS))}"
            )
        fill(self, "rules", tuple(map(self._own_rule, self.rules)))
        if not self.name:
            fill(self, "name", str(self))

    def _own_rule(self, rule: Rule | str) -> Rule:
        """Return a rule whose policy has what exists once from this policy."""
        if isinstance(rule, str):
            scope, change = split_rule(rule)
            check_pattern(scope)
            try:
                return Rule(scope, _changed(self, change))
            except ValueError as error:
                raise ValueError(f"rule {shown(scope)}: {error}") from None
        if not isinstance(rule, Rule):
            raise TypeError(f"rule is {shown(rule)}; allowed are a string or a Rule")
        once = {name: getattr(self, name) for name in _ONCE}
        return Rule(rule.scope, replace(rule.policy, name="", **once))

    def at(self, scope: str) -> "Policy":
        """Return the policy of a scope, without rules.

        Parameters
        ----------
        scope : str
            Path such as "Model/layer3/Dense_0".

        Returns
        -------
        Policy
            That of the first rule that matches, or this one. `softmax` and `normalisation`, where
            not None, replace its `elementwise` and `reductions` inside a softmax (a part of the
            scope holds "softmax" or "logsumexp", in small or large letters) and inside a
            normalisation (layer, batch, group, RMS or instance norm, such as "LayerNorm_0" or
            "rms_norm"; "ln", "ln_1", "ln1"; "standardize"). The innermost such part counts.
        """
        if not self.rules and self.softmax is None and self.normalisation is None:
            return self
        return _at(self, scope)

    @property
    def buffers(self) -> dict[str, RoundingSpec]:
        """The roundings of the optimizer's buffers: of "mu" and "nu" if given, of others at ""."""
        given = {"": self.optimizer_state, "mu": self.first_moment, "nu": self.second_moment}
        return {name: spec for name, spec in given.items() if spec is not None}

    @property
    def products(self) -> tuple[MatmulSpec, ...]:
        """The different products of this policy and of its rules."""
        policies = (self, *(rule.policy for rule in self.rules))
        return tuple(dict.fromkeys(x for p in policies for x in (p.forward, p.dgrad, p.wgrad)))

    def matching(self, scope: str) -> Rule | None:
        """Return the first rule that matches a scope."""
        return next((rule for rule in self.rules if matches(rule.scope, scope)), None)

    @classmethod
    def parse(cls, text: "str | Policy") -> "Policy":
        """Return the policy that a string stands for."""
        if isinstance(text, Policy):
            return text
        if not isinstance(text, str):
            raise TypeError(f"policy is {shown(text)}; allowed are a string or a Policy")
        base, *rules = text.split(";")
        preset, own = read_settings(base)
        name = text if own or rules else text.rstrip(",")
        return _from_settings(preset | own, _plain(), name=name, rules=tuple(rules))

    @classmethod
    def from_toml(cls, source: str | Path) -> "Policy":
        """Return the policy of a TOML text or file (a `Path`, or a string that ends in ".toml").

        ``policy`` is the base as a string, and each ``[[rule]]`` has a ``scope`` and a ``policy``
        as in the string of a policy. ``name`` is a label and optional.

        Examples
        --------
        >>> import precsim as ps
        >>> lines = 'policy = "bf16_mixed"', "[[rule]]", 'scope = "head"', 'policy = "bf16"'
        >>> ps.Policy.from_toml(chr(10).join(lines)) == ps.Policy.parse("bf16_mixed;head:bf16")
        True
        """
        name, text = read_toml(source)
        policy = cls.parse(text)
        return replace(policy, name=name) if name else policy

    def to_toml(self) -> str:
        """Return the TOML text of this policy: ``Policy.from_toml(text)`` is equal to it."""
        text = str(self)
        return write_toml("" if self.name == text else self.name, text)

    def __str__(self) -> str:
        """Return a string that parses to this policy."""
        parts: dict[str, object] = {key: getattr(self, name) for key, name in FIELDS.items()}
        if self.is_compensated:
            parts["update"] = "kahan"
        usual: dict[str, object] = dict.fromkeys(("softmax", "norm", "out", "mu", "nu"))
        usual |= {"red": self.elementwise, "order": PAIRWISE}
        kept = {key: x for key, x in parts.items() if key not in usual or x != usual[key]}
        return ";".join([write_settings(kept), *map(self._rule_text, self.rules)])

    def _rule_text(self, rule: Rule) -> str:
        """Return ``SCOPE:SETTINGS`` with what a rule changes."""
        changes: dict[str, object] = {}
        for key, name in FIELDS.items():
            value = getattr(rule.policy, name)
            inherited = getattr(self, name)
            if key == "red" and self.reductions == self.elementwise:
                inherited = rule.policy.elementwise
            if value != inherited:
                changes[key] = "none" if value is None else value
        return f"{rule.scope}:{write_settings(changes or {'e': self.elementwise})}"


def _rounding(field: str, value: RoundingSpec | str) -> RoundingSpec:
    """Return the rounding of a field: a format within float32, with scales in a state."""
    spec, name = RoundingSpec.parse(value), both_names(field)
    if field not in _STATE:
        refuse_scaled(spec.format, name)
    refuse_beyond_float32(name, spec)
    return spec


@lru_cache(maxsize=1)
def _plain() -> Policy:
    """Return the policy that settings change where no other one is named."""
    product = MatmulSpec(lhs=_FP32, rhs=_FP32, accumulator=_FP32)
    return Policy(
        params=_FP32, forward=product, dgrad=product, wgrad=product, elementwise=_FP32, name="fp32"
    )


def _changed(base: Policy, text: str) -> Policy:
    """Return what the settings of a rule make of a policy."""
    preset, own = read_change(text)
    if preset:
        plain = _plain()
        names = ("forward", "dgrad", "wgrad", "tensor_scaling", "elementwise", "reductions")
        base = replace(base, name="", rules=(), **{name: getattr(plain, name) for name in names})
    return _from_settings(preset | own, base)


def _from_settings(
    settings: dict[str, str], base: Policy, *, name: str = "", rules: tuple[str, ...] = ()
) -> Policy:
    """Return a policy with these settings, and those of `base` where nothing is said."""
    given: dict[str, Any] = {FIELDS[key]: settings[key] for key in FIELDS if key in settings}
    given |= {"name": name, "rules": rules}
    given |= {name: None for name in _CAN_BE_NONE if given.get(name) == "none"}
    parts = {part: settings[key] for part, key in PARTS.items() if key in settings}
    roundings: dict[str, Any] = {part: RoundingSpec.parse(text) for part, text in parts.items()}
    for role in ("forward", "dgrad", "wgrad"):
        if role not in given:
            given[role] = replace(getattr(base, role), **roundings)
    if "c" in settings:
        given.setdefault("elementwise", settings["c"])
    if base.reductions == base.elementwise:
        given.setdefault("reductions", None)
    if given.get("update") == "kahan":
        given |= {"update": None, "is_compensated": True}
    if "p" in settings:
        given.setdefault("update", None)
    return replace(base, **given)


@lru_cache(maxsize=4096)
def _at(policy: Policy, scope: str) -> Policy:
    rule = policy.matching(scope)
    found = replace(policy, name="", rules=()) if rule is None else rule.policy
    spec = None if (kind := kind_of(scope)) is None else getattr(found, kind)
    return found if spec is None else replace(found, name="", elementwise=spec, reductions=spec)
