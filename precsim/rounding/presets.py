"""What other stacks call roundings and overflow rules, in precsim's words.

Each name stands for some fields of a `RoundingSpec`; some stacks treat formats differently, so an
entry is a function of the format. P3109's names mean the Interim Report v4.0 (26 June 2026), 4.7.5.
"""

from collections.abc import Callable

from precsim.formats.floating import FloatFormat, Specials
from precsim.formats.numbers import Format

Fields = dict[str, object]


def _always(**fields: object) -> Callable[[Format], Fields]:
    return lambda _: dict(fields)


def _onnx_saturate(fmt: Format) -> Fields:
    """ONNX Cast with saturate: infinity becomes the largest value too, but not in FNUZ formats."""
    is_fnuz = isinstance(fmt, FloatFormat) and fmt.specials is Specials.FNUZ
    infinities = "propagate" if is_fnuz else "saturate_infinity"
    return {"overflow": "saturate", "infinities": infinities}


def _ml_dtypes(fmt: Format) -> Fields:
    """ml_dtypes' casts: IEEE overflow; a format without NaN gets -0 for it."""
    fields: Fields = {"overflow": "infinity", "infinities": "propagate"}
    return fields if fmt.has_nan else fields | {"nans": "nan_to_negative_zero"}


def _ml_dtypes_saturate(fmt: Format) -> Fields:
    """ml_dtypes' C++ option kSaturate: infinite inputs are not clamped."""
    return _ml_dtypes(fmt) | {"overflow": "saturate"}


PRESETS: dict[str, Callable[[Format], Fields]] = {
    # SystemC (IEEE 1666, 7.10), ac_fixed and AP_fixed: quantisation, then overflow.
    "trn": _always(mode="rtn"),
    "trn_zero": _always(mode="rtz"),
    "rnd": _always(mode="rnp"),
    "rnd_zero": _always(mode="rnz"),
    "rnd_inf": _always(mode="rna"),
    "rnd_min_inf": _always(mode="rnn"),
    "rnd_conv": _always(mode="rne"),
    "rnd_conv_odd": _always(mode="rno"),
    "sat": _always(overflow="saturate"),
    "sat_zero": _always(overflow="saturate_zero"),
    "sat_sym": _always(overflow="saturate_symmetric"),
    # IEEE P3109 v4.0, 4.7.5; satfinite is also NVIDIA's name.
    "satfinite": _always(overflow="saturate", infinities="saturate_infinity"),
    "satpropagate": _always(overflow="saturate", infinities="propagate_or_saturate"),
    "satnone": _always(overflow="infinity_or_max", infinities="propagate_or_saturate"),
    # ONNX operator Cast, attribute `saturate` false and true; ml_dtypes include/float8.h.
    "onnx": _always(overflow="infinity", infinities="propagate"),
    "onnx_saturate": _onnx_saturate,
    "ml_dtypes": _ml_dtypes,
    "ml_dtypes_saturate": _ml_dtypes_saturate,
}
