"""Section A: formats, ranges and conversions."""

import math
from collections.abc import Callable

import numpy as np

import precsim as ps
from experiments.check import Check
from experiments.claims.row import Section, digits, equal, inside

SECTION = Section("A. Formats, ranges, conversions")
add = SECTION.add

FORMATS = ("fp16", "bf16", "e4m3", "e5m2")
FLOATS = {
    name: fmt
    for name in ("fp32", *FORMATS)
    if isinstance(fmt := ps.get_format(name), ps.FloatFormat)
}
PI, X = 3.14159, 3.14


def rounded(x: float, spec: str) -> float:
    """Return a number, rounded once."""
    return float(ps.round_to(np.float64(x), spec))


def first_code(holds: Callable[[float], bool]) -> int:
    """Return the least code of a positive float32 from which on something holds."""
    low, high = 1, int(ps.encode(np.float32(math.inf), "fp32"))
    while low < high:
        middle = (low + high) // 2
        value = float(ps.decode(np.uint32(middle), "fp32"))
        low, high = (low, middle) if holds(value) else (middle + 1, high)
    return low


def fates(spec: str) -> tuple[int, int, int]:
    """Return how many positive finite float32 numbers a format makes infinite, 0, neither."""
    every = int(ps.encode(np.float32(math.inf), "fp32")) - 1
    infinite = every + 1 - first_code(lambda x: math.isinf(rounded(x, spec)))
    zero = first_code(lambda x: rounded(x, spec) > 0) - 1
    return infinite, zero, every - infinite - zero


def distinct(x: np.ndarray, spec: str) -> int:
    """Return how many different finite values are left of an array."""
    values = ps.round_to(x, spec)
    return len(np.unique(values[np.isfinite(values)]))


@add(
    1,
    "fp16 has the same range as float32, only fewer digits.",
    "false",
    "fp16 has 5 exponent bits and ends at 65504. Most float32 numbers become infinite or 0 in it.",
)
def range_of_fp16(full: bool) -> list[Check]:
    """Count by bit pattern."""
    infinite, zero, kept = fates("fp16")
    every = infinite + zero + kept
    wide, narrow = FLOATS["fp32"], FLOATS["fp16"]
    return digits(
        ("% of float32 numbers that become infinite", "43.92", 100 * infinite / every),
        ("% that become 0", "40.00", 100 * zero / every),
        ("% that stay finite and nonzero", "16.08", 100 * kept / every),
        ("max of float32 / max of fp16", "5.19e33", wide.max_finite / narrow.max_finite),
    ) + equal(
        ("positive finite float32 numbers", 2139095039, every),
        ("max", 65504, narrow.max_finite),
        ("min normal", 2.0**-14, narrow.min_normal),
        ("min subnormal", 2.0**-24, narrow.min_subnormal),
    )


@add(
    2,
    "bf16 has the range of float32.",
    "true",
    "Its 8 exponent bits are those of float32, and so is its smallest normal number. Few numbers are"
    " lost: at the top those that round beyond its max, at the bottom subnormal ones, over four"
    " decades of them.",
)
def range_of_bf16(full: bool) -> list[Check]:
    """Count by bit pattern."""
    infinite, zero, kept = fates("bf16")
    share = 100 * infinite / (infinite + zero + kept)
    wide, narrow = FLOATS["fp32"], FLOATS["bf16"]
    return [
        *digits(("max of bf16", "3.3895e38", narrow.max_finite)),
        *equal(("min normal of bf16 / of float32", 1, narrow.min_normal / wide.min_normal)),
        *digits(("smallest number above 0 of bf16", "9.2e-41", narrow.min_subnormal)),
        *digits(("of float32", "1.4e-45", wide.min_subnormal)),
        *equal(("float32 numbers that become infinite", 32768, infinite)),
        *equal(("that become 0", 32768, zero)),
        *digits(("% of all, each", "0.0015", share)),
    ]


