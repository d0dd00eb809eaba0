"""Error curves of AMD's matrix units (Khattak and Mikaitis): models there, models here, 7 digits.

From north-numerical-computing/MATLAB-tensor-core, `experiments/data/`: the first five points of
four files, and all points where the files are at hand. Operands are rounded toward zero, but to
nearest at the first point of the machine that began a session (MI100 with fp16). The sources there
say why: `experiments_CDNA.m` clears the session, then rounds operands by options that name no
rounding mode; the models' `GEMM.m` last calls CPFloat with mode 4, toward zero, which stays.
"""

from pathlib import Path

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


FILES = {
    "mi100:fp16": "binary16_binary32_words_1_model_mi100.dat",
    "mi250:bf16": "bfloat16_binary32_words_1_model_mi250.dat",
    "mi300x:fp16": "binary16_binary32_words_1_model_mi300x.dat",
    "e5m2_e5m2_fp32:floored16x24p2": "fp8-e5m2_binary32_words_1_model_mi300x.dat",
}


def errors(case: tuple[str, str, bool], sizes: np.ndarray) -> list[str]:
    """Return a curve's errors as printed."""
    spec, operand, begins_to_nearest = case
    theta = scaled_gemm.largest_entry(sizes, operand, "fp32")
    found = []
    for k, product in enumerate(scaled_gemm.products(matlab_random.rng(1), sizes, theta)):
        rounding = f"{operand}:{'rne' if begins_to_nearest and k == 0 else 'rtz'}"
        a, b = (ps.round_to(x, rounding).astype(np.float32) for x in (product.a, product.b))
        made = scaled_gemm.multiply(a, b, ps.MatmulSpec.parse(spec))
        found.append(f"{product.error(made):.6e}")
    return found


@pytest.mark.long
@pytest.mark.parametrize("case", PUBLISHED, ids=str)
def test_first_points_have_all_printed_digits(case: tuple[str, str, bool]) -> None:
    assert errors(case, N) == PUBLISHED[case].split()


@pytest.mark.slow
@pytest.mark.parametrize("case", PUBLISHED, ids=str)
def test_all_points_have_all_printed_digits(case: tuple[str, str, bool], data_dir: Path) -> None:
    """Twenty sizes n up to a million."""
    _, operand, _ = case
    (path,) = data_dir.rglob(f"*{FILES[case[0]]}")
    n, error, bound = np.loadtxt(path, skiprows=1, unpack=True)
    sizes = n.astype(int)
    assert sizes.tolist() == scaled_gemm.sizes(20).tolist()
    assert errors(case, sizes) == [f"{x:.6e}" for x in error]
    ours = scaled_gemm.bounds(sizes, operand, "fp32")[0]
    assert [f"{x:.6e}" for x in ours] == [f"{x:.6e}" for x in bound]
