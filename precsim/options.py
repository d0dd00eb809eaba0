"""The choices that specs are made of: rounding rules, orders of sums, schedules of kernels."""

from precsim.arithmetic.sums.all_reduce import AllReduce as AllReduce
from precsim.arithmetic.sums.order import Blocked as Blocked
from precsim.arithmetic.sums.order import Exact as Exact
from precsim.arithmetic.sums.order import Kahan as Kahan
from precsim.arithmetic.sums.order import Pairwise as Pairwise
from precsim.arithmetic.sums.order import Sequential as Sequential
from precsim.arithmetic.sums.order import TwoSum as TwoSum
from precsim.products.specs.fused_block import Flat as Flat
from precsim.products.specs.fused_block import PairInterleaved as PairInterleaved
from precsim.products.specs.fused_block import Promote as Promote
from precsim.products.specs.fused_block import ResidueFirst as ResidueFirst
from precsim.products.specs.fused_block import SplitK as SplitK
from precsim.products.specs.step_block import DescendingBlock as DescendingBlock
from precsim.products.specs.step_block import DotBlock as DotBlock
from precsim.products.specs.step_block import EvenOddBlock as EvenOddBlock
from precsim.products.specs.step_block import ExactBlock as ExactBlock
from precsim.products.specs.step_block import FlooredBlock as FlooredBlock
from precsim.products.specs.step_block import PairwiseBlock as PairwiseBlock
from precsim.rounding.modes import EvenRule as EvenRule
from precsim.rounding.modes import InfinityMode as InfinityMode
from precsim.rounding.modes import NanMode as NanMode
from precsim.rounding.modes import OverflowMode as OverflowMode
from precsim.rounding.modes import RoundingMode as RoundingMode
from precsim.rounding.modes import StochasticVariant as StochasticVariant
from precsim.rounding.modes import SubnormalMode as SubnormalMode
from precsim.transform.policy import Rule as Rule