@add(
    3,
    "fp16 has 5 exponent bits and 10 fraction bits.",
    "true",
    "With the bit that is not stored it has a precision of 11 bits: 3.3 decimal digits.",
)
def fields_of_fp16(full: bool) -> list[Check]:
    """Read the descriptors."""
    roundoffs = zip(FORMATS, (-11, -8, -4, -3), strict=True)
    return equal(
        ("exponent bits", 5, FLOATS["fp16"].exponent_bits or 0),
        ("fraction bits", 10, FLOATS["fp16"].precision - 1),
        *((f"unit roundoff of {n}", 2.0**e, FLOATS[n].unit_roundoff) for n, e in roundoffs),
    ) + digits(
        ("decimal digits of fp16", "3.3", FLOATS["fp16"].precision * math.log10(2)),
        ("decimal digits of bf16", "2.4", FLOATS["bf16"].precision * math.log10(2)),
    )


@add(
    4,
    "There is an 8-bit half precision.",
    "false",
    "Half precision is the name of the 16-bit format. The 8-bit floats are e4m3 and e5m2.",
)
def half_has_16_bits(full: bool) -> list[Check]:
    """Read widths and largest numbers."""
    return equal(
        ("bits of half precision", 16, FLOATS["fp16"].width or 0),
        ("bits of e4m3", 8, FLOATS["e4m3"].width or 0),
        ("max of e4m3", 448, FLOATS["e4m3"].max_finite),
        ("max of e5m2", 57344, FLOATS["e5m2"].max_finite),
    )


def relative_errors(seed: int) -> dict[str, np.ndarray]:
    """Return the errors of three codes of numbers between 1e-4 and 1, spread over the decades."""
    x = np.float32(10.0 ** np.random.default_rng(seed).uniform(-4, 0, 10_000))
    codes = {"fp16": ps.round_to(x, "fp16")}
    codes |= {f"affine{n}": np.asarray(ps.dequantize(ps.quantize(x, f"uint{n}"))) for n in (16, 8)}
    return {name: np.abs(y / x.astype(np.float64) - 1) for name, y in codes.items()}


@add(
    5,
    "Converting float32 to fp16 is a min-max scaling with a step and an offset.",
    "false",
    "Rounding to fp16 looks at one number alone. In the normal range, from 2^-14 to 65504, its"
    " relative error is at most 2^-11; it grows below. A min-max code looks at the data, and its"
    " relative error has no bound.",
    "run",
)
def no_statistics(full: bool) -> list[Check]:
    """Code the same numbers in three ways."""
    runs = [relative_errors(seed) for seed in range(10)]
    errors = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    small = np.array([2.0**-14, 1 / 3, 1, PI], np.float32)
    alone = np.concatenate([ps.round_to(small[k : k + 1], "fp16") for k in range(len(small))])
    together = ps.round_to(small, "fp16")
    tiny = rounded(1.25 * 2.0**-24, "fp16")
    return [
        *equal(("numbers that change with those beside them", 0, int((alone != together).sum()))),
        inside(
            "fp16: largest relative error, from 1e-4 to 1", 4.5e-4, 2.0**-11, errors["fp16"].max()
        ),
        inside("fp16: median", 1.6e-4, 1.8e-4, np.median(errors["fp16"])),
        inside("affine16: largest", 5e-2, 8e-2, errors["affine16"].max()),
        inside("affine16: median", 2.5e-4, 3.1e-4, np.median(errors["affine16"])),
        inside("affine8: median", 7e-2, 8.6e-2, np.median(errors["affine8"])),
        inside("affine8: % that become 0", 30, 34, 100 * np.mean(errors["affine8"] == 1)),
        *equal(("fp16: 1.25 * 2^-24, subnormal, becomes 2^-24 times", 1, tiny * 2.0**24)),
        *digits(("its relative error", "0.2", 1 - tiny / (1.25 * 2.0**-24))),
    ]


