"""Products of fused blocks: one driver for the steps of one word and those of two."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from precsim._arrays import Array, bitcast, is_jax, namespace
from precsim._loops import repeat, unrolled
from precsim.formats.carrier import FLOAT32
from precsim.products.orders.multiply_add import as_seeds
from precsim.products.shapes import result_shape
from precsim.products.specs.core import Core
from precsim.products.specs.fused_block import FLAT, FusedBlock, Promote
from precsim.products.specs.limits import needs_two_words
from precsim.products.specs.spec import MatmulSpec
from precsim.products.tensor_core.plan import Arranged, Plan, add_chains, plan
from precsim.products.tensor_core.product import in_one_word
from precsim.products.tensor_core.step import add_special, special_products
from precsim.products.tensor_core.two_word_product import in_two_words

_U = FLOAT32.uint_dtype


def fused_product(
    a: Array,
    b: Array,
    c: Array | None,
    spec: MatmulSpec,
    random_bits: Array | None = None,
    *,
    is_finite: bool = False,
) -> Array:
    """Return c + a @ b for a spec whose order is a `FusedBlock`, in float32.

    Shapes (..., M, K), (..., K, N) and (..., M, N), of any size; without products the result is c.
    Operands are values of their formats, but those of block formats are quantized here.
    `is_finite`: the caller vouches that no operand is infinite or NaN, which halves the time to
    compile. The same source runs on NumPy arrays (the reference) and under JAX (compiled).
    """
    core = spec.core
    xp = namespace(a, b, c)
    a, b = xp.asarray(a), xp.asarray(b)
    k = a.shape[-1]
    shape = result_shape(a, b)
    first = xp.zeros(shape, _U) if c is None else bitcast(xp.broadcast_to(c, shape), _U)
    if 0 in (k, *shape):
        return bitcast(first, FLOAT32.float_dtype)
    core = replace(core, block=_shortened(core.block, k, starts_from_zero=c is None))
    where = plan(core.block, k)
    if needs_two_words(core):
        arranged = in_two_words(a, b, first, core, where, as_seeds(random_bits, spec))
    else:
        arranged = in_one_word(a, b, first, core, where)
    run = partial(_run, arranged=arranged, core=core, where=where)
    if is_finite and not core.is_block_scaled:
        total = run(arranged.first, arranged.x, arranged.y, is_special=False)
    else:
        total = _with_or_without_special(run, arranged.first, arranged.x, arranged.y)
    return bitcast(arranged.finish(total), FLOAT32.float_dtype)


def _shortened(block: FusedBlock, k: int, *, starts_from_zero: bool) -> FusedBlock:
    """Return the same steps for k products without the zeros that would fill them up."""
    schedule = block.schedule
    if starts_from_zero and isinstance(schedule, Promote) and k <= schedule.interval:
        # One chain.
        block = replace(block, schedule=FLAT)
    if block.schedule == FLAT and block.group == 1 and k < block.length:
        # One step, such as that of an outer product, the weight gradient of one example.
        block = replace(block, length=k)
    return block


def _with_or_without_special(run: Callable[..., Array], first: Array, x: Any, y: Any) -> Array:
    """Run with the steps' special cases only where there is an infinity or a NaN."""
    xp = namespace(first, x.bits)
    magnitude, infinity = _U(FLOAT32.sign_bit - 1), _U(FLOAT32.infinity)
    is_special = [xp.any((bits & magnitude) >= infinity) for bits in (first, x.bits, y.bits)]
    some = is_special[0] | is_special[1] | is_special[2]
    plain, careful = partial(run, is_special=False), partial(run, is_special=True)
    if not is_jax(some):
        return (careful if some else plain)(first, x, y)
    from precsim._calls import choose

    return choose(some, careful, plain, first, x, y)


def _run(
    first: Array, x: Any, y: Any, *, arranged: Arranged, core: Core, where: Plan, is_special: bool
) -> Array:
    """Return the totals (patterns) after all chains of steps."""
    # The careful branch hardly ever runs, so it is kept short to compile.
    fold = repeat if is_special else unrolled

    step = arranged.step
    if is_jax(first):
        from precsim._lax_arrays import with_lax

        step = with_lax(step)

    def add_step(x: Any, y: Any, total: Array, n: Any) -> Array:
        finite = step(x, y, total, n, fold)
        if not is_special:
            return finite
        start = n * core.terms
        patterns = lambda lane: arranged.patterns(x, y, start + lane)
        return add_special(total, finite, special_products(core.terms, patterns, fold))

    def chain(total: Array, j: Any) -> Array:
        def loop(x: Any, y: Any, total: Array) -> Array:
            body = lambda n, total: add_step(x, y, total, j * where.steps + n)
            return repeat(where.steps, body, total)

        if is_special or arranged.on_gpu is None or not is_jax(total):
            return loop(x, y, total)
        from precsim.products import pallas_gpu

        count = where.steps * core.block.length
        tiled = partial(arranged.on_gpu, start=j * count, count=count, otherwise=loop)
        return pallas_gpu.by_platform(tiled, loop, x, y, total)

    return add_chains(chain, first, where, core.accumulator)
