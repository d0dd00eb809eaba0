"""A table of the public functions: how each is called with small arrays, or why it is exempt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precsim as ps

F32: Any = np.float32
I32: Any = np.int32

SPECIAL = (1.5, -0.0, 0.1, -448.0, 0.0, 3.0, -0.3, 2.0**-130, 1e4, -1.0, 0.7, 24.0, -6e-5, 0.25)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One way to call a public function with arrays alone."""

    run: Callable[..., Any]
    """From arrays to an array, or to a pytree of arrays."""
    arrays: tuple[np.ndarray, ...]
    """Two examples of every argument, one after the other along a first axis."""
    gradient: tuple[int, ...] = ()
    """The arguments that have a gradient."""


def numbers(*shape: int, first: int = 0) -> np.ndarray:
    """Return float32 numbers, zeros of both signs and a subnormal one among them."""
    return np.resize(np.roll(F32(SPECIAL), -first), shape)


def normal(*shape: int, first: int = 0) -> np.ndarray:
    """Return positive float32 numbers, where gradients are finite."""
    return np.resize(np.roll(F32([0.5, 1.25, 2.0, 0.75, 3.0, 1.1, 0.9]), -first), shape)


def integers(*shape: int, below: int = 1 << 16, first: int = 0) -> np.ndarray:
    """Return integers as random as their use asks for."""
    return ((np.arange(np.prod(shape), dtype=np.uint32) + first) * 40503 % below).reshape(shape)


def _pair(function: Callable[..., Any], **options: Any) -> Call:
    """Call a function of two operands that broadcast."""
    arrays = numbers(2, 3), numbers(2, 1, first=5)
    return Call(run=lambda x, y: function(x, y, **options), arrays=arrays)


def _rounded(function: Callable[..., Any], operands: int) -> Call:
    """Call a function of operands and random bits."""
    rows = ((2, 3), (2, 1), (2,))[:operands]
    arrays = [normal(*shape, first=2 * k) for k, shape in enumerate(rows)]
    return Call(
        run=lambda *args: function(*args[:-1], "bf16:sr16", random_bits=args[-1]),
        arrays=(*arrays, integers(2, 3)),
        gradient=tuple(range(operands)),
    )


def _matmul(spec: str) -> Call:
    return Call(
        run=lambda a, b: ps.matmul(a, b, spec),
        arrays=(numbers(2, 2, 3), numbers(2, 3, 2, first=1)),
        gradient=(0, 1),
    )


def _dot_general(a: Any, b: Any) -> Any:
    return ps.dot_general("bf16_bf16_fp32")(a, b, (((1,), (0,)), ((), ())))


def _quantized(fmt: str, **options: Any) -> Call:
    return Call(run=lambda x: ps.quantize(x, fmt, **options), arrays=(numbers(2, 3, 2),))


def _round_trip(fmt: str, axis: int) -> Call:
    return Call(
        run=lambda x: ps.dequantize(ps.quantize(x, fmt, axis=axis)), arrays=(numbers(2, 3, 2),)
    )


def _updated(w: Any, u: Any, lost: Any, step: Any) -> Any:
    trees = ({"w": x, "b": x[:1]} for x in (w, u, lost))
    params, updates, compensation = trees
    options = {"rounding": "bf16:sr16", "key": jax.random.key(0), "step": step}
    return ps.apply_updates(params, updates, compensation=compensation, **options)


def _value_and_grad(w: Any, x: Any, factor: Any) -> Any:
    scale = ps.DynamicLossScale(factor=factor, growth_interval=1)
    loss = lambda w, x: (w * x).sum()
    value, grad, state, finite = ps.value_and_grad(loss, "fp16_mixed", loss_scale=scale)(w, x)
    return value, grad, _state(state), finite


def _scaled(make: Callable[[Any], Any]) -> Call:
    def run(factor: Any, x: Any, is_finite: Any) -> Any:
        scale = make(factor)
        return scale.scale(x), scale.unscale(x), _state(scale.adjust(is_finite))

    arrays = F32([4, 0.5]), numbers(2, 2), np.array([True, False])
    return Call(run=run, arrays=arrays)


def _state(scale: Any) -> list[Any]:
    """Return what a step changes; other fields stay the numbers that they were given as."""
    changing = ("factor",) if isinstance(scale, ps.DynamicLossScale) else ()
    names = (*changing, "finite_steps", "skipped")
    return [getattr(scale, n) for n in names if isinstance(getattr(scale, n, 0.0), jax.Array)]


