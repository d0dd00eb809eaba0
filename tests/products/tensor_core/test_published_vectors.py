"""Inputs by which others told tensor cores apart, and the results that they report, by property.

FASI: Fasi, Higham, Mikaitis and Pranesh, PeerJ Computer Science 7:e330, 2021. Inputs and results:
the values that their programs for V100 (`tc_test_numerics-V100.cu`), for T4 and A100
(`-T4-A100-binary16.cu`) and for A100 (`-A100-bf16.cu`, `-A100-tf32.cu`) expect of these machines.

FTTN: Li et al., arXiv 2403.00232. Inputs: their programs `fp16in.cpp`, `bf16in.cpp` and
`tf-fp32in.cpp`, which print what they find; results: the paper's table of features as summaries of
it quote it (all subnormals supported; extra bits none on V100, one on A100, two or more on H100; 4,
8 and at least 16 products a step). For the other inputs we read no result, and none at all for T4,
Ada and B200: there the kernel is compared with the exact oracle only, as everywhere. The paper's
matrix product with results 0 on V100 and A100 and 191.875 on H100 is not here, since its entries
are in none of these files.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest

import precsim as ps
from precsim.products.specs.machines import MACHINES
from tests.products.conftest import assert_same_bits, single

ULP = 2.0**-23  # of 1 in float32
BELOW_ONE = 1 - 2.0**-24
UP = 1 + ULP
THREE_HALVES = 1.5 * ULP


@dataclass(frozen=True)
class Vector:
    """c plus the sum of products, and what is reported of it."""

    name: str
    operand: str
    products: tuple[tuple[float, float], ...]
    c: float = 0.0
    reported: dict[str, float] = field(default_factory=dict)
    """Machine -> result."""
    options: str = ""

    def result(self, machine: str) -> np.ndarray:
        """What precsim computes, checked against exact rational arithmetic."""
        spec = ps.MatmulSpec.parse(f"{machine}:{self.operand}{self.options}")
        a, b = np.array(self.products, np.float32).T
        got = ps.matmul(a[None], b[:, None], spec, c=single(self.c), backend="reference")
        assert spec.lhs is not None
        a, b = (ps.round_to(x, spec.lhs) for x in (a, b))
        exact = ps.oracle.fused_dot_exact(a.tolist(), b.tolist(), self.c, spec)
        assert_same_bits(got, single([[exact]]), spec)
        return np.asarray(got)


def ones(*b: float) -> tuple[tuple[float, float], ...]:
    return tuple((1.0, x) for x in b)


def alike(machines: str, result: float) -> dict[str, float]:
    return dict.fromkeys(machines.split(), result)


def one_of_four(
    one: tuple[float, float], others: tuple[float, float]
) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Four products of which the first, second, third or fourth is another one."""
    return tuple(tuple(one if k == j else others for k in range(4)) for j in range(4))


def fasi_half() -> list[Vector]:
    """Sections A to D of the programs in binary16, for V100 and for T4 and A100."""
    everywhere = "v100 t4 a100"
    below = 1 - 2.0**-11
    square = 1 - 2.0**-10 + 2.0**-22
    vectors = []
    for mode, options in (("", ""), (", fp16 result", ":acc=fp16")):
        vectors += [
            Vector(f"subnormal operand{mode}", "fp16", ((2.0**-24, 4.0),), 0.0,
                   alike(everywhere, 2.0**-22), options),
            # Their programs ask whether these two are zero; the first with a float32 result only.
            Vector(f"subnormal product{mode}", "fp16", ((2.0**-14, 0.5),), 0.0,
                   {} if options else alike(everywhere, 2.0**-15), options),
            Vector(f"subnormal difference{mode}", "fp16", ((2.0**-14, 1.0),), -(2.0**-15),
                   alike(everywhere, 2.0**-15), options),
        ]  # fmt: skip
    half = ":acc=fp16"
    vectors += [
        Vector("subnormal accumulator", "fp16", ((0.0, 0.0),), 2.0**-149, alike(everywhere, 2.0**-149)),
        Vector("exact product", "fp16", ((below, below),), 0.0, alike(everywhere, square)),
        Vector("four exact products", "fp16", ((below, below),) * 4, 0.0, alike(everywhere, 4 * square)),
        Vector("exact products, fp16 result", "fp16", ((below, below), (below, 2.0**-11)), 0.0,
               alike(everywhere, 1 - 2.0**-11), half),
        Vector("nearest, fp16 result", "fp16", ((2.0**-24, 0.5), (2.0**-24, 0.25)), 0.0,
               alike(everywhere, 2.0**-24), half),
        Vector("cut off beside c", "fp16", ones(*[2.0**-24] * 4), 1.0, {"v100": 1.0}),
        Vector("half as much cut off beside c", "fp16", ((0.5, 2.0**-24),) * 4, 1.0, alike("t4 a100", 1.0)),
        *(
            Vector(f"cut off beside product {j}", "fp16", products, 2.0**-24, {"v100": 1.0})
            for j, products in enumerate(one_of_four((1.0, 1.0), (1.0, 2.0**-24)))
        ),
        *(
            Vector(f"half as much cut off beside product {j}", "fp16", products, 2.0**-24,
                   alike("t4 a100", 1.0))
            for j, products in enumerate(one_of_four((1.0, 1.0), (0.5, 2.0**-24)))
        ),
    ]  # fmt: skip
    return [*vectors, *fasi_sums("fp16", everywhere)]


