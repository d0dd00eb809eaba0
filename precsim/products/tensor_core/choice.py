"""Products of fused blocks: the kernel that has enough bits for a spec."""

from precsim._arrays import Array
from precsim.products.specs.limits import needs_two_words
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.product import fused_matmul
from precsim.products.tensor_core.two_word_product import wide_matmul


def fused_product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None = None,
    *,
    is_finite: bool = False,
) -> Array:
    """Return c + a @ b for a spec whose order is a `FusedBlock`; operands rounded, unless they are block formats.

    `is_finite` as in `fused_matmul`.
    """
    if needs_two_words(spec):
        return wide_matmul(a, b, c, spec, random_bits)
    return fused_matmul(a, b, c, spec, is_finite=is_finite)
