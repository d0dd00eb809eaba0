"""Error curves of AMD's matrix units (Khattak and Mikaitis): models there, models here, 7 digits.

From north-numerical-computing/MATLAB-tensor-core, `experiments/data/`: the first five points of
four files. Operands are rounded toward zero, but to nearest at the first point of the machine that
began a session, as for the curves of `experiments.g10_tensor_cores`.
"""

import numpy as np
import pytest

import precsim as ps
from experiments import matlab_random, scaled_gemm

N = np.array([10, 18, 33, 61, 112])
PUBLISHED = {
    (
        "mi100:fp16",
        "fp16",
        True,
    ): "2.533387e-05 1.508457e-04 2.227201e-04 1.484130e-04 1.434083e-04",
    (
        "mi250:bf16",
        "bf16",
        False,
    ): "1.469597e-03 3.555024e-03 1.424938e-03 1.121645e-03 9.231728e-04",
    (
        "mi300x:fp16",
        "fp16",
        False,
    ): "1.283158e-04 1.508457e-04 2.227159e-04 1.484076e-04 1.434230e-04",
    (
        "e5m2_e5m2_fp32:floored16x24p2",
        "e5m2",
        False,
    ): "1.456549e-02 1.204862e-01 4.384426e-02 4.370109e-02 3.420081e-02",
}


@pytest.mark.parametrize("case", PUBLISHED, ids=str)
def test_first_points_have_all_printed_digits(case: tuple[str, str, bool]) -> None:
    spec, operand, begins_to_nearest = case
    theta = scaled_gemm.largest_entry(N, operand, "fp32")
    drawn = scaled_gemm.products(matlab_random.rng(1), N, theta)
    found = []
    for k, product in enumerate(drawn):
        rounding = f"{operand}:{'rne' if begins_to_nearest and k == 0 else 'rtz'}"
        a, b = (ps.round_to(x, rounding).astype(np.float32) for x in (product.a, product.b))
        found.append(product.error(ps.matmul(a, b, spec, backend="reference")))
    assert [f"{error:.6e}" for error in found] == PUBLISHED[case].split()
