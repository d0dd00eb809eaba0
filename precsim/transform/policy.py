"""`Policy`: where in a training step each format applies."""

import re
from dataclasses import dataclass, field
from typing import Any, cast

from precsim.formats.arguments import shown, unknown
from precsim.formats.carrier import FLOAT32
from precsim.formats.scaled import refuse_scaled, scaled_format
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec

TENSOR_SCALINGS = ("none", "current")
FUNCTIONS = ("platform", "portable")
_FP32 = RoundingSpec.parse("fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Formats of a training step: what is stored, what is multiplied, what is rounded in between.

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
    loss_scale : str
        "none", a number such as "1024", "dynamic", or "dynamic@65536" with the first factor.
    tensor_scaling : {"none", "current"}
        "current": each operand of a product is scaled by the power of two that brings its largest
        element just inside its format, and the result is scaled back exactly. Operands in block,
        affine and tile formats have scales of their own.
    functions : {"platform", "portable"}
        What computes everything that is not a matrix product (activations, softmax, cross-entropy,
        normalisation, optimizer): XLA, in its own way on each device, or precsim, with the same
        bits on every device.

    Raises
    ------
    ValueError
        If a field is unknown, or a training could not use it: weights, optimizer state, updates
        and elementwise roundings take formats of single numbers only (no block or affine ones), and
        all values have to be float32 numbers.

    Notes
    -----
    As a string: a preset ("bf16_mixed", ...), or ``KEY=VALUE,...`` in the manner of jmp: ``p``
    params, ``c`` operands of all products and elementwise, ``o`` outputs of all products, ``acc``
    accumulator, ``fwd``, ``dgrad``, ``wgrad`` whole products, ``e`` elementwise, ``update`` a
    rounding or "kahan", ``opt`` optimizer state, ``scale`` loss scale, ``tensor`` tensor scaling,
    ``fn`` functions; fp32 where nothing is said. A preset may come first:
    ``"bf16,update=bf16:sr"``. ``Policy.parse(str(policy)) == policy``.

    Examples
    --------
    >>> import precsim as ps
    >>> policy = ps.Policy.parse("p=f32,c=bf16,o=f32")
    >>> str(policy.forward), str(policy.params)
    ('bf16_bf16_fp32->fp32', 'fp32')
    >>> ps.Policy.parse("fp16_mixed").loss_scale
    'dynamic'
    """

    name: str = field(default="", compare=False)
    params: RoundingSpec
    forward: MatmulSpec
    dgrad: MatmulSpec
    wgrad: MatmulSpec
    elementwise: RoundingSpec
    update: RoundingSpec = None  # type: ignore[assignment]
    is_compensated: bool = False
    optimizer_state: RoundingSpec = _FP32
    loss_scale: str = "none"
    tensor_scaling: str = "none"
    functions: str = "platform"

    def __post_init__(self) -> None:
        """Turn strings into specs, fill the defaults, check."""
        fill = object.__setattr__
        update = cast("RoundingSpec | None", self.update)
        fill(self, "update", self.params if update is None else update)
        for name in ("params", "elementwise", "update", "optimizer_state"):
            fill(self, name, RoundingSpec.parse(getattr(self, name)))
            refuse_scaled(getattr(self, name).format, name)
            _refuse_beyond_float32(name, getattr(self, name))
        for name in ("forward", "dgrad", "wgrad"):
            product = MatmulSpec.parse(getattr(self, name))
            fill(self, name, product)
            for part in ("lhs", "rhs", "product", "adder", "accumulator", "output"):
                if part != "accumulator" or not product.has_register:
                    _refuse_beyond_float32(f"{part} of {name}", getattr(product, part))
        fill(self, "loss_scale", str(self.loss_scale))
        if self.is_compensated and self.update != self.params:
            raise ValueError(
                f"update is '{self.update}'; a compensated update rounds to params, '{self.params}'"
            )
        if self.tensor_scaling not in TENSOR_SCALINGS:
            raise ValueError(
                f"tensor scaling is {shown(self.tensor_scaling)}; allowed are 'none', 'current'"
            )
        if self.functions not in FUNCTIONS:
            raise ValueError(
                f"functions are {shown(self.functions)}; allowed are {', '.join(map(repr, FUNCTIONS))}"
            )
        if not _is_loss_scale(self.loss_scale):
            raise ValueError(
                f"loss scale is {shown(self.loss_scale)}; allowed are 'none', 'dynamic', a number from "
                "2**-126 to 2**126, 'dynamic@' and such a number"
            )
        if not self.name:
            fill(self, "name", str(self))

    @classmethod
    def parse(cls, text: "str | Policy") -> "Policy":
        """Return the policy that a string stands for."""
        if isinstance(text, Policy):
            return text
        if not isinstance(text, str):
            raise TypeError(f"policy is {shown(text)}; allowed are a string or a Policy")
        from precsim.transform.presets import PRESETS

        first, *others = _split(text)
        rest = ",".join(others)
        if "=" in first:
            return _from_settings(_settings(text), text)
        if first not in PRESETS:
            raise ValueError(f"{unknown('policy', first, PRESETS)} (also KEY=VALUE,...)")
        settings = _settings(PRESETS[first]) | _settings(rest)
        return _from_settings(settings, text if rest else first)

    def __str__(self) -> str:
        """Return a string that parses to this policy."""
        update = "kahan" if self.is_compensated else str(self.update)
        parts = {
            "p": self.params,
            "fwd": self.forward,
            "dgrad": self.dgrad,
            "wgrad": self.wgrad,
            "e": self.elementwise,
            "update": update,
            "opt": self.optimizer_state,
            "scale": self.loss_scale,
            "tensor": self.tensor_scaling,
            "fn": self.functions,
        }
        return ",".join(f"{key}={value}" for key, value in parts.items())


def _refuse_beyond_float32(name: str, spec: RoundingSpec | None) -> None:
    """Refuse a format of single numbers with values that are not float32 numbers."""
    if spec is None or scaled_format(spec.format) is not None or spec.format.fits(FLOAT32):
        return
    raise ValueError(
        f"{name} is '{spec}'; allowed are formats whose values are float32 numbers, as training "
        "computes with those"
    )


def _is_loss_scale(text: str) -> bool:
    text = text.removeprefix("dynamic@")
    if not re.fullmatch(r"\d+(\.\d+)?(e[+-]?\d+)?", text):
        return text in ("none", "dynamic")
    return 2.0**-126 <= float(text) <= 2.0**126  # normal in float32, like its inverse


_KEYS = (
    "p",
    "c",
    "o",
    "acc",
    "fwd",
    "dgrad",
    "wgrad",
    "e",
    "update",
    "opt",
    "scale",
    "tensor",
    "fn",
)


def _split(text: str) -> list[str]:
    """Split at the commas outside of parentheses and brackets."""
    return re.split(r",(?![^(]*\))(?![^\[]*\])", text)


def _settings(text: str) -> dict[str, str]:
    """Split ``KEY=VALUE,...``."""
    settings: dict[str, str] = {}
    for part in filter(None, _split(text)):
        key, equals, value = part.partition("=")
        if not equals or key not in _KEYS or not value:
            raise ValueError(
                f"policy setting {shown(part)} is not understood; keys are {', '.join(_KEYS)}"
            )
        if key in settings:
            raise ValueError(f"policy {shown(text)} gives {shown(key)} twice")
        settings[key] = value
    return settings


def _from_settings(settings: dict[str, str], name: str) -> Policy:
    operands = RoundingSpec.parse(settings.get("c", "fp32"))
    options: dict[str, Any] = {}
    for key, role in (("fwd", "forward"), ("dgrad", "dgrad"), ("wgrad", "wgrad")):
        options[role] = settings.get(key) or MatmulSpec(
            lhs=operands,
            rhs=operands,
            accumulator=RoundingSpec.parse(settings.get("acc", "fp32")),
            output=RoundingSpec.parse(settings["o"]) if "o" in settings else None,
        )
    params = settings.get("p", "fp32")
    kahan = settings.get("update") == "kahan"
    return Policy(
        name=name,
        params=RoundingSpec.parse(params),
        elementwise=RoundingSpec.parse(settings.get("e", settings.get("c", "fp32"))),
        update=RoundingSpec.parse(params if kahan else settings.get("update", params)),
        is_compensated=kahan,
        optimizer_state=RoundingSpec.parse(settings.get("opt", "fp32")),
        loss_scale=settings.get("scale", "none"),
        tensor_scaling=settings.get("tensor", "none"),
        functions=settings.get("fn", "platform"),
        **options,
    )
