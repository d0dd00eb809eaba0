"""Numerical-precision simulator and error-analysis toolkit for JAX and NumPy.

What does a computation lose in a format, where, and why? `precsim` answers with bit-exact emulation of
number formats, rounding, arithmetic and matrix products, with training loops that use them, and with
measurements of every loss.

Public names load on first use, so that ``import precsim`` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from precsim.analysis.bisect import Divergence as Divergence
    from precsim.analysis.bisect import RunComparison as RunComparison
    from precsim.analysis.bisect import bisect_runs as bisect_runs
    from precsim.analysis.bisect import find_divergence as find_divergence
    from precsim.analysis.bounds import gamma as gamma
    from precsim.analysis.bounds import probabilistic_gamma as probabilistic_gamma
    from precsim.analysis.comparison import PolicySummary as PolicySummary
    from precsim.analysis.comparison import summarise as summarise
    from precsim.analysis.errors import absolute_error as absolute_error
    from precsim.analysis.errors import backward_error as backward_error
    from precsim.analysis.errors import relative_error as relative_error
    from precsim.analysis.errors import sqnr as sqnr
    from precsim.analysis.errors import ulp_error as ulp_error
    from precsim.analysis.order_bounds import order_bound as order_bound
    from precsim.analysis.ranges import exponent_histogram as exponent_histogram
    from precsim.analysis.ranges import range_rates as range_rates
    from precsim.arithmetic.comparison import equal as equal
    from precsim.arithmetic.comparison import greater as greater
    from precsim.arithmetic.comparison import greater_equal as greater_equal
    from precsim.arithmetic.comparison import less as less
    from precsim.arithmetic.comparison import less_equal as less_equal
    from precsim.arithmetic.comparison import not_equal as not_equal
    from precsim.arithmetic.comparison import total_order as total_order
    from precsim.arithmetic.conversion import convert as convert
    from precsim.arithmetic.conversion import from_integer as from_integer
    from precsim.arithmetic.conversion import to_integer as to_integer
    from precsim.arithmetic.elementary.elementary import erf as erf
    from precsim.arithmetic.elementary.elementary import exp as exp
    from precsim.arithmetic.elementary.elementary import log as log
    from precsim.arithmetic.elementary.elementary import rsqrt as rsqrt
    from precsim.arithmetic.elementary.elementary import sigmoid as sigmoid
    from precsim.arithmetic.elementary.elementary import tanh as tanh
    from precsim.arithmetic.elementwise import add as add
    from precsim.arithmetic.elementwise import divide as divide
    from precsim.arithmetic.elementwise import fma as fma
    from precsim.arithmetic.elementwise import multiply as multiply
    from precsim.arithmetic.elementwise import reciprocal as reciprocal
    from precsim.arithmetic.elementwise import sqrt as sqrt
    from precsim.arithmetic.elementwise import subtract as subtract
    from precsim.arithmetic.extremum import maximum as maximum
    from precsim.arithmetic.extremum import maximum_number as maximum_number
    from precsim.arithmetic.extremum import minimum as minimum
    from precsim.arithmetic.extremum import minimum_number as minimum_number
    from precsim.arithmetic.oracle import compute_exact as compute_exact
    from precsim.arithmetic.sums.accumulate import accumulate as accumulate
    from precsim.arithmetic.sums.embedding import embedding as embedding
    from precsim.arithmetic.sums.segments import segment_sum as segment_sum
    from precsim.formats.affine import AffineFormat as AffineFormat
    from precsim.formats.block import BlockFormat as BlockFormat
    from precsim.formats.block import ScaleRule as ScaleRule
    from precsim.formats.codec import decode as decode
    from precsim.formats.codec import encode as encode
    from precsim.formats.fixed_point import FixedPointFormat as FixedPointFormat
    from precsim.formats.floating import FloatFormat as FloatFormat
    from precsim.formats.floating import Specials as Specials
    from precsim.formats.packing import pack_codes as pack_codes
    from precsim.formats.packing import unpack_codes as unpack_codes
    from precsim.formats.registry import get_format as get_format
    from precsim.formats.registry import list_formats as list_formats
    from precsim.formats.registry import register_format as register_format
    from precsim.products.backends import resolve_backend as resolve_backend
    from precsim.products.convolution import conv as conv
    from precsim.products.dot_general import dot_general as dot_general
    from precsim.products.matmul import matmul as matmul
    from precsim.products.native.finding import NativeProduct as NativeProduct
    from precsim.products.native.finding import find_schedule as find_schedule
    from precsim.products.native.hlo import which_kernel as which_kernel
    from precsim.products.scaled_matmul import scaled_matmul as scaled_matmul
    from precsim.products.specs.fused_block import FusedBlock as FusedBlock
    from precsim.products.specs.spec import MatmulSpec as MatmulSpec
    from precsim.products.tensor_core.oracle import fused_dot_exact as fused_dot_exact
    from precsim.rounding.oracle import Flags as Flags
    from precsim.rounding.oracle import round_exact as round_exact
    from precsim.rounding.round_to import round_to as round_to
    from precsim.rounding.scaled.quantize import dequantize as dequantize
    from precsim.rounding.scaled.quantize import quantize as quantize
    from precsim.rounding.scaled.quantized import Quantized as Quantized
    from precsim.rounding.spec import RoundingSpec as RoundingSpec
    from precsim.rounding.ulp import ulp as ulp
    from precsim.training.config import TrainConfig as TrainConfig
    from precsim.training.loop import PreparedRun as PreparedRun
    from precsim.training.loop import TrainResult as TrainResult
    from precsim.training.loop import prepare_run as prepare_run
    from precsim.training.loop import train as train
    from precsim.training.policy import Policy as Policy
    from precsim.training.recipes.gradients import value_and_grad as value_and_grad
    from precsim.training.recipes.loss_scaling import DynamicLossScale as DynamicLossScale
    from precsim.training.recipes.loss_scaling import NoLossScale as NoLossScale
    from precsim.training.recipes.loss_scaling import StaticLossScale as StaticLossScale
    from precsim.training.recipes.updates import apply_updates as apply_updates
    from precsim.training.replay.bits import BitDifference as BitDifference
    from precsim.training.replay.bits import BitLog as BitLog
    from precsim.training.replay.bits import hash_state as hash_state
    from precsim.transform.portability import find_unportable as find_unportable

_MODULES = {
    "analysis.bisect": ("Divergence", "RunComparison", "bisect_runs", "find_divergence"),
    "analysis.bounds": ("gamma", "probabilistic_gamma"),
    "analysis.comparison": ("PolicySummary", "summarise"),
    "analysis.errors": ("absolute_error", "backward_error", "relative_error", "sqnr", "ulp_error"),
    "analysis.order_bounds": ("order_bound",),
    "analysis.ranges": ("exponent_histogram", "range_rates"),
    "arithmetic.comparison": (
        "equal",
        "greater",
        "greater_equal",
        "less",
        "less_equal",
        "not_equal",
        "total_order",
    ),
    "arithmetic.conversion": ("convert", "from_integer", "to_integer"),
    "arithmetic.elementary.elementary": ("erf", "exp", "log", "rsqrt", "sigmoid", "tanh"),
    "arithmetic.elementwise": (
        "add",
        "divide",
        "fma",
        "multiply",
        "reciprocal",
        "sqrt",
        "subtract",
    ),
    "arithmetic.extremum": ("maximum", "maximum_number", "minimum", "minimum_number"),
    "arithmetic.oracle": ("compute_exact",),
    "arithmetic.sums.segments": ("segment_sum",),
    "arithmetic.sums.accumulate": ("accumulate",),
    "formats.affine": ("AffineFormat",),
    "formats.block": ("BlockFormat", "ScaleRule"),
    "formats.codec": ("decode", "encode"),
    "formats.fixed_point": ("FixedPointFormat",),
    "formats.floating": ("FloatFormat", "Specials"),
    "formats.packing": ("pack_codes", "unpack_codes"),
    "formats.registry": ("get_format", "list_formats", "register_format"),
    "products.convolution": ("conv",),
    "products.backends": ("resolve_backend",),
    "products.matmul": ("matmul",),
    "products.dot_general": ("dot_general",),
    "arithmetic.sums.embedding": ("embedding",),
    "products.specs.fused_block": ("FusedBlock",),
    "products.tensor_core.oracle": ("fused_dot_exact",),
    "products.native.hlo": ("which_kernel",),
    "products.native.finding": ("NativeProduct", "find_schedule"),
    "products.scaled_matmul": ("scaled_matmul",),
    "products.specs.spec": ("MatmulSpec",),
    "rounding.round_to": ("round_to",),
    "rounding.ulp": ("ulp",),
    "rounding.oracle": ("Flags", "round_exact"),
    "rounding.scaled.quantize": ("dequantize", "quantize"),
    "rounding.scaled.quantized": ("Quantized",),
    "rounding.spec": ("RoundingSpec",),
    "training.replay.bits": ("BitDifference", "BitLog", "hash_state"),
    "training.config": ("TrainConfig",),
    "training.recipes.gradients": ("value_and_grad",),
    "training.loop": ("PreparedRun", "TrainResult", "prepare_run", "train"),
    "training.recipes.loss_scaling": ("DynamicLossScale", "NoLossScale", "StaticLossScale"),
    "training.policy": ("Policy",),
    "transform.portability": ("find_unportable",),
    "training.recipes.updates": ("apply_updates",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_WHERE)  # noqa: PLE0605

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name from the module that defines it."""
        if name not in _WHERE:
            raise AttributeError(f"module 'precsim' has no attribute {name!r}")
        value = getattr(import_module(f"precsim.{_WHERE[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """List the public names."""
        return sorted({*globals(), *__all__})
