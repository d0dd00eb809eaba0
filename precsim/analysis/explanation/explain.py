"""`explain`: whether the order of sums explains a difference, and which arithmetic made it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from precsim._arrays import as_array
from precsim.analysis.bounds import matmul_bound
from precsim.analysis.differences import (
    Flat,
    are_equal,
    differences,
    equal_share,
    flat,
    relative_distance,
)
from precsim.analysis.errors import ulp_error
from precsim.analysis.explanation import products
from precsim.analysis.tables import html_table, json_text, text_table
from precsim.formats.arguments import shown
from precsim.formats.floating import FloatFormat
from precsim.formats.registry import get_format
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.round_to import round_to

_NARROW = ("bf16", "fp16")
_OUTPUTS = ("bf16", "fp16", "tf32", "e4m3", "e5m2")
_SAMPLED = 16
"""Rows and columns of a product that all candidates compute; those that fit compute all."""
_LISTED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One arithmetic that was compared with `got`.

    Parameters
    ----------
    name : str
        A spec of a product or a policy, or "fun" for the function itself.
    meaning : str
        What it does, in words.
    equal : float
        Share of the compared elements that have the bits of `got`; 1 only if all have.
    distance : float
        ``||attempt - got|| / ||got||`` in the 2-norm.
    is_want : bool
        Whether the compared elements have the bits of `want`.

    Examples
    --------
    >>> import precsim as ps
    >>> found = ps.explain(0.5, 0.7, candidates={"half": lambda: 0.5, "third": lambda: 1 / 3})
    >>> [(attempt.name, attempt.equal) for attempt in found.attempts]
    [('half', 1.0), ('third', 0.0)]
    """

    name: str
    meaning: str
    equal: float
    distance: float
    is_want: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How two results differ, and which arithmetic made the first.

    Parameters
    ----------
    elements, different : int
        Numbers compared, and those whose bits differ.
    distance : float
        ``||got - want|| / ||want||`` in the 2-norm.
    ulps : float
        Largest difference, in ulps of `format` at the value of `want`.
    format : str
        The narrowest of bf16, fp16, fp32, fp64 that has all values of `got`.
    share_of_bound : float, optional
        Largest difference as a share of what two orders of the sums can differ by; None where no
        bound is known. Up to 1 the order of the sums alone can explain the difference.
    attempts : tuple of Attempt
        The arithmetics that were tried: bit-equal ones first, then the nearest ones.
    untried : int
        Candidates that were left out, since one before them had the bits already.

    Examples
    --------
    >>> import numpy as np, precsim as ps
    >>> found = ps.explain(np.float32([1.0, 3.01]), np.float32([1.0, 3.0]))
    >>> found.different, found.by, found.share_of_bound
    (1, (), None)
    """

    elements: int
    different: int
    distance: float
    ulps: float
    format: str
    share_of_bound: float | None
    attempts: tuple[Attempt, ...]
    untried: int

    @property
    def by(self) -> tuple[str, ...]:
        """The arithmetics with all bits of `got`; more than one are not distinguished."""
        return tuple(each.name for each in self.attempts if each.equal == 1)

    @property
    def nearest(self) -> Attempt | None:
        """The arithmetic with the smallest distance from `got`."""
        return self.attempts[0] if self.attempts else None

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        return f"{self._difference()}{self._within()}; {self._cause()}"

    def _difference(self) -> str:
        if not self.different:
            return f"got has the bits of want in all {self.elements} elements"
        return (
            f"got differs from want in {self.different} of {self.elements} elements, by up to "
            f"{self.ulps:.3g} ulps of {self.format}"
        )

    def _within(self) -> str:
        share = self.share_of_bound
        if share is None or not self.different:
            return ""
        if share <= 1:
            return f", {100 * share:.2g} % of what the order of the sums alone may do"
        return f", {share:.3g} times what the order of the sums alone may do"

    def _cause(self) -> str:
        equal = [each for each in self.attempts if each.equal == 1]
        if equal:
            text = f"it has the bits of '{equal[0].name}' ({equal[0].meaning})"
            others = [f"'{each.name}'" for each in equal[1:]]
            more = f" and {len(others) - 4} more" if len(others) > 4 else ""
            listed = f", not distinguished here from {', '.join(others[:4])}{more}"
            return text + (listed if others else "")
        near = self.nearest
        if near is None:
            return "no arithmetic was tried"
        return (
            f"none of {len(self.attempts)} arithmetics has its bits; nearest is '{near.name}' "
            f"({near.meaning}): {100 * near.equal:.3g} % equal bits, relative distance "
            f"{near.distance:.2g}"
        )

    def __str__(self) -> str:
        """Return the sentence, and a table of the nearest arithmetics."""
        listed = text_table(_HEADER, self._rows()[:_LISTED])
        left = len(self.attempts) - _LISTED
        rest = [f"and {left} farther ones"] if left > 0 else []
        more = [f"{self.untried} further candidates were not needed"] if self.untried else []
        return "\n".join([self.sentence, "", listed, *rest, *more])

    def _rows(self) -> list[tuple[object, ...]]:
        return [
            (x.name, 100 * x.equal, x.distance, "yes" if x.is_want else "", x.meaning)
            for x in self.attempts
        ]

    def to_json(self) -> str:
        """Return all fields and the sentence as JSON."""
        return json_text({"sentence": self.sentence, **asdict(self)})

    def _repr_html_(self) -> str:
        """Return the sentence and the table for a notebook."""
        return html_table(self.sentence, _HEADER, self._rows()[:_LISTED])


_HEADER = ("arithmetic", "% equal", "distance", "want", "meaning")


def explain(
    got: Any,
    want: Any,
    *,
    fun: Callable[..., Any] | None = None,
    args: Sequence[Any] = (),
    candidates: Sequence[str] | Mapping[str, Callable[..., Any]] | None = None,
) -> Explanation:
    """Say why two results of one computation differ: the order of sums, or another arithmetic.

    Parameters
    ----------
    got : array_like or pytree of arrays, any shapes
        The result to explain, of any library: NumPy, JAX, or arrays with ``__dlpack__`` such as
        PyTorch's, of real numbers up to 64 bits.
    want : array_like or pytree of arrays
        What was expected, of the same shapes; another machine's result, or a float64 one.
    fun : callable, optional
        What was computed: a matrix product (`jax.numpy.matmul`, `numpy.dot`, `torch.matmul`, ...),
        or any function that JAX can trace.
    args : sequence
        Its arguments.
    candidates : sequence of str, or mapping of str to callable, optional
        What is tried: specs of products, or policies for other functions; or functions of `args`.
        By default those that machines and libraries are known for: operands in TF32, bf16, fp16;
        accumulators and outputs in fp16, bf16; products fused or rounded; sums in sequence,
        reversed, in pairs, blocks, lanes, split, exact; tensor cores (V100 to B200) with their
        schedules; for other functions the policies of `emulate`.

    Returns
    -------
    Explanation
        ``print(explanation)`` gives a sentence and a table. `by` names the arithmetics with all
        bits of `got`.

    Raises
    ------
    TypeError
        If `got` or `want` are no real numbers, or JAX cannot trace `fun`.
    ValueError
        If shapes differ or do not fit `fun`, or a candidate is unknown.

    Notes
    -----
    Equal means equal bits; all NaN count as one, and -0 differs from 0. Candidates are tried from
    the cheap ones on, in groups. After the group in which one has all bits the rest is left out.
    Several can have them: these data then do not tell them apart. Of a product, candidates compute
    up to 16 x 16 elements of the first and the last matrix of a batch, and those that fit there
    compute all.

    The bound for products: any order of sums with unit roundoff u differs from the exact product by
    at most ``gamma(K, u) |a| |b|``, plus the rounding of the output; two results differ by at most
    the sum of both. Sums count as float32, those of float64 results as float64; overflow and
    underflow are not covered. No bound is stated for other functions.

    Cost: a candidate takes about a millisecond per product K, or a compilation where K > 256; for
    other functions a compilation each.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, (3.13).

    Examples
    --------
    A product whose operands a GPU has rounded to TF32:

    >>> import numpy as np, precsim as ps
    >>> a, b = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    >>> got = ps.matmul(a, b, "tf32_tf32_fp32")
    >>> found = ps.explain(got, a @ b, fun=np.matmul, args=(a, b))
    >>> found.by[0], found.share_of_bound > 1
    ('tf32_tf32_fp32', True)
    """
    ours, theirs = flat(got, "got"), flat(want, "want")
    if ours.shapes != theirs.shapes:
        raise ValueError(f"got has shape {_shapes(ours)}, want {_shapes(theirs)}; allowed is one")
    if fun is not None and not callable(fun):
        raise TypeError(f"fun is {shown(fun)}; allowed is a function, such as jax.numpy.matmul")
    if fun is None and isinstance(candidates, Sequence):
        raise ValueError("candidates are names, and fun is not given; allowed are both")
    share = None
    if fun is not None and products.is_known(fun) and len(args) == 2:
        problem = _Product(args, ours, theirs)
        share = problem.share_of_bound()
        groups = problem.groups(fun, candidates)
    else:
        groups = _function_groups(fun, tuple(args), ours, theirs, candidates)
    attempts, untried = _tried([_outputs(ours, theirs), *groups])
    return Explanation(
        elements=ours.values.size,
        different=int(np.count_nonzero(~are_equal(ours.values, theirs.values))),
        distance=relative_distance(ours.values, theirs.values),
        ulps=_largest_ulps(ours, theirs),
        format=_format_of(ours),
        share_of_bound=share,
        attempts=attempts,
        untried=untried,
    )


Try = Callable[[], list[Attempt]]
"""Computes one candidate; several attempts if it has several outputs."""


def _tried(groups: Sequence[Sequence[Try]]) -> tuple[tuple[Attempt, ...], int]:
    """Return the attempts up to the group that explains, best first, and how many are left."""
    attempts: list[Attempt] = []
    left = list(groups)
    while left and not any(each.equal == 1 for each in attempts):
        attempts += itertools.chain.from_iterable(run() for run in left.pop(0))
    # Of about the same distance the simpler one counts as nearer: it comes first.
    ranked = sorted(attempts, key=lambda each: (each.equal != 1, float(f"{each.distance:.1e}")))
    return tuple(ranked), sum(map(len, left))


def _attempt(name: str, meaning: str, result: np.ndarray, ours: Flat, theirs: Flat) -> Attempt:
    return Attempt(
        name=name,
        meaning=meaning,
        equal=equal_share(result, ours.values),
        distance=relative_distance(result, ours.values),
        is_want=equal_share(result, theirs.values) == 1,
    )


def _outputs(ours: Flat, theirs: Flat) -> list[Try]:
    """Return the rounding of `want` to formats that have all of `got`, unless that is `want`."""

    def rounded(name: str) -> list[Attempt]:
        result = np.asarray(round_to(theirs.values, name))
        if equal_share(result, theirs.values) == 1:
            return []
        return [_attempt(f"want->{name}", f"want rounded to {name}", result, ours, theirs)]

    formats = [name for name in _OUTPUTS if _is_of(ours.values, name)]
    return [partial(rounded, name) for name in formats]


def _function_groups(
    fun: Callable[..., Any] | None,
    args: tuple[Any, ...],
    ours: Flat,
    theirs: Flat,
    candidates: Sequence[str] | Mapping[str, Callable[..., Any]] | None,
) -> list[list[Try]]:
    """Return the candidates of a function that is no plain product."""
    from precsim.analysis.explanation import functions

    if isinstance(candidates, Mapping):
        named = [
            functions.Computation(name=name, meaning="given", run=run)
            for name, run in candidates.items()
        ]
        tiers = [named]
    elif fun is None:
        return []
    elif candidates is not None:
        tiers = [[functions.under(fun, policy, "given") for policy in candidates]]
    else:
        tiers = functions.computations(fun, args)

    def run(computation: functions.Computation) -> list[Attempt]:
        result = flat(computation.run(*args), f"the result of {computation.name}")
        if result.shapes != ours.shapes:
            raise ValueError(
                f"got has shape {_shapes(ours)}; allowed is that of {computation.name}, "
                f"{_shapes(result)}"
            )
        return [_attempt(computation.name, computation.meaning, result.values, ours, theirs)]

    return [[partial(run, each) for each in tier] for tier in tiers]


class _Product:
    """A matrix product, of which candidates compute a sample first."""

    def __init__(self, args: Sequence[Any], ours: Flat, theirs: Flat) -> None:
        """Bring operands and results to matrices, and choose the sample."""
        given = [np.asarray(as_array(x, f"args[{n}]")) for n, x in enumerate(args)]
        self.args, self.ours, self.theirs = args, ours, theirs
        self.dtype = "fp32" if _is_of(ours.values, "fp32") else "fp64"
        carrier = np.float32 if self.dtype == "fp32" else np.float64
        self.is_cast = any(not are_equal(*_widened(x, x.astype(carrier))).all() for x in given)
        a, b = (x.astype(carrier) for x in given)
        self.a = a[None] if a.ndim == 1 else a
        self.b = b[:, None] if b.ndim == 1 else b
        try:
            self.shape = np.matmul(self.a[..., :1, :], self.b[..., :, :1]).shape[:-2]
        except ValueError:
            raise ValueError(
                f"args have shapes {a.shape}, {b.shape}; allowed are shapes that matmul multiplies"
            ) from None
        self.shape += self.a.shape[-2], self.b.shape[-1]
        if np.prod(self.shape, dtype=int) != ours.values.size:
            raise ValueError(f"got has shape {_shapes(ours)}; allowed is that of the product")
        self.values = [name for name in _NARROW if _is_of(ours.values, name)]

    def share_of_bound(self) -> float:
        """Return the largest difference as a share of the bound for two orders."""
        k = self.a.shape[-1]
        bound = np.zeros(self.shape)
        for side in (self.ours, self.theirs):
            narrowest = _format_of(side)
            sums = "fp64" if narrowest == "fp64" else "fp32"
            bound += matmul_bound(self.a, self.b, sums, n=k + 2 * self.is_cast)
            if narrowest in _NARROW:
                fmt = get_format(narrowest)
                assert isinstance(fmt, FloatFormat)
                u = fmt.unit_roundoff
                bound += np.abs(side.values.reshape(self.shape)) * (u / (1 - u))
        distance = differences(self.ours.values, self.theirs.values)
        size = np.where(distance > 0, bound.ravel(), 1.0)
        with np.errstate(divide="ignore"):
            return float(np.max(distance / size, initial=0.0))

    def groups(
        self,
        fun: Callable[..., Any],
        candidates: Sequence[str] | Mapping[str, Callable[..., Any]] | None,
    ) -> list[list[Try]]:
        """Return the candidates in groups."""
        if isinstance(candidates, Mapping):
            given = candidates.items()
            return [[partial(self._whole, n, "given", f) for n, f in given]]
        if candidates is not None:
            specs = [(text, MatmulSpec.parse(text)) for text in candidates]
            named = [
                products.Product(name=text, meaning="given", spec=spec) for text, spec in specs
            ]
            return [[partial(self._one, each) for each in named]]
        tiers = products.tiers(self.a.shape[-1], self.dtype, self.values)
        groups: list[list[Try]] = [
            [partial(self._whole, "fun", "the function as it runs here", fun)]
        ]
        groups += [[partial(self._all, each) for each in tier] for tier in tiers]
        return groups

    def _whole(self, name: str, meaning: str, fun: Callable[..., Any]) -> list[Attempt]:
        """Return the attempt of a function of the operands."""
        result = flat(fun(*self.args), f"the result of {name}").values
        if result.size != self.ours.values.size:
            raise ValueError(
                f"the result of {name} has {result.size} elements, got {self.ours.values.size}; "
                "allowed is one shape"
            )
        return [_attempt(name, meaning, result, self.ours, self.theirs)]

    def _one(self, product: products.Product) -> list[Attempt]:
        return [self._checked(product, self._sampled(product))]

    def _all(self, product: products.Product) -> list[Attempt]:
        """Return the attempts of a product and of its narrow outputs, computed once."""
        total = self._sampled(product)
        attempts = [self._checked(product, total)]
        for output in self.values:
            rounded = np.asarray(round_to(total, output))
            if not are_equal(*_widened(total, rounded)).all():
                attempts.append(self._checked(product.rounded(output), rounded))
        return attempts

    def _sampled(self, product: products.Product) -> np.ndarray:
        places = self._places()
        outer, (rows, columns) = places[:-2], places[-2:]
        return product.run(_at(self.a, outer, rows, -2), _at(self.b, outer, columns, -1))

    def _places(self) -> list[np.ndarray]:
        """Return the sampled indices of each axis of the result."""
        counts = [2] * (len(self.shape) - 2) + [_SAMPLED] * 2
        return [
            np.unique(np.linspace(0, size - 1, min(size, count)).astype(int))
            for size, count in zip(self.shape, counts, strict=True)
        ]

    def _checked(self, product: products.Product, sample: np.ndarray) -> Attempt:
        """Compare a sample, and where it fits all of the product."""
        where = np.ix_(*self._places())
        sides = [side.values.reshape(self.shape)[where] for side in (self.ours, self.theirs)]
        ours, theirs = (
            side._replace(values=x.ravel())
            for side, x in zip((self.ours, self.theirs), sides, strict=True)
        )
        values = sample.astype(np.float64).ravel()
        found = _attempt(product.name, product.meaning, values, ours, theirs)
        if found.equal < 1 or values.size == self.ours.values.size:
            return found
        whole = product.run(self.a, self.b).astype(np.float64).ravel()
        return _attempt(product.name, product.meaning, whole, self.ours, self.theirs)


def _at(x: np.ndarray, outer: list[np.ndarray], inner: np.ndarray, axis: int) -> np.ndarray:
    """Return an operand at sampled indices of its batch axes and of one axis of the matrix."""
    x = np.take(x, inner, axis)
    for n, places in enumerate(reversed(outer), start=3):
        if x.ndim >= n and x.shape[-n] > 1:
            x = np.take(x, places, -n)
    return x


def _widened(*arrays: np.ndarray) -> list[np.ndarray]:
    return [x.astype(np.float64) for x in arrays]


def _is_of(values: np.ndarray, name: str) -> bool:
    """Return whether a format has all numbers."""
    if name == "fp32":
        with np.errstate(over="ignore"):
            return bool(are_equal(values, values.astype(np.float32).astype(np.float64)).all())
    return bool(are_equal(values, np.asarray(round_to(values, name))).all())


def _format_of(side: Flat) -> str:
    """Return the narrowest format that has all numbers of a result."""
    return next((name for name in (*_NARROW, "fp32") if _is_of(side.values, name)), "fp64")


def _largest_ulps(ours: Flat, theirs: Flat) -> float:
    errors = np.asarray(ulp_error(ours.values, theirs.values, _format_of(ours)))
    errors = np.where(are_equal(ours.values, theirs.values), 0.0, errors)
    return float(np.max(np.where(np.isnan(errors), np.inf, errors), initial=0.0))


def _shapes(side: Flat) -> str:
    return ", ".join(map(str, side.shapes))
