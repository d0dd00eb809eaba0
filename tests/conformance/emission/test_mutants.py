"""Known mistakes of hardware and emulators are caught by the vectors, early."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest

import precsim as ps
from conformance.emission.dots import dot_product
from tests.conformance.emission.named import emitted, function_of

Mutant = Callable[..., float]


def first_wrong(name: str, mutant: Mutant) -> int:
    """Return the number of the first case, from 1, that tells a mutant; fail if there is none.

    A mutant is a function of the values of the inputs; any NaN equals any NaN.
    """
    function = function_of(name)
    formats = [c.format for c in function.columns for _ in range(c.count)]
    for number, (inputs, result, _) in enumerate(emitted(name), 1):
        values = [ps.oracle.decode_exact(x, f) for x, f in zip(inputs, formats, strict=True)]
        got, wanted = mutant(*values), ps.oracle.decode_exact(result, function.result)
        is_same = got == wanted and math.copysign(1, got) == math.copysign(1, wanted)
        if not (is_same or (math.isnan(got) and math.isnan(wanted))):
            return number
    pytest.fail(f"{name} does not catch the mutant")


def exact(x: float, spec: str) -> float:
    return ps.oracle.round_exact(x, spec).value


def nan_beyond_three_bits(x: float) -> float:
    """Saturn-vectors #101, first: special means at least 512 in E5M3, and a fraction there NaN."""
    wide = exact(x, "float(e=5,p=4)")
    fraction = math.frexp(abs(wide))[0] * 2 - 1 if math.isfinite(wide) and wide else 0.0
    is_nan = math.isfinite(wide) and abs(wide) >= 512 and fraction != 0
    return math.nan if is_nan else exact(x, "e4m3:saturate")


def overflow_without_a_mode(x: float) -> float:
    """Saturn-vectors #101, second: overflow gives NaN also where the mode points inward."""
    y = exact(x, "e4m3:rtz")
    return math.nan if exact(x, "float(e=8,p=4):rtz") not in (y, 0.0) and abs(y) == 448 else y


def flushed(x: float) -> float:
    y = exact(x, "e5m2")
    return math.copysign(0.0, y) if abs(y) < 2.0**-14 else y


def read_as_ocp(x: float) -> float:
    """Decode a code of E4M3FNUZ as one of OCP's E4M3."""
    return ps.oracle.decode_exact(ps.oracle.encode_exact(x, "e4m3fnuz"), "e4m3")


def without_high_codes(x: float) -> float:
    """Read the top exponent of E4M3 as IEEE 754 would: infinity and NaN."""
    return x if abs(x) < 256 else math.copysign(math.inf, x) if abs(x) == 256 else math.nan


def compute(operation: str, spec: str) -> Mutant:
    return lambda *x: ps.oracle.compute_exact(operation, *x, spec=spec).value


def through(operation: str, middle: str, spec: str) -> Mutant:
    return lambda *x: exact(compute(operation, middle)(*x), spec)


def scale_of(*x: float, offset: int = 8) -> float:
    """Return the scale of a block of MXFP8 E4M3, by another rule than that of OCP."""
    if not all(map(math.isfinite, x)):
        return math.nan
    exponent = math.frexp(max(map(abs, x)) or 2.0**-200)[1]
    return 2.0 ** min(max(exponent - 1 - offset, -127), 127)


