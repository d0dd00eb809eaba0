"""Every named floating-point format, each with the document that defines it."""

from precsim.formats.floating import FloatFormat, Specials

_IEEE = "IEEE 754-2019, 3.6, table 3.5"
_OFP8 = "OCP 8-bit Floating Point Specification (OFP8), revision 1.0"
_MX = "OCP Microscaling Formats (MX) Specification, version 1.0"
_FNUZ = "Noune et al., arXiv 2206.02915; ml_dtypes {}"


def _float(name: str, p: int, w: int, source: str, **options: object) -> FloatFormat:
    return FloatFormat(name=name, precision=p, exponent_bits=w, source=source, **options)  # type: ignore[arg-type]


FORMATS: dict[FloatFormat, tuple[str, ...]] = {
    _float("fp64", 53, 11, _IEEE + " binary64"): ("binary64", "float64", "double", "f64"),
    _float("fp32", 24, 8, _IEEE + " binary32"): ("binary32", "float32", "single", "f32"),
    _float("tf32", 11, 8, "NVIDIA A100 white paper (2020)"): ("tensorfloat32",),
    _float("fp16", 11, 5, _IEEE + " binary16"): ("binary16", "float16", "half", "f16"),
    _float("bf16", 8, 8, "Intel, BFLOAT16 Hardware Numerics Definition (2018)"): ("bfloat16",),
    _float("e4m3", 4, 4, _OFP8, specials=Specials.FN): ("ocp_e4m3", "float8_e4m3fn", "e4m3fn"),
    _float("e5m2", 3, 5, _OFP8): ("ocp_e5m2", "float8_e5m2"),
    _float("e3m2", 3, 3, _MX, specials=Specials.NONE): ("ocp_e3m2", "float6_e3m2fn"),
    _float("e2m3", 4, 2, _MX, specials=Specials.NONE): ("ocp_e2m3", "float6_e2m3fn"),
    _float("e2m1", 2, 2, _MX, specials=Specials.NONE): ("ocp_e2m1", "float4_e2m1fn"),
    _float("e8m0", 1, 8, _MX, specials=Specials.FN, has_subnormals=False, is_signed=False): (
        "ocp_e8m0",
        "float8_e8m0fnu",
    ),
    _float("ieee_e4m3", 4, 4, "ml_dtypes float8_e4m3 (IEEE 754 rules)"): (
        "float8_e4m3",
        "e4m3ieee",
    ),
    _float("ieee_e3m4", 5, 3, "ml_dtypes float8_e3m4 (IEEE 754 rules)"): ("float8_e3m4", "e3m4"),
    _float("e4m3fnuz", 4, 4, _FNUZ.format("float8_e4m3fnuz"), bias=8, specials=Specials.FNUZ): (
        "float8_e4m3fnuz",
    ),
    _float(
        "e4m3b11fnuz", 4, 4, _FNUZ.format("float8_e4m3b11fnuz"), bias=11, specials=Specials.FNUZ
    ): ("float8_e4m3b11fnuz",),
    _float("e5m2fnuz", 3, 5, _FNUZ.format("float8_e5m2fnuz"), bias=16, specials=Specials.FNUZ): (
        "float8_e5m2fnuz",
    ),
}
"""Format -> its aliases. In this order `precsim formats` prints them."""
