"""Named policies, each written in the policy grammar."""

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
    "q3.12": "p=q3.12,c=q3.12,o=q3.12",
    "q3.8": "p=q3.8,c=q3.8,o=q3.8",
    "q3.12_sr": "p=q3.12,c=q3.12,o=q3.12:sr,e=q3.12:sr,update=q3.12:sr",
    "q3.8_sr": "p=q3.8,c=q3.8,o=q3.8:sr,e=q3.8:sr,update=q3.8:sr",
}
"""Name -> policy string. Pure formats round everything, mixed ones keep float32 master weights."""

PRESETS["mixed_float16"] = PRESETS["fp16_mixed"]
PRESETS["mixed_bfloat16"] = PRESETS["bf16_mixed"]
