"""Which kernel computes a product, in which order it adds, and which backend runs."""

from precsim.products.backends import resolve_backend as resolve_backend
from precsim.products.identify.facts import Finding as Finding
from precsim.products.identify.identified import Contradiction as Contradiction
from precsim.products.identify.identified import Identified as Identified
from precsim.products.identify.identifying import identify as identify
from precsim.products.native.finding import NativeProduct as NativeProduct
from precsim.products.native.finding import find_schedule as find_schedule
from precsim.products.native.hlo import Kernel as Kernel
from precsim.products.native.hlo import which_kernel as which_kernel
from precsim.transform.autocast import Gain as Gain
from precsim.transform.autocast import measure_gain as measure_gain