def _dynamic(factor: Any) -> Any:
    return ps.DynamicLossScale(factor=factor, growth_interval=1, finite_steps=0, skipped=0)


def _static(factor: Any) -> Any:
    return ps.StaticLossScale(factor=factor)


CALLS: dict[str, Call] = {
    **{
        name: _pair(getattr(ps.ieee, name))
        for name in (
            *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
            *("total_order", "minimum", "maximum", "minimum_number", "maximum_number"),
        )
    },
    **{name: _rounded(getattr(ps, name), 2) for name in ("add", "subtract", "multiply", "divide")},
    **{name: _rounded(getattr(ps, name), 1) for name in ("round_to", "reciprocal", "sqrt")},
    **{
        name: _rounded(getattr(ps, name), 1)
        for name in ("exp", "log", "tanh", "erf", "sigmoid", "rsqrt")
    },
    "fma": _rounded(ps.fma, 3),
    "ulp": Call(run=lambda x: ps.ulp(x, "e4m3"), arrays=(numbers(2, 3),)),
    "encode": Call(run=lambda x: ps.encode(x, "fp16"), arrays=(F32([[1, -0.0, 2], [0, 3, 0.5]]),)),
    "decode": Call(run=lambda x: ps.decode(x, "e4m3"), arrays=(integers(2, 3, below=256),)),
    "convert": Call(
        run=lambda x, bits: ps.convert(x, "fp16", "e4m3:sr8:saturate", random_bits=bits),
        arrays=(integers(2, 3), integers(2, 3, first=9)),
    ),
    "from_integer": Call(
        run=lambda x, bits: ps.ieee.from_integer(x, "bf16:sr8", random_bits=bits),
        arrays=(integers(2, 3).astype(np.int32) - 999, integers(2, 3)),
    ),
    "to_integer": Call(run=lambda x: ps.ieee.to_integer(x, "int8"), arrays=(numbers(2, 3),)),
    "pack_codes": Call(run=lambda x: ps.pack_codes(x, 6), arrays=(integers(2, 2, 3, below=64),)),
    "unpack_codes": Call(
        run=lambda x: ps.unpack_codes(x, 4, 3),
        arrays=(integers(2, 2, 2, below=256).astype(np.uint8),),
    ),
    "quantize mxfp4": _quantized("mxfp4", axis=0),
    "quantize nvfp4": _quantized("nvfp4"),
    "quantize uint4": _quantized("uint4"),
    "dequantize int4_symmetric_block2": _round_trip("int4_symmetric_block2", 0),
    "dequantize int8_symmetric_channel": _round_trip("int8_symmetric_channel", 1),
    "dequantize nvfp4": _round_trip("nvfp4", -1),
    "round_to_steps": Call(
        run=lambda x, step: ps.round_to_steps(x, step, "int4"),
        arrays=(numbers(2, 3), F32([0.25, 1.5])),
        gradient=(0, 1),
    ),
    "round_to int4_symmetric_block2": Call(
        run=lambda x: ps.round_to(x, "int4_symmetric_block2", axis=0),
        arrays=(numbers(2, 3, 2),),
        gradient=(0,),
    ),
    **{
        f"accumulate {order}": Call(
            run=lambda x, order=order: ps.accumulate(x, "bf16", axis=1, order=order),
            arrays=(numbers(2, 2, 3),),
        )
        for order in ("blocked2", "exact", "kahan", "pairwise", "two_sum")
    },
    "accumulate sequential": Call(
        run=lambda x, bits: ps.accumulate(x, "bf16:sr16", axis=0, random_bits=bits),
        arrays=(numbers(2, 3, 2), integers(2, 3, 2)),
    ),
    **{
        f"all_reduce {how}": Call(
            run=lambda x, how=how: ps.all_reduce(x, how),
            arrays=(numbers(4, 3),),
            gradient=(0,),
        )
        for how in ("doubling", "halving:bf16", "ring:fp16", "tree:e5m2", "sequential")
    },
    "feedback_all_reduce": Call(
        run=lambda x, r: ps.feedback_all_reduce(x, r, "ring:bf16"),
        arrays=(numbers(4, 3), numbers(4, 3, first=1)),
    ),
    "segment_sum": Call(
        run=lambda x, ids: ps.segment_sum(x, ids, "bf16", num_segments=2),
        arrays=(numbers(2, 3, 2), I32([[0, 1, 0], [5, 1, -1]])),
        gradient=(0,),
    ),
    "embedding": Call(
        run=lambda table, ids: ps.embedding(table, ids, "bf16"),
        arrays=(numbers(2, 3, 2), I32([[2, 0, 2], [0, -1, 3]])),
        gradient=(0,),
    ),
    **{
        f"matmul {spec}": _matmul(spec)
        for spec in (
            *("bf16_bf16_fp32", "e4m3_e4m3_fp16:kahan", "e4m3_e4m3_fp16:exact"),
            *("h100:bf16", "b200:mxfp8"),
        )
    },
    "matmul c and random_bits": Call(
        run=lambda a, b, c, bits: ps.matmul(
            a, b, "bf16_bf16_fp32->bf16[sr16]", c=c, random_bits=bits
        ),
        arrays=(numbers(2, 3), numbers(2, 3, 2, first=1), numbers(2, 2), integers(2, 2)),
    ),
    "dot_general": Call(
        run=_dot_general, arrays=(numbers(2, 2, 3), numbers(2, 3, 2)), gradient=(0, 1)
    ),
    "scaled_matmul": Call(
        run=lambda a, b, s, t: ps.scaled_matmul(
            a, b, "h100:e4m3:promote32", a_scales=s, b_scales=t
        ),
        arrays=(numbers(2, 2, 3), numbers(2, 3, 2), normal(2, 2, 1), normal(2, 1, 2)),
    ),
    "conv": Call(
        run=lambda x, w: ps.conv(x, w, "bf16_bf16_fp32"),
        arrays=(numbers(2, 1, 2, 3, 1), numbers(2, 2, 2, 1, 2)),
        gradient=(0, 1),
    ),
    "conv depthwise": Call(
        run=lambda x, w: ps.conv(
            x, w, "bf16_bf16_fp32", stride=2, rhs_dilation=(2,), feature_group_count=2
        ),
        arrays=(numbers(2, 1, 4, 2), numbers(2, 2, 1, 2)),
        gradient=(0, 1),
    ),
    "conv_general_dilated": Call(
        run=lambda x, w: ps.conv_general_dilated("bf16_bf16_fp32")(x, w, (1,), [(1, -1)]),
        arrays=(numbers(2, 1, 2, 3), numbers(2, 2, 2, 2)),
        gradient=(0, 1),
    ),
    "einsum": Call(
        run=lambda a, b: ps.einsum("bf16_bf16_fp32")("ij,kj->ki", a, b),
        arrays=(numbers(2, 2, 3), numbers(2, 2, 3, first=4)),
        gradient=(0, 1),
    ),
    "apply_updates": Call(
        run=_updated,
        arrays=(numbers(2, 2), normal(2, 2), numbers(2, 2, first=4), I32([1, 2])),
    ),
    "value_and_grad": Call(
        run=_value_and_grad, arrays=(numbers(2, 2), numbers(2, 2), F32([2, 2.0**40]))
    ),
    "DynamicLossScale": _scaled(_dynamic),
    "StaticLossScale": _scaled(_static),
    "NoLossScale": _scaled(lambda factor: ps.NoLossScale()),
}

