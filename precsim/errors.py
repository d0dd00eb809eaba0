"""Measures of error, counts of range events, and bounds."""

from precsim.analysis.bounds import gamma as gamma
from precsim.analysis.bounds import probabilistic_gamma as probabilistic_gamma
from precsim.analysis.errors import absolute_error as absolute_error
from precsim.analysis.errors import backward_error as backward_error
from precsim.analysis.errors import relative_error as relative_error
from precsim.analysis.errors import sqnr as sqnr
from precsim.analysis.errors import ulp_error as ulp_error
from precsim.analysis.order_bounds import order_bound as order_bound
from precsim.analysis.ranges import ExponentHistogram as ExponentHistogram
from precsim.analysis.ranges import RangeRates as RangeRates
from precsim.analysis.ranges import exponent_histogram as exponent_histogram
from precsim.analysis.ranges import range_rates as range_rates
from precsim.rounding.events import Events as Events
from precsim.rounding.events import count_events as count_events
