"""Further operations of IEEE 754-2019: comparisons, minima and maxima, conversions to integers."""

from precsim.arithmetic.comparison import equal as equal
from precsim.arithmetic.comparison import greater as greater
from precsim.arithmetic.comparison import greater_equal as greater_equal
from precsim.arithmetic.comparison import less as less
from precsim.arithmetic.comparison import less_equal as less_equal
from precsim.arithmetic.comparison import not_equal as not_equal
from precsim.arithmetic.comparison import total_order as total_order
from precsim.arithmetic.conversion import from_integer as from_integer
from precsim.arithmetic.conversion import to_integer as to_integer
from precsim.arithmetic.extremum import maximum as maximum
from precsim.arithmetic.extremum import maximum_number as maximum_number
from precsim.arithmetic.extremum import minimum as minimum
from precsim.arithmetic.extremum import minimum_number as minimum_number