def fasi_other(operand: str, least: float, factor: float, below: float) -> list[Vector]:
    """The programs for bf16 and tf32.

    The smallest subnormal operand, its factor, the largest number below 1.
    """
    cut = (0.5, 2.0**-24)
    return [
        Vector("subnormal operand", operand, ((least, factor),), 0.0, {"a100": 2.0**-126}),
        Vector("subnormal accumulator", operand, ((0.0, 0.0),), 2.0**-149, {"a100": 2.0**-149}),
        Vector("subnormal product", operand, ((2.0**-126, 0.5),), 0.0, {"a100": 2.0**-127}),
        Vector("subnormal difference", operand, ((2.0**-126, 1.0),), -(2.0**-127), {"a100": 2.0**-127}),
        Vector("exact product", operand, ((below, below),), 0.0, {"a100": below**2}),
        Vector("four exact products", operand, ((below, below),) * 4, 0.0, {"a100": 4 * below**2}),
        Vector("half as much cut off beside c", operand, (cut,) * 4, 1.0, {"a100": 1.0}),
        *(
            Vector(f"half as much cut off beside product {j}", operand, products, 2.0**-24, {"a100": 1.0})
            for j, products in enumerate(one_of_four((1.0, 1.0), cut))
        ),
        *fasi_sums(operand, "a100"),
    ]  # fmt: skip


def fasi_sums(operand: str, machines: str) -> list[Vector]:
    """What all four programs ask: rounding, extra bits, normalisation, carries."""
    with_extra_bit = " ".join(m for m in machines.split() if m != "v100")
    without = "v100" if "v100" in machines else ""
    carry = 1 + THREE_HALVES * 2
    return [
        Vector("rounds down", operand, ones(2.0, THREE_HALVES), 0.0, alike(machines, 2.0)),
        Vector("rounds up below zero", operand, ones(-2.0, -THREE_HALVES), 0.0, alike(machines, -2.0)),
        Vector("extra bit", operand, ones(1.0), -BELOW_ONE,
               alike(with_extra_bit, ULP / 2) | alike(without, ULP)),
        Vector("not normalised in addition", operand, ones(*[ULP / 2] * 4), BELOW_ONE, alike(machines, UP)),
        Vector("not normalised in subtraction", operand, ones(1.0, -ULP / 2), -BELOW_ONE,
               alike(with_extra_bit, 0.0) | alike(without, ULP)),
        *(
            Vector(f"two carries, product {j}", operand, products, carry, alike(machines, 4 + 4 * ULP))
            for j, products in enumerate(one_of_four((1.0, ULP), (1.0, 1.0)))
        ),
        Vector("three carries", operand, ones(1.0, 1.5, 1.75, 1.875), 1.875, alike(machines, 8.0)),
        Vector("rounds down after carries", operand, ones(*[1.0] * 4), carry, alike(machines, 5.0)),
        Vector("rounds up below zero after carries", operand, ones(*[-1.0] * 4), -carry,
               alike(machines, -5.0)),
    ]  # fmt: skip


FASI = [
    *fasi_half(),
    *fasi_other("bf16", 2.0**-133, 2.0**7, 1 - 2.0**-8),
    *fasi_other("tf32", 2.0**-136, 2.0**10, 1 - 2.0**-11),
    # The program hands float32 over, of which the machine takes the bits of tf32.
    Vector("operand is truncated", "tf32", ((BELOW_ONE, BELOW_ONE),), 0.0,
           {"a100": 1 - 2.0**-10 + 2.0**-22}),
]  # fmt: skip


