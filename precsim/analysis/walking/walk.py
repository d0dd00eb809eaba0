"""`walk`: an expression step by step, each rounding explained."""

import math
from fractions import Fraction
from functools import partial

from precsim.analysis.walking.dots import check_walkable, walk_dot
from precsim.analysis.walking.evaluation import Evaluation, Walked
from precsim.analysis.walking.grammar import Dot, parse
from precsim.analysis.walking.steps import Walk
from precsim.formats.arguments import integer, shown
from precsim.formats.layout import BINARY64
from precsim.formats.numbers import Format
from precsim.formats.reals import Real
from precsim.formats.scaled import scaled_format
from precsim.products.specs.machines import NAMES
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.modes import RoundingMode
from precsim.rounding.oracle import ulp_exact
from precsim.rounding.spec import RoundingSpec, SpecLike


def walk(
    expression: str,
    spec: "SpecLike | MatmulSpec",
    *,
    mode: "RoundingMode | str | None" = None,
    seed: int = 0,
) -> Walk:
    """Evaluate an expression in a format, step by step, and explain each rounding.

    Parameters
    ----------
    expression : str
        Numbers (0.1, 0x1.8p-3, 2**-24, pi, inf, nan), + - * /, parentheses, and ``sqrt(x)``,
        ``fma(x, y, z)``, sums ``sum([x, y, ...])``, ``pairwise([...])``, ``kahan([...])``,
        ``two_sum([...])``, ``blockedN([...])``, ``exact([...])``, and dot products ``dot([...],
        [...])``, ``dot([...], [...], h100:fp16, c=1)``.
    spec : str, Format, RoundingSpec or MatmulSpec
        Format and rule of every operation. Of a product ("h100:fp16", "bf16_bf16_fp32"): what `dot`
        computes where it names none; the rest is computed in the format of its accumulator.
    mode : RoundingMode or str, optional
        Another mode for a spec that names none; None for a product.
    seed : int
        Of the random bits of mode sr, 0 to 2**32 - 1.

    Returns
    -------
    Walk
        The steps, the result, the exact value and the error. ``print(walk)`` shows a line for each
        step; the command ``precsim walk`` shows more.

    Raises
    ------
    ValueError
        If the expression or the spec is not understood; the expression is longer than 2,000
        characters, deeper than 30 levels, or has more than 400 numbers and operations; or its exact
        value has more than 200,000 bits. If `mode` is given for a product, or c for one whose sums
        are scaled at the end.
    TypeError
        If the expression is no text.

    Notes
    -----
    Numbers are taken exactly and rounded once to the format, or in `dot` to that of the operand.
    Every operation is one rounding of the exact result, by the definitions of `precsim.oracle`.
    Sums are those of `accumulate`, sums of products those of `matmul`: without a spec each step is
    ``s = fl(x * y + s)``. Python's own arithmetic evaluates nothing of the text.

    Error: none in the steps. The exact value of a root has 128 bits.

    Examples
    --------
    >>> import precsim as ps
    >>> print(ps.walk("1/3 + 1", "e4m3"))
    1/3 + 1 in e4m3
    1 -> 1: exact
    3 -> 3: exact
    r1 = 1 / 3 = 1 / 3 -> 0.34375: nearer to the upper one, 0.6667 of the way
    r2 = r1 + 1 = 0.34375 + 1 -> 1.375: nearer to the upper one, 0.75 of the way
    result 1.375; without rounding 4/3; error 0.3333 ulp
    """
    node = parse(expression)
    rounding, product = _specs(spec, mode)
    seed = integer(seed, "seed", 0, 2**32 - 1)
    evaluation = Evaluation(rounding, partial(_walk_dot, product=product), seed)
    result = evaluation.node(node)
    return Walk(
        expression=" ".join(expression.split()),
        spec=str(rounding if product is None else product),
        steps=tuple(evaluation.steps),
        value=result.value,
        exact=result.exact,
        has_roots=evaluation.has_roots,
        ulps=_ulps(result.value, result.exact, evaluation.last.format),
    )


def _walk_dot(of: Evaluation, dot: Dot, *, product: MatmulSpec | None) -> Walked:
    return walk_dot(of, dot, product)


def _specs(
    spec: SpecLike | MatmulSpec, mode: RoundingMode | str | None
) -> tuple[RoundingSpec, MatmulSpec | None]:
    """Return the rounding of operations, and the product if the spec is of one."""
    if isinstance(spec, MatmulSpec) or (isinstance(spec, str) and _is_product(spec)):
        product = MatmulSpec.parse(spec)
        if mode is not None:
            raise ValueError(
                f"mode is {shown(str(mode))}, but spec '{product}' is a product, which says how it "
                "rounds; allowed is None"
            )
        check_walkable(product)
        return RoundingSpec(format=product.accumulator.format), product
    rounding = RoundingSpec.parse_with(spec, mode=mode, overflow=None)
    fmt: Format = rounding.format
    if scaled_format(fmt) is not None:
        raise ValueError(
            f"spec is '{rounding}'; allowed are formats of single numbers, and products such as "
            "'h100:fp16' or 'bf16_bf16_fp32'"
        )
    if not fmt.fits(BINARY64):
        raise ValueError(f"spec is '{rounding}'; allowed are formats whose values float64 has")
    return rounding, None


def _is_product(text: str) -> bool:
    """Return whether a text is that of a product, rightly written or not."""
    if text.partition(":")[0] in NAMES:
        return True
    try:
        RoundingSpec.parse(text)
    except ValueError:
        try:
            MatmulSpec.parse(text)
        except ValueError:
            return False
        return True
    return False


def _ulps(value: float, exact: Real, fmt: Format) -> Fraction | None:
    if not math.isfinite(value) or (isinstance(exact, float) and not math.isfinite(exact)):
        return None
    return (Fraction(value) - Fraction(exact)) / Fraction(ulp_exact(exact, fmt))