ON_THE_HOST = "computes in float64 or bytes with NumPy on the host; takes JAX arrays, no tracers"
PICTURE = "draws on axes"
NO_ARRAYS = "takes no arrays"
DESCRIPTION = "describes formats, rules, runs or results; holds no arrays of a computation"
EXACT = "takes Python numbers, one result at a time"
OPTIMIZER = "makes or reads an optax optimizer; tests/training/recipes has jit, scan and shardings"
OF_FUNCTIONS = "is itself a transformation; tests/transform is about it"
A_RUN = "trains, or compares whole runs"

EXEMPT: dict[str, str] = {
    **dict.fromkeys((name for name in vars(ps.plots) if name[0] != "_"), PICTURE),
    **dict.fromkeys((name for name in vars(ps.figures) if name[0] != "_"), PICTURE),
    **dict.fromkeys((name for name in vars(ps.optax) if name[0] != "_"), OPTIMIZER),
    **dict.fromkeys(
        (
            *("absolute_error", "relative_error", "ulp_error", "backward_error", "sqnr"),
            *("range_rates", "exponent_histogram", "hash_state", "find_divergence"),
            *("count_events", "predict", "recommend", "scale_statistics", "explain"),
            *("compare_dumps", "save_checkpoint", "load_checkpoint"),
        ),
        ON_THE_HOST,
    ),
    **dict.fromkeys(
        (
            *("gamma", "probabilistic_gamma", "order_bound", "get_format", "list_formats"),
            *("list_machines", "list_models", "list_policies", "list_tasks", "walk"),
            *(
                "register_format",
                "register_rule",
                "resolve_backend",
                "which_kernel",
                "find_schedule",
                "identify",
            ),
        ),
        NO_ARRAYS,
    ),
    **dict.fromkeys(
        (
            *("AffineFormat", "BlockFormat", "FixedPointFormat", "FloatFormat", "TileFormat"),
            "Specials",
            *(
                "ScaleRule",
                "RoundingSpec",
                "MatmulSpec",
                "FusedBlock",
                "NativeProduct",
                "Identified",
                "Finding",
                "Contradiction",
                "Flags",
            ),
            *("Policy", "Rule", "PolicySummary", "TrainConfig", "TrainResult", "PreparedRun"),
            *("AllReduce", "Devices"),
            *(
                "Divergence",
                "RunComparison",
                "BitDifference",
                "BitLog",
                "Checkpoint",
                "Checkpoints",
                "Kernel",
            ),
            *("Events", "RangeRates", "ExponentHistogram", "Coverage", "Gain"),
            *("TensorStatistics", "BlockStatistics", "Prediction", "Choice", "Recommendation"),
            "ScaleStatistics",
            *("Explanation", "DumpComparison", "LossScaleAudit", "Drift", "Walk"),
            *("SignificantDigits", "FragileParts", "Tolerance", "Contribution"),
            *("Report", "OperationRow", "GroupRow", "ShareMap", "Cost"),
            *("Assignment", "AssignedPlace", "Schedule", "Feedback", "Decision"),
            *("Compression", "FixedScales"),
            *("RoundingMode", "OverflowMode", "InfinityMode", "NanMode", "SubnormalMode"),
            *("EvenRule", "StochasticVariant", "Sequential", "Pairwise", "Blocked", "Kahan"),
            *("TwoSum", "Exact", "Flat", "Promote", "SplitK", "ResidueFirst", "PairInterleaved"),
            *("ExactBlock", "PairwiseBlock", "FlooredBlock"),
            *("DescendingBlock", "EvenOddBlock", "DotBlock"),
        ),
        DESCRIPTION,
    ),
    **dict.fromkeys(
        (
            *("compute_exact", "decode_exact", "encode_exact", "fused_dot_exact", "round_exact"),
            "ulp_exact",
        ),
        EXACT,
    ),
    **dict.fromkeys(("train", "prepare_run", "bisect_runs", "summarise", "share_map"), A_RUN),
    **dict.fromkeys(("assign_formats", "audit_loss_scale", "track_drift"), A_RUN),
    **dict.fromkeys(("autocast", "coverage", "emulate", "measure_gain", "strict"), OF_FUNCTIONS),
    **dict.fromkeys(
        ("significant_digits", "fragile_parts", "tolerance", "running_bound"), OF_FUNCTIONS
    ),
    **dict.fromkeys(("analyze", "analyzer", "analyze_steps", "cost"), OF_FUNCTIONS),
    **dict.fromkeys(
        ("compress", "prune"), "reads the numbers of weights before anything is traced"
    ),
    "fix_scales": "reads the numbers of batches before anything is traced",
    "find_unportable": "is itself a transformation: it looks into a function's program",
    "statistics": "has tables of fixed size under JAX only; tests/analysis/test_statistics.py has jit, "
    "vmap and devices",
    "calibrate": "reads its sample before anything is traced",
    "Scale": "holds numbers; tests/products/scaled/test_given.py is about it",
    "DelayedScale": "is the state of a scale; tests/products/scaled/test_given.py is about it",
    "Quantized": "is made by quantize; test_values_with_axes_added_later.py is about it",
}


def same_bits(got: Any, expected: Any) -> bool:
    """Return whether trees have equal shapes, dtypes and bits; NaN equals NaN."""
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    return len(got) == len(expected) and all(map(_same, got, expected))


def _same(got: Any, expected: Any) -> bool:
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if got.dtype.kind != "f":
        return bool((got == expected).all())
    both_nan = np.isnan(got) & np.isnan(expected)
    words = f"u{got.dtype.itemsize}"
    as_words = (np.ascontiguousarray(x).view(words).reshape(got.shape) for x in (got, expected))
    return bool((np.equal(*as_words) | both_nan).all())


def as_jax(tree: Any) -> Any:
    """Return a tree of JAX arrays."""
    return jax.tree.map(jnp.asarray, tree)
