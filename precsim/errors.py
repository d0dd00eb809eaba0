"""Measures of error, counts of range events, statistics that predict them, and bounds."""

from precsim.analysis.bounds.gamma import gamma as gamma
from precsim.analysis.bounds.gamma import probabilistic_gamma as probabilistic_gamma
from precsim.analysis.bounds.order_bounds import order_bound as order_bound
from precsim.analysis.errors import absolute_error as absolute_error
from precsim.analysis.errors import backward_error as backward_error
from precsim.analysis.errors import relative_error as relative_error
from precsim.analysis.errors import sqnr as sqnr
from precsim.analysis.errors import ulp_error as ulp_error
from precsim.analysis.ranges import ExponentHistogram as ExponentHistogram
from precsim.analysis.ranges import RangeRates as RangeRates
from precsim.analysis.ranges import exponent_histogram as exponent_histogram
from precsim.analysis.ranges import range_rates as range_rates
from precsim.analysis.what_if.block_statistics import BlockStatistics as BlockStatistics
from precsim.analysis.what_if.predict import Prediction as Prediction
from precsim.analysis.what_if.predict import predict as predict
from precsim.analysis.what_if.recommendation import Choice as Choice
from precsim.analysis.what_if.recommendation import Recommendation as Recommendation
from precsim.analysis.what_if.scale_statistics import ScaleStatistics as ScaleStatistics
from precsim.analysis.what_if.scale_statistics import scale_statistics as scale_statistics
from precsim.analysis.what_if.statistics import TensorStatistics as TensorStatistics
from precsim.analysis.what_if.statistics import statistics as statistics
from precsim.rounding.events import Events as Events
from precsim.rounding.events import count_events as count_events
