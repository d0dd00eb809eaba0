"""`which_kernel` on this platform, and on the optimised HLO of an H100 (jax 0.11.2), shortened."""

import jax.numpy as jnp
import numpy as np
import pytest

import precsim as ps
from precsim.products.native.hlo import read_kernels

CUBLASLT = """
ENTRY %main.1 (a.1: bf16[128,2048], b.1: bf16[2048,128]) -> f32[128,128] {
  %custom-call.1 = (f32[128,128]{1,0}, s8[33554432]{0}) custom-call(%a.1, %b.1), custom_call_target="__cublas$lt$matmul"
}
"""
FP8 = """
ENTRY %main.1 (a.1: f8e4m3fn[64,64], b.1: f8e4m3fn[64,64]) -> f32[64,64] {
  %wrapped_transpose = f8e4m3fn[64,64]{1,0} fusion(%b.1), kind=kCustom, calls=%wrapped_transpose_computation
  %cublas-gemm.1 = (f32[64,64]{1,0}, s8[33554432]{0}) custom-call(%a.1, %c), custom_call_target="__cublas$lt$matmul$f8"
}
"""
TRITON = """
%gemm_fusion_dot_computation (p0: bf16[128,32,64], p1: bf16[32,64,128]) -> f32[32,128,128] {
  ROOT %dot.1 = f32[32,128,128]{2,1,0} dot(%p0, %p1), lhs_batch_dims={1}
}

ENTRY %main.1 (a.1: bf16[128,2048], b.1: bf16[2048,128]) -> f32[128,128] {
  %gemm_fusion_dot = f32[32,128,128]{2,1,0} fusion(%bitcast.1.0, %bitcast.2), kind=kCustom, calls=%gemm_fusion_dot_computation
}
"""
LOOP = """
%fused_reduce (param_0.10: bf16[128,64], param_1.9: bf16[1,128]) -> f32[64] {
  %multiply.1.3 = f32[128,64]{1,0} multiply(%broadcast.1.3, %convert.1.3)
  ROOT %reduce.3 = f32[64]{0} reduce(%multiply.1.3, %constant_4), dimensions={0}
}

ENTRY %main.1 (a.1: bf16[1,128], b.1: bf16[128,64]) -> f32[1,64] {
  %input_reduce_fusion = f32[64]{0} fusion(%b.1, %a.1), kind=kCustom, calls=%fused_reduce
}
"""


@pytest.mark.parametrize(
    ("hlo", "expected"),
    [
        (CUBLASLT, ("__cublas$lt$matmul", "cuBLASLt", "f32[128,128]")),
        (FP8, ("__cublas$lt$matmul$f8", "cuBLASLt", "f32[64,64]")),
        (TRITON, ("gemm_fusion_dot_computation", "Triton", "f32[32,128,128]")),
        (LOOP, ("fused_reduce", "loop", "f32[64]")),
    ],
)
def test_kernels_of_a_gpu_program(hlo: str, expected: tuple[str, str, str]) -> None:
    assert read_kernels(hlo) == (expected,)


def test_kernels_of_this_platform() -> None:
    x = jnp.ones((64, 64))
    (kernel,) = ps.kernels.which_kernel(lambda a, b: jnp.dot(a, b) + 1, x, x)
    assert kernel.kind in ("dot", "oneDNN", "cuBLAS", "cuBLASLt", "Triton")
    assert "64,64" in kernel.result
    assert ps.kernels.which_kernel(jnp.add, x, x) == ()
    two = ps.kernels.which_kernel(lambda a: a @ a @ a, np.ones((32, 32), np.float32))
    assert len(two) == 2