@add(
    6,
    "3.14159 in fp16 is 0.0625.",
    "false",
    "It is 3.140625. The error is below one in a thousand.",
)
def pi_in_fp16(full: bool) -> list[Check]:
    """Encode and decode."""
    expected = zip(FORMATS, (3.140625, 3.140625, 3.25, 3.0), strict=True)
    codes = zip(FORMATS, (0x4248, 0x4049, 0x45, 0x42), strict=True)
    return [
        *equal(*((n, value, rounded(PI, n)) for n, value in expected)),
        *digits(("error of fp16", "9.65e-4", PI - rounded(PI, "fp16"))),
        *equal(*((f"code of {n}", c, int(ps.encode(ps.round_to(PI, n), n))) for n, c in codes)),
    ]


@add(
    7,
    "The step of an affine code is the range / 2^(bits - 1), with 5 bits for fp16.",
    "false",
    "It is the range / (2^bits - 1), and bits are those of the code. The article's own step and"
    " offset give back 3.14159, and not 0.0625.",
)
def affine_step(full: bool) -> list[Check]:
    """Encode 1, the article's number after normalisation, with its constants; decode; undo."""
    step, offset = 0.0625, -0.0625
    code = round((1.0 - offset) / step)
    decoded = code * step + offset
    right = ps.quantize(np.array([0.0, 1.0]), "uint5")
    return [
        *equal(("article's code of 3.14159 / 3.14159", 17, code)),
        *equal(("value of that code by its step and offset", 1, decoded)),
        *equal(("that value times 3.14159", PI, decoded * PI)),
        *equal(("steps in the range, 5 bits", 31, round(1 / float(right.scales.item())))),
    ]


@add(
    8,
    "Min-max normalisation turns one number into a value between 0 and 1.",
    "undefined",
    "One number is its own minimum and maximum, so the formula is 0/0. A code has to say what it"
    " does then: an affine code here takes 0 into the range.",
)
def normalise_one(full: bool) -> list[Check]:
    """Divide, and code a constant."""
    x = np.array([PI])
    with np.errstate(invalid="ignore"):
        ratio = (x - x.min()) / (x.max() - x.min())
    found = ps.dequantize(ps.quantize(np.zeros(3), "uint8"))
    return equal(
        ("NaN among 1 normalised number", 1, int(np.isnan(ratio).sum())),
        ("3.14159 in an affine code of 8 bits", PI, ps.dequantize(ps.quantize(x, "uint8")).item()),
        ("a tensor of zeros", 0, float(np.abs(found).max())),
    )


@add(
    10,
    "To store x in fixed point with 8 fraction bits, multiply it by 2^-8 and round.",
    "false",
    "The sign of the exponent is wrong: multiply by 2^8 to encode, divide by it to decode.",
)
def fixed_point(full: bool) -> list[Check]:
    """Encode 3.14 both ways."""
    stored = rounded(X, "q7.8")
    return equal(
        ("code of 3.14", 804, int(ps.encode(np.float64(stored), "q7.8"))),
        ("its value", 3.140625, stored),
        ("round(3.14 * 2^-8)", 0, round(X * 2.0**-8)),
    ) + digits(
        ("error", "6.25e-4", stored - X),
        ("3.14 * 2^8", "803.84", X * 2.0**8),
        ("3.14 * 2^-8", "0.012265625", X * 2.0**-8),
    )


@add(
    11,
    "Scaling by 2^-8 and back shows the error of fixed point.",
    "false",
    "A power of two only moves the exponent: without rounding in between, nothing is lost.",
)
def scaling_is_exact(full: bool) -> list[Check]:
    """Scale and scale back."""
    return equal(
        ("error of scaling 3.14", 0, abs(X - X * 2.0**-8 * 2.0**8)),
        ("error with the rounding", 6.25e-4, round(abs(X - rounded(X, "q7.8")), 12)),
    )


@add(
    12,
    "The rounding error is the distance of x from the stored integer.",
    "false",
    "The integer is a code. The error is the distance of x from the value that the code stands for.",
)
def error_of_a_code(full: bool) -> list[Check]:
    """Subtract both."""
    code = int(ps.encode(ps.round_to(np.float64(X), "q11.8"), "q11.8"))
    value = float(ps.decode(np.int32(code), "q11.8"))
    return digits(
        ("distance from the code", "800.86", abs(X - code)),
        ("error", "6.25e-4", float(ps.errors.absolute_error(value, X).max())),
    )


