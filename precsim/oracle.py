"""The definitions, in exact rational arithmetic, one number at a time; Python alone runs them."""

from precsim.arithmetic.oracle import compute_exact as compute_exact
from precsim.formats.oracle import decode_exact as decode_exact
from precsim.formats.oracle import encode_exact as encode_exact
from precsim.products.tensor_core.oracle import fused_dot_exact as fused_dot_exact
from precsim.rounding.oracle import Flags as Flags
from precsim.rounding.oracle import round_exact as round_exact
from precsim.rounding.oracle import ulp_exact as ulp_exact
