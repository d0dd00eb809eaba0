"""Named policies, each written in the policy grammar.

docs/reference/recipes.md says of each where it comes from, and what is rounded where.
"""

_CHUNK = 1024
"""Longer sums are added up in float32 from chains of this many products. cuBLASLt was never seen to
divide such a chain among its blocks (docs/explanation/tensor-cores.md): a policy need not know how
it does."""


def _machine(forward: str, dgrad: str = "", wgrad: str = "") -> str:
    """Return a policy of a machine's products, all else portable: its emulation has its bits."""
    roles = {"fwd": forward, "dgrad": dgrad or forward, "wgrad": wgrad or forward}
    products = ",".join(f"{role}={spec}:promote{_CHUNK}" for role, spec in roles.items())
    return f"p=fp32,e=fp32,{products},fn=portable"


def _mixed(forward: str, dgrad: str, wgrad: str) -> str:
    """Return a policy of products with float32 sums; all else is bf16, gradients of weights fp32.

    Each product is given by its operands: activation and weight, cotangent and weight, activation
    and cotangent.
    """
    return f"p=fp32,e=bf16,fwd={forward}_fp32->bf16,dgrad={dgrad}_fp32->bf16,wgrad={wgrad}_fp32"


def _alike(left: str, weight: str) -> str:
    """Return such a policy whose activations and cotangents have one format."""
    return _mixed(f"{left}_{weight}", f"{left}_{weight}", f"{left}_{left}")


_FP8 = _mixed(
    "e4m3[saturate]_e4m3[saturate]",
    "e5m2[saturate]_e4m3[saturate]",
    "e4m3[saturate]_e5m2[saturate]",
)

PRESETS: dict[str, str] = {
    "fp32": "p=fp32,c=fp32",
    "bf16": "p=bf16,c=bf16,o=bf16",
    "bf16_mixed": "p=fp32,c=bf16,o=bf16",
    "bf16_sr": "p=bf16,c=bf16,o=bf16,update=bf16:sr",
    "bf16_kahan": "p=bf16,c=bf16,o=bf16,update=kahan",
    "fp16": "p=fp16,c=fp16,o=fp16",
    "fp16_mixed": "p=fp32,c=fp16,o=fp16,scale=dynamic",
    "fp8_current": f"{_FP8},tensor=current",
    "fp8_delayed": f"{_FP8},tensor=delayed",
    "fp8_rowwise": _alike("e4m3[scale=row:pow2]", "e4m3[scale=row:pow2]"),
    "fp8_block": _alike("e4m3[scale=1x128]", "e4m3[scale=128x128]"),
    "mxfp8": _alike("mxfp8", "mxfp8"),
    "mxfp4": _mixed("mxfp4_mxfp4", "mxfp4[sr]_mxfp4", "mxfp4_mxfp4[sr]"),
    "nvfp4": _mixed("nvfp4_nvfp4", "nvfp4[sr]_nvfp4", "nvfp4_nvfp4[sr]"),
    "h100_bf16": _machine("h100:bf16"),
    "h100_fp16": _machine("h100:fp16") + ",scale=dynamic",
    "h100_fp8": _machine(
        "h100:e4m3[saturate]",
        "h100:e5m2[saturate]_e4m3[saturate]",
        "h100:e4m3[saturate]_e5m2[saturate]",
    )
    + ",tensor=current",
    "int8": (
        "p=fp32,e=bf16,fwd=int8_int8_symmetric_int32->bf16,"
        "dgrad=bf16_int8_symmetric_fp32->bf16,wgrad=int8_bf16_fp32"
    ),
    "q3.12": "p=q3.12,c=q3.12,o=q3.12",
    "q3.8": "p=q3.8,c=q3.8,o=q3.8",
    "q3.4": "p=q3.4,c=q3.4,o=q3.4",
    "q3.12_sr": "p=q3.12,c=q3.12,o=q3.12:sr,e=q3.12:sr,update=q3.12:sr",
    "q3.8_sr": "p=q3.8,c=q3.8,o=q3.8:sr,e=q3.8:sr,update=q3.8:sr",
    "q3.4_sr": "p=q3.4,c=q3.4,o=q3.4:sr,e=q3.4:sr,update=q3.4:sr",
}
"""Name -> policy string. Pure formats round everything, mixed ones keep float32 master weights.
Those named after a machine have the same bits on its tensor cores and in their emulation."""

ALIASES = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "mixed_float16": "fp16_mixed",
    "mixed_bfloat16": "bf16_mixed",
}
"""Names of Keras -> names of presets."""

PRESETS |= {alias: PRESETS[name] for alias, name in ALIASES.items()}
