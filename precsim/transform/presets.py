"""Named policies, each written in the policy grammar."""

_CHUNK = 1024
"""Longer sums are added up in float32 from chains of this many products. cuBLASLt was never seen to
divide such a chain among its blocks (docs/explanation/tensor-cores.md): a policy need not know how
it does."""


def _machine(forward: str, dgrad: str = "", wgrad: str = "") -> str:
    """Return a policy of a machine's products, all else portable: its emulation has its bits."""
    roles = {"fwd": forward, "dgrad": dgrad or forward, "wgrad": wgrad or forward}
    products = ",".join(f"{role}={spec}:promote{_CHUNK}" for role, spec in roles.items())
    return f"p=fp32,e=fp32,{products},fn=portable"


PRESETS: dict[str, str] = {
    "fp32": "p=fp32,c=fp32",
    "bf16": "p=bf16,c=bf16,o=bf16",
    "bf16_mixed": "p=fp32,c=bf16,o=bf16",
    "bf16_sr": "p=bf16,c=bf16,o=bf16,update=bf16:sr",
    "bf16_kahan": "p=bf16,c=bf16,o=bf16,update=kahan",
    "fp16": "p=fp16,c=fp16,o=fp16",
    "fp16_mixed": "p=fp32,c=fp16,o=fp16,scale=dynamic",
    "fp8_current": (
        "p=fp32,e=bf16,tensor=current,"
        "fwd=e4m3[saturate]_e4m3[saturate]_fp32->bf16,"
        "dgrad=e5m2[saturate]_e4m3[saturate]_fp32->bf16,"
        "wgrad=e4m3[saturate]_e5m2[saturate]_fp32"
    ),
    "h100_bf16": _machine("h100:bf16"),
    "h100_fp16": _machine("h100:fp16") + ",scale=dynamic",
    "h100_fp8": _machine(
        "h100:e4m3[saturate]",
        "h100:e5m2[saturate]_e4m3[saturate]",
        "h100:e4m3[saturate]_e5m2[saturate]",
    )
    + ",tensor=current",
    "q3.12": "p=q3.12,c=q3.12,o=q3.12",
    "q3.8": "p=q3.8,c=q3.8,o=q3.8",
    "q3.12_sr": "p=q3.12,c=q3.12,o=q3.12:sr,e=q3.12:sr,update=q3.12:sr",
    "q3.8_sr": "p=q3.8,c=q3.8,o=q3.8:sr,e=q3.8:sr,update=q3.8:sr",
}
"""Name -> policy string. Pure formats round everything, mixed ones keep float32 master weights.
Those named after a machine have the same bits on its tensor cores and in their emulation."""

PRESETS["mixed_float16"] = PRESETS["fp16_mixed"]
PRESETS["mixed_bfloat16"] = PRESETS["bf16_mixed"]