def fttn(operand: str, least: float) -> list[Vector]:
    """The programs of FTTN for one operand type; their results are known to us for fp16 only."""
    known = operand == "fp16"
    three = "v100 a100 h100" if known else ""
    # The same numbers in all types, but fp16 needs two factors for them.
    u = (2.0**-10, 2.0**-14) if operand != "bf16" else (2.0**-24, 1.0)
    u_half = (u[0] / 2, u[1])
    u_twice = (2 * u[0], u[1])
    three_u = (u[1], 3 * u[0]) if operand != "bf16" else (1.0, 3 * 2.0**-24)
    minus_three_u = (three_u[0], -three_u[1])
    vectors = [
        Vector("subnormal in A", operand, ((least, 1.0),), 0.0, alike(three, least)),
        Vector("subnormal in B", operand, ((1.0, least),), 0.0, alike(three, least)),
        Vector("subnormal in C", operand, ((0.0, 0.0),), 2.0**-127, alike(three, 2.0**-127)),
        Vector("rounding of products", operand, (three_u, (1.0, 2.0))),
        Vector("rounding of negative products", operand, (minus_three_u, (1.0, -2.0))),
        Vector("rounding beside c", operand, (three_u,), 2.0),
        Vector("rounding of a negative c", operand, ones(-2.0), -3 * 2.0**-24),
        # Not 2**-24 where there is no extra bit; that it is 2**-23 on V100 is FASI's result.
        Vector("one extra bit", operand, ones(1.0), -BELOW_ONE,
               {"v100": ULP, "a100": ULP / 2, "h100": ULP / 2} if known else {}),
        Vector("two extra bits", operand, ones(1.25), -(2.0**-3 + 2.0**-25),
               {"a100": 1.125, "h100": 1.125 - ULP} if known else {}),
        Vector("extra bits are kept, c largest", operand, (u, u), 1.0),
        Vector("extra bits are kept, product 0 largest", operand, ((1.0, 1.0), u), 2.0**-24),
        Vector("extra bits are kept, product 1 largest", operand, (u, (1.0, 1.0)), 2.0**-24),
        Vector("cut off before adding", operand, (u, u_half, u_half), 1.0),
        Vector("normalised once", operand, (u_twice, u_half, u_half), BELOW_ONE),
        *(
            # Within a step two products of 2**-24 count beside 1, in two steps neither does.
            Vector(f"products 0 and {k} of a step", operand, (u, *((0.0, 0.0),) * (k - 1), u), 1.0,
                   {"h100": UP} | ({"a100": UP if k < 8 else 1.0} if k <= 8 else {}) if known else {})
            for k in range(1, 16)
        ),
    ]  # fmt: skip
    if operand != "fp16":
        vectors.append(Vector("subnormal in D", operand, ((2.0**-126, 0.5),)))
    else:
        half, ulp = ":acc=fp16", 2.0**-10
        vectors += [
            Vector("products, fp16 result", operand, ones(2.0, 1.5 * ulp), 0.0, {}, half),
            Vector("negative products, fp16 result", operand, ones(-2.0, -1.5 * ulp), 0.0, {}, half),
            Vector("beside c, fp16 result", operand, ones(1.5 * ulp), 2.0, {}, half),
            Vector("negative c, fp16 result", operand, ones(-2.0), -1.5 * ulp, {}, half),
            Vector("a tie, fp16 result", operand, ones(1.0, ulp / 2), 0.0, {}, half),
            Vector("above a tie, fp16 result", operand, ones(1.0, ulp / 2 + ulp / 16), 2.0**-14, {}, half),
        ]  # fmt: skip
    return vectors


FTTN = [*fttn("fp16", 2.0**-24), *fttn("bf16", 2.0**-133), *fttn("tf32", 2.0**-136)]


def cases(suite: str, vectors: list[Vector]) -> list[object]:
    return [
        pytest.param(v, machine, id=f"{suite}, {v.operand}, {v.name}-{machine}")
        for v in vectors
        for machine in MACHINES
        if v.operand in MACHINES[machine]
    ]


@pytest.mark.parametrize(("vector", "machine"), [*cases("FASI", FASI), *cases("FTTN", FTTN)])
def test_published_vector(vector: Vector, machine: str) -> None:
    got = vector.result(machine).item()
    assert got == vector.reported.get(machine, got)


@pytest.mark.parametrize(
    ("operand", "machine", "products", "reported"),
    [
        ("fp16", "v100", ones(*[2.0**-24] * 4), True),
        *(
            (operand, machine, ((0.5, 2.0**-24),) * 3 + ((0.5, 3 * 2.0**-24),), machine in ("t4", "a100"))
            for operand in ("fp16", "bf16", "tf32")
            for machine in MACHINES
            if operand in MACHINES[machine] and machine != "v100"
        ),
    ],
)  # fmt: skip
def test_fasi_product_is_not_monotonic(
    operand: str, machine: str, products: tuple[tuple[float, float], ...], reported: bool
) -> None:
    """A larger c gives a smaller sum (FASI, D5), which they report of V100, T4 and A100."""
    less, more = (Vector("", operand, products, c).result(machine) for c in (BELOW_ONE, 1.0))
    assert more < less or not reported


@pytest.mark.parametrize("machine", MACHINES)
def test_fttn_product_of_eight_ones(machine: str) -> None:
    """FTTN, monotonicity: eight ones beside 2**25 - 2 and 2**25; no result that we read."""
    for c in (2.0**25 - 2, 2.0**25):
        Vector("", "fp16", ones(*[1.0] * 8), c).result(machine)
