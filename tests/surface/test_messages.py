"""Bad input gets one clear line: the argument, what was given, what is allowed."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import precsim as ps

ONE, THREE, FOUR = np.ones(1), np.ones(3), np.ones(4)
FUSED: dict[str, Any] = {"length": 16, "fraction_bits": 25, "schedule": 3}
SCHEDULES = "flat, promoteN, splitkS, splitkSxG or splitkSxG+residueN, residueN, mma"
train: Any = ps.train
prepare: Any = ps.replay.prepare_run
bisect: Any = ps.replay.bisect_runs
which_kernel: Any = ps.kernels.which_kernel
find_schedule: Any = ps.kernels.find_schedule
identify: Any = ps.kernels.identify
to_integer: Any = ps.ieee.to_integer
accumulate: Any = ps.accumulate
round_to: Any = ps.round_to
options: Any = ps.options

CASES: dict[str, tuple[Callable[[], object], str]] = {
    "to_integer": (
        lambda: to_integer(1.0, 8),
        "dtype is 8; allowed are integers of 8 to 64 bits, such as 'int8'",
    ),
    "to_integer, float": (
        lambda: to_integer(1.0, "f4"),
        "dtype is float32; allowed are integers of 8 to 64 bits, such as 'int8'",
    ),
    "to_integer, overflow": (
        lambda: to_integer(1.0, "int8", overflow="wrab"),
        "overflow is 'wrab'; allowed are 'saturate', 'wrap'; did you mean 'wrap'?",
    ),
    "find_schedule": (
        lambda: find_schedule("h100:bf16", 8, 8, 64, product=3),
        "product is 3; allowed are functions of two arrays, for example jnp.matmul",
    ),
    "identify": (
        lambda: identify(3, formats="bf16"),
        "product is 3; allowed are functions of two arrays, for example jnp.matmul",
    ),
    "identify, formats": (
        lambda: identify(np.matmul, formats="mxfp8"),
        "formats has 'mxfp8'; allowed are floating-point formats that float32 holds, and integers"
        + " such as int8",
    ),
    "which_kernel": (
        lambda: which_kernel("h100:bf16"),
        "fun is 'h100:bf16'; allowed are functions of arrays, for example jnp.matmul",
    ),
    "train": (
        lambda: train(3),
        "config is 3; allowed is a TrainConfig, for example TrainConfig(policy='bf16')",
    ),
    "prepare_run": (
        lambda: prepare("bf16"),
        "config is 'bf16'; allowed is a TrainConfig, for example TrainConfig(policy='bf16')",
    ),
    "bisect_runs": (
        lambda: bisect(None, "run"),
        "ours is None; allowed are folders, as str or Path",
    ),
    "sqnr": (
        lambda: ps.sqnr(THREE, FOUR),
        "computed has shape (3,), exact (4,); allowed are shapes that broadcast to one",
    ),
    "relative_error": (
        lambda: ps.relative_error(THREE, FOUR),
        "computed has shape (3,), exact (4,); allowed are shapes that broadcast to one",
    ),
    "ulp_error, jit": (
        lambda: jax.jit(lambda x, y: ps.ulp_error(x, y, "fp16"))(THREE, FOUR),
        "computed has shape (3,), exact (4,); allowed are shapes that broadcast to one",
    ),
    "backward_error": (
        lambda: ps.backward_error(ONE, THREE, FOUR),
        "a has shape (3,), b (4,); allowed are shapes that numpy.matmul multiplies",
    ),
    "SplitK": (lambda: options.SplitK(0), "splits of SplitK is 0; allowed are integers from 1 on"),
    "SplitK, granule": (
        lambda: options.SplitK(2, granule=1.5),
        "granule of SplitK is 1.5; allowed are integers from 1 on",
    ),
    "Promote": (
        lambda: options.Promote("x"),
        "interval of Promote is 'x'; allowed are integers from 1 on",
    ),
    "ResidueFirst": (
        lambda: options.ResidueFirst(True),
        "granule of ResidueFirst is True; allowed are integers from 1 on",
    ),
    "schedule": (
        lambda: ps.FusedBlock(**FUSED),
        f"schedule is 3; allowed are {SCHEDULES}",
    ),
    "accumulate, axis": (
        lambda: accumulate(THREE, "fp16", axis="x"),
        "axis is 'x'; allowed are integers from -1 to 0",
    ),
    "accumulate, axes": (
        lambda: accumulate(np.ones((2, 2)), "fp16", axis=(0, 1)),
        "axis is (0, 1); allowed are integers from -2 to 1",
    ),
    "accumulate, no axes": (
        lambda: accumulate(1.0, "fp16", axis=0),
        "x has shape (); allowed are arrays of at least one axis",
    ),
    "round_to, axis": (
        lambda: round_to(THREE, "mxfp4", axis=1.5),
        "axis is 1.5; allowed are integers",
    ),
    "round_to, axis of numbers": (
        lambda: round_to(THREE, "fp16", axis=None),
        "axis is None; allowed are integers",
    ),
    "quantize, axis": (
        lambda: ps.quantize(THREE, "mxfp4", axis=3),
        "axis is 3; allowed are integers from -1 to 0",
    ),
    "ulp_error, axis": (
        lambda: ps.ulp_error(THREE, THREE, "mxfp4", axis=-2),
        "axis is -2; allowed are integers from -1 to 0",
    ),
    "mode twice": (
        lambda: round_to(1.3, "e4m3:rtz", mode="rtp"),
        "mode is 'rtp', but spec 'e4m3:rtz' says rtz; allowed is one of the two",
    ),
    "mode twice, by another name": (
        lambda: round_to(1.3, "q3.4:trn", mode=ps.RoundingMode.TOWARD_ZERO),
        "mode is 'rtz', but spec 'q3.4:trn' says rtn; allowed is one of the two",
    ),
    "mode twice, block format": (
        lambda: ps.quantize(THREE, "mxfp4:sr8", mode="rne"),
        "mode is 'rne', but spec 'mxfp4:sr8' says sr; allowed is one of the two",
    ),
    "overflow twice": (
        lambda: round_to(1.3, "e4m3:saturate", overflow="infinity"),
        "overflow is 'infinity', but spec 'e4m3:saturate' says saturate; allowed is one of the two",
    ),
}


def loss(w: Any, x: Any) -> Any:
    return (w * x).sum()


def audit() -> Any:
    return ps.audit_loss_scale(loss, THREE, [(np.float32(THREE),)], "fp16_mixed")


NAN, POWERS = float("nan"), "allowed are powers of two, such as 2.0**10"
REALS = "allowed are real numbers: int, float, Fraction, Decimal, and scalars of NumPy and JAX"
recommend: Any = ps.recommend
errors: Any = ps.errors
compare_dumps: Any = ps.compare_dumps

LISTS_AND_NUMBERS: dict[str, tuple[Callable[[], object], str]] = {
    "scales, none": (
        lambda: recommend(THREE, sqnr=9, scales=[]),
        "scales is empty; allowed are one or more powers of two, and None",
    ),
    "scales, None": (
        lambda: recommend(THREE, sqnr=9, scales=[None]),
        f"scales[0] is None; {REALS}",
    ),
    "scales, NaN": (
        lambda: recommend(THREE, sqnr=9, scales=[2, NAN]),
        f"scales[1] is nan; {POWERS}",
    ),
    "scales, number": (
        lambda: recommend(THREE, sqnr=9, scales=2.0),
        "scales is 2.0; allowed are lists of powers of two",
    ),
    "formats, None": (
        lambda: recommend(THREE, sqnr=9, formats=None),
        "formats is None; allowed are lists of formats",
    ),
    "formats, random": (
        lambda: recommend(THREE, sqnr=9, formats=["bf16:sr"]),
        (
            "formats has 'bf16:sr', which rounds stochastically; allowed are modes that need no "
            "random bits"
        ),
    ),
    "scale, None": (
        lambda: errors.predict(errors.statistics(THREE), "fp16", scale=None),
        f"scale is None; {REALS}",
    ),
    "scale, list": (
        lambda: errors.predict(errors.statistics(THREE), "fp16", scale=[]),
        f"scale is []; {REALS}",
    ),
    "audit, scales": (
        lambda: audit().overflows([]),
        "scale has 0 numbers; allowed are 1 and 1, one for each step",
    ),
    "audit, text": (lambda: audit().first_overflow("x"), f"scale is 'x'; {REALS}"),
    "audit, NaN": (lambda: audit().underflow(NAN), f"scale is nan; {POWERS}"),
    "audit, step": (
        lambda: audit().place_of_overflow(None),
        "step is None; allowed are integers from 1 to 1",
    ),
    "unit roundoff": (lambda: errors.gamma(3, None), f"unit_roundoff is None; {REALS}"),
    "confidence": (
        lambda: errors.order_bound("sequential", 4, "bf16", confidence=[]),
        f"confidence is []; {REALS}",
    ),
    "lambda": (
        lambda: errors.probabilistic_gamma(3, "bf16", lambda_=[1]),
        f"lambda_ is [1]; {REALS}",
    ),
    "order": (
        lambda: compare_dumps({"a": 1}, {"a": 1}, order="a"),
        "order is 'a'; allowed are lists of names",
    ),
    "tolerance": (
        lambda: ps.fragile_parts(np.square, THREE, policy="bf16", tolerance=None),  # type: ignore[arg-type]
        f"tolerance is None; {REALS}",
    ),
    "reports": (
        lambda: ps.share_map(None),  # type: ignore[arg-type]
        "reports is None; allowed are a dict and pairs of a step and its Report",
    ),
    "batches": (
        lambda: ps.analyze_steps(np.multiply, ONE, 0, policy="bf16"),  # type: ignore[arg-type]
        "batches is 0; allowed are iterables, with one element for each step",
    ),
}


@pytest.mark.parametrize(
    ("call", "message"), (CASES | LISTS_AND_NUMBERS).values(), ids=[*CASES, *LISTS_AND_NUMBERS]
)
def test_bad_input_gets_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == message


def test_a_mode_beside_a_string_that_names_none_or_the_same() -> None:
    assert ps.round_to(1.3, "e4m3", mode="rtp").item() == 1.375
    assert ps.round_to(1.3, "e4m3:rtp", mode="rtp").item() == 1.375
    assert ps.round_to(1.3, ps.RoundingSpec.parse("e4m3:rtz"), mode="rtp").item() == 1.375
    assert ps.round_to(500.0, "e4m3:rtz", overflow="saturate").item() == 448.0
    bits = np.uint8(255)
    assert ps.round_to(1.01, "bf16:sr8", mode="sr", random_bits=bits) > 1.01


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("rond_to", "; did you mean 'round_to'?"),
        ("round_exact", "; it is precsim.oracle.round_exact"),
        ("round_exakt", "; did you mean 'oracle.round_exact'?"),
        ("xyzzy", ""),
        ("_rond_to", ""),
    ],
)
def test_a_near_public_name_is_suggested(name: str, hint: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(ps, name)
    assert str(caught.value) == f"module 'precsim' has no attribute {name!r}{hint}"