@add(
    13,
    "The error of truncation is x - floor(x).",
    "depends",
    "That is so for a grid of whole numbers and positive x only. A grid of 2^-8 has another error,"
    " and truncation of a negative number is not floor.",
)
def truncation(full: bool) -> list[Check]:
    """Round down and toward zero."""
    return digits(
        ("x - floor(x), x = 3.14", "0.14", X - math.floor(X)),
        ("error of truncation, 8 fraction bits", "3.28125e-3", X - rounded(X, "q7.8:rtz")),
    ) + equal(
        ("floor of -3.14", -3.140625, rounded(-X, "q7.8:rtn")),
        ("truncation of -3.14", -3.13671875, rounded(-X, "q7.8:rtz")),
    )


@add(
    15,
    "The dynamic range is the smallest number divided by the largest.",
    "false",
    "It is the largest divided by the smallest normal number.",
)
def dynamic_range(full: bool) -> list[Check]:
    """Divide what the descriptors say."""
    expected = zip(FORMATS, ("1.07e9", "2.9e76", "2.9e4", "9.4e8"), strict=True)
    fp16 = FLOATS["fp16"]
    return digits(
        *((n, text, FLOATS[n].max_finite / FLOATS[n].min_normal) for n, text in expected),
        ("fp16, subnormals included", "1.10e12", fp16.max_finite / fp16.min_subnormal),
    )


@add(
    16,
    "Converting a result back to float32 restores its precision.",
    "false",
    "The conversion is exact, and what the rounding before has lost stays lost.",
)
def back_to_float32(full: bool) -> list[Check]:
    """Count the finite codes of both formats."""
    finite = {n: 2 * int(ps.encode(np.float32(math.inf), n)) for n in ("fp32", "fp16")}
    there = ps.round_to(np.float32(PI), "fp16")
    return equal(
        ("finite codes of float32", 4278190080, finite["fp32"]),
        ("finite codes of fp16", 63488, finite["fp16"]),
        ("3.14159 to fp16 and back", 3.140625, float(ps.round_to(there, "fp32"))),
    )


@add(
    19,
    "Inputs have to be normalised to suit half precision.",
    "depends",
    "All 256 levels of a pixel are kept by fp16 and bf16, divided by 255 or not; 8 bits keep a few"
    " dozen. It is sums of pixels that leave the range of fp16.",
)
def pixels(full: bool) -> list[Check]:
    """Count the levels that are left."""
    raw = np.arange(256, dtype=np.float32)
    return equal(
        *((f"levels 0 to 255 in {n}", 256, distinct(raw, n)) for n in FORMATS[:2]),
        *((f"levels k / 255 in {n}", 256, distinct(raw / 255, n)) for n in FORMATS[:2]),
        ("levels k / 255 in e4m3", 49, distinct(raw / 255, "e4m3")),
        ("levels k / 255 in e5m2", 29, distinct(raw / 255, "e5m2")),
        ("257 times 255 in fp16", math.inf, rounded(257 * 255, "fp16")),
        ("255^2 + 255^2 in fp16", math.inf, rounded(2 * 255**2, "fp16")),
    )


@add(
    20,
    "Converting identifiers, tokens or labels to low precision is a step of preprocessing.",
    "false",
    "They are names. Whole numbers are exact up to 2048 in fp16 and 256 in bf16; beyond that"
    " different names become one.",
)
def identifiers(full: bool) -> list[Check]:
    """Count the names that are left."""
    films, words, many = (np.arange(n, dtype=np.float32) for n in (6040, 30522, 100_000))
    infinite = np.isinf(ps.round_to(many, "fp16")).sum()
    return equal(
        ("6,040 identifiers from 0 on: different ones left in fp16", 3559, distinct(films, "fp16")),
        ("of them in bf16", 830, distinct(films, "bf16")),
        ("30,522 tokens from 0 on: left in fp16", 6005, distinct(words, "fp16")),
        ("of them in bf16", 1135, distinct(words, "bf16")),
        ("infinite ones of 0 to 99,999 in fp16", 34480, int(infinite)),
    )