MUTANTS: dict[str, tuple[str, Mutant, int]] = {
    "nan_beyond_three_bits": ("bf16 round e4m3 rne saturate", nan_beyond_three_bits, 100),
    "overflow_without_a_mode": ("bf16 round e4m3 rtz infinity", overflow_without_a_mode, 100),
    "saturates_instead_of_nan": (
        "fp32 round e4m3 rne infinity",
        lambda x: exact(x, "e4m3:saturate"),
        100,
    ),
    "infinity_saturates": (
        "fp32 round e4m3 rne saturate",
        lambda x: exact(x, "e4m3:saturate:saturate_infinity"),
        100,
    ),
    "threshold_is_the_largest": (
        "bf16 round e4m3 rne infinity",
        lambda x: math.nan if abs(x) > 448 else exact(x, "e4m3"),
        100,
    ),
    "twice_rounded_cast": (
        "fp32 round e5m2 rne infinity",
        lambda x: exact(exact(x, "fp16"), "e5m2"),
        100,
    ),
    "ties_away": ("bf16 round e4m3 rne infinity", lambda x: exact(x, "e4m3:rna"), 100),
    "truncates": ("bf16 round e2m1 rne saturate", lambda x: exact(x, "e2m1:rtz:saturate"), 100),
    "minus_zero_lost": ("bf16 round e5m2 rne infinity", lambda x: exact(x, "e5m2") + 0.0, 100),
    "minus_zero_kept": (
        "bf16 round e4m3fnuz rne infinity",
        lambda x: exact(x, "e4m3fnuz") if x else x,
        100,
    ),
    "flushes": ("bf16 round e5m2 rne infinity", flushed, 100),
    "fnuz_read_as_ocp": ("e4m3fnuz round fp32 rne infinity", read_as_ocp, 100),
    "top_exponent_is_special": ("e4m3 round fp32 rne infinity", without_high_codes, 256),
    "odd_codes_are_significands": (
        "fp32 round binary5p1uf rne satnone",
        lambda x: exact(x, "binary5p1uf:rna:infinity_or_max"),
        300,
    ),
    "multiplies_through_tf32": (
        "bf16 multiply bf16 rne infinity",
        through("multiply", "tf32", "bf16"),
        300,
    ),
    "fma_rounds_the_product": (
        "e4m3 fma e4m3 rne infinity",
        lambda x, y, z: compute("add", "e4m3")(compute("multiply", "e4m3")(x, y), z),
        100,
    ),
    "fma_through_bf16": ("e4m3 fma e4m3 rne infinity", through("fma", "bf16", "e4m3"), 100),
    "bf16_fma_through_fp32": ("bf16 fma bf16 rne infinity", through("fma", "fp32", "bf16"), 400),
    "scale_without_emax": ("mxfp8_e4m3 scale", partial(scale_of, offset=0), 100),
    "scale_rounds_up": (
        "mxfp8_e4m3 scale",
        lambda *x: scale_of(*(v * 1.75 for v in x)),
        100,
    ),
    "scale_of_signed_numbers": (
        "mxfp8_e4m3 scale",
        lambda *x: scale_of(*(max(v, 0.0) for v in x)),
        100,
    ),
    "scale_ignores_nan": (
        "mxfp8_e4m3 scale",
        lambda *x: scale_of(*(v if math.isfinite(v) else 0.0 for v in x)),
        100,
    ),
    "element_is_not_clamped": (
        "mxfp8_e4m3 rne",
        compute("divide", "e4m3"),
        100,
    ),
    "sum_is_minus_zero": (
        "e4m3 add e4m3 rtn infinity",
        lambda x, y: compute("add", "e4m3:rtn")(x, y) + 0.0,
        100,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_roundings_are_caught_early(mutant: str) -> None:
    name, compute_wrongly, most = MUTANTS[mutant]
    number = first_wrong(name, compute_wrongly)
    print(mutant, number)  # noqa: T201
    assert number <= most


def of_dot(machine: str, compute_wrongly: Callable[..., float]) -> Mutant:
    """Return a mutant of a, b and c."""
    k = dot_product(machine).columns[0].count
    return lambda *x: compute_wrongly(x[:k], x[k : 2 * k], *x[2 * k :])


def fma_chain(a: Sequence[float], b: Sequence[float], c: float) -> float:
    """gem5 #2478: one fused multiply-add after the other, each rounded to float32."""
    for x, y in zip(a, b, strict=True):
        c = ps.oracle.compute_exact("fma", x, y, c, spec="fp32").value
    return c


def another(machine: str) -> Callable[..., float]:
    return lambda a, b, c: ps.oracle.fused_dot_exact(a, b, c, machine)


def without_c(machine: str) -> Callable[..., float]:
    return lambda a, b, c: ps.oracle.fused_dot_exact(a, b, c if abs(c) > 1e-6 else 0.0, machine)


DOT_MUTANTS: dict[str, tuple[str, Callable[..., float], int]] = {
    "fma_chain_fp16": ("mi300x:fp16", fma_chain, 100),
    "fma_chain_bf16": ("mi300x:bf16", fma_chain, 100),
    "fma_chain_fp8": ("mi300x:e4m3fnuz", fma_chain, 100),
    "one_bit_less": ("h100:fp16", another("a100:fp16"), 400),
    "ieee_sum": ("h100:e4m3", fma_chain, 100),
    "rounds_to_nearest": ("h100:bf16", another("mi300x:bf16"), 400),
    "no_flush": ("mi250:fp16", another("mi100:fp16"), 400),
    "c_lost": ("a100:bf16", without_c("a100:bf16"), 100),
}


@pytest.mark.long
@pytest.mark.parametrize("mutant", DOT_MUTANTS)
def test_mutants_of_dot_products_are_caught_early(mutant: str) -> None:
    machine, compute_wrongly, most = DOT_MUTANTS[mutant]
    number = first_wrong(machine, of_dot(machine, compute_wrongly))
    print(mutant, number)  # noqa: T201
    assert number <= most


@pytest.mark.slow
def test_mutants_of_scales_are_caught() -> None:
    """Scales of NaN that are ignored; scales of blocks that are exchanged."""
    shape = dot_product("b200:mxfp8_e4m3").shape

    def ignored(a: Sequence[float], b: Sequence[float], *more: float) -> float:
        scales = [1.0 if math.isnan(x) else x for x in more[:-1]]
        return scaled(a, b, scales, more[-1])

    def scaled(a: Sequence[float], b: Sequence[float], scales: Sequence[float], c: float) -> float:
        n = len(shape.ones[0])
        spec, a_scales, b_scales = "b200:mxfp8_e4m3", scales[:n], scales[n:]
        return ps.oracle.fused_dot_exact(a, b, c, spec, a_scales=a_scales, b_scales=b_scales)

    def exchanged(a: Sequence[float], b: Sequence[float], *more: float) -> float:
        return scaled(a, b, [more[1], more[0], *more[2:-1]], more[-1])

    numbers = {
        mutant.__name__: first_wrong("b200:mxfp8_e4m3", of_dot("b200:mxfp8_e4m3", mutant))
        for mutant in (ignored, exchanged)
    }
    print(numbers)  # noqa: T201
    assert max(numbers.values()) <= 1000
