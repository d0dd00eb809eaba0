"""Dot products of machines: columns, cases and results."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

import precsim as ps
from conformance.emission.codes import float_format
from conformance.emission.functions import CHUNK, Column, Inputs, Results, code_of, decoded
from conformance.emission.hard_dots import Dot, Shape, hard_dots, random_dot

CONTAINERS = {"tf32": "fp32"}
"""Formats whose numbers are given as codes of a wider one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DotProduct:
    """``c + a . b`` of a machine, of two steps."""

    machine: str
    """A spec, for example "h100:e4m3" or "b200:nvfp4"."""
    spec: ps.MatmulSpec
    operands: tuple[Column, ...]
    shape: Shape
    result: ps.FloatFormat

    @property
    def name(self) -> str:
        """Return for example "dot.h100_e4m3"."""
        words = str(self.machine).replace("->", "_to_").replace("=", "_").split(":")
        return f"dot.{'_'.join(words)}"

    @property
    def facts(self) -> dict[str, str]:
        """Return the machine and its steps."""
        return {
            "operation": "dot",
            "machine": self.machine,
            "arithmetic": f"steps {self.spec.order}, accumulator {self.spec.accumulator}",
        }

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return a, b, their scales, and c."""
        return self.operands

    @property
    def has_flags(self) -> bool:
        """Return False: the machines' documents define no exceptions."""
        return False

    def hard_cases(self) -> Iterator[Inputs]:
        """Yield the cases of `hard_dots`."""
        seen: set[Inputs] = set()
        for dot in hard_dots(self.shape):
            case = self._codes(dot)
            if case not in seen:
                seen.add(case)
                yield case

    def random_cases(self, rng: random.Random) -> Iterator[Inputs]:
        """Yield the cases of `random_dot`."""
        while True:
            yield self._codes(random_dot(self.shape, rng))

    def _codes(self, dot: Dot) -> Inputs:
        parts = (dot.a, dot.b, dot.a_scales, dot.b_scales, (dot.c,))
        chosen = [part for part in parts if part]
        return tuple(
            code_of(x, column.format)
            for part, column in zip(chosen, self.operands, strict=True)
            for x in part
        )

    def _parts(self, case: Inputs) -> list[list[float]]:
        """Return the values of each column."""
        parts, at = [], 0
        for column in self.operands:
            codes = case[at : at + column.count]
            parts.append([decoded(code, column.format) for code in codes])
            at += column.count
        return parts

    def expected(self, cases: Sequence[Inputs]) -> Results:
        """Return codes by `ps.oracle.fused_dot_exact`."""
        values = []
        for case in cases:
            a, b, *scales, (c,) = self._parts(case)
            a_scales, b_scales = scales or (None, None)
            value = ps.oracle.fused_dot_exact(
                a, b, c, self.spec, a_scales=a_scales, b_scales=b_scales
            )
            output = self.spec.output
            values.append(value if output is None else ps.oracle.round_exact(value, output).value)
        return [(code_of(value, self.result), None) for value in values]

    def differing(self, cases: Sequence[Inputs], results: Results) -> list[int]:
        """Compare with the kernel under `jax.jit`; any NaN equals any NaN.

        Of scaled operands only the cases whose codes and scales `ps.quantize` returns for their
        values can be given to the kernel, and with a scale of the whole array only those where c is
        0; see `checkable`.
        """
        parts = [self._parts(case) for case in cases]
        usable = self.checkable(cases)
        a, b = (_multiplied([p[k] for p in parts], _scales(parts, k), self.shape) for k in (0, 1))
        c = np.array([p[-1][0] for p in parts], np.float32)
        wanted = np.array([code for code, _ in results], np.uint64)
        values = np.asarray(ps.decode(wanted, self.result), np.float32)
        wrong = []
        for start in range(0, len(usable), CHUNK):
            chosen = usable[start : start + CHUNK]
            padded = np.array([*chosen, *[chosen[0]] * (CHUNK - len(chosen))])
            found = self._product(a[padded], b[padded], c[padded])[: len(chosen)]
            is_same = found.view(np.uint32) == values[chosen].view(np.uint32)
            is_same |= np.isnan(found) & np.isnan(values[chosen])
            wrong += [chosen[k] for k in np.flatnonzero(~is_same)]
        return wrong

    def _product(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        if self._has_tensor_scale:
            a, b = (_with_largest(x, self.shape) for x in (a, b))
        first = None if self._has_tensor_scale else c[:, None, None]
        found = _kernel(self.spec)(a[:, None, :], b[:, :, None], first)
        return np.asarray(found, np.float32)[: len(c), 0, 0]

    @property
    def _has_tensor_scale(self) -> bool:
        assert self.spec.lhs is not None
        return getattr(self.spec.lhs.format, "tensor_scale", None) is not None

    def checkable(self, cases: Sequence[Inputs]) -> list[int]:
        """Return the places of the cases that `differing` compares."""
        if self.shape.scale is None:
            return list(range(len(cases)))
        parts = [self._parts(case) for case in cases]
        is_usable = np.ones(len(cases), bool)
        for k, rounding in enumerate((self.spec.lhs, self.spec.rhs)):
            elements, scales = [p[k] for p in parts], _scales(parts, k)
            values = _multiplied(elements, scales, self.shape)
            if self._has_tensor_scale:
                values = _with_largest(values, self.shape)
                is_usable &= np.array([p[-1][0] == 0 for p in parts])
            assert rounding is not None
            got = ps.quantize(values, rounding, axis=1)
            codes = np.asarray(got.codes)[: len(cases)]
            got_scales = np.asarray(ps.decode(got.scales, str(self.shape.scale)))[: len(cases)]
            wanted = np.asarray(ps.encode(np.array(elements), self.operands[k].format))
            size = self.shape.blocks[k]
            zero = (np.array(elements) == 0).reshape(len(cases), -1, size).all(axis=2)
            is_usable &= (codes == wanted).all(axis=1) & np.isfinite(scales).all(axis=1)
            is_usable &= ((got_scales == np.array(scales)) | zero).all(axis=1)
        return np.flatnonzero(is_usable).tolist()


def dot_product(machine: str, count: int | None = None) -> DotProduct:
    """Return the dot product of a spec, by default of two steps or two blocks."""
    spec = ps.MatmulSpec.parse(machine)
    length = getattr(spec.order, "length", 0)
    if spec.lhs is None or spec.rhs is None or not length or hasattr(spec.order, "count"):
        raise ValueError(f"machine is {machine!r:.100}; allowed are products in blocks of steps")
    formats = [part.format for part in (spec.lhs, spec.rhs)]
    sizes = [fmt.block_size if isinstance(fmt, ps.BlockFormat) else 0 for fmt in formats]
    interval = getattr(getattr(spec.order, "schedule", None), "interval", 0)
    count = count or 2 * max(length, *sizes, interval)
    lhs, rhs = (float_format(_element(fmt)) for fmt in formats)
    sums = spec.accumulator.format
    assert isinstance(sums, ps.FloatFormat)
    container = float_format("fp16" if str(sums) == "fp16" else "fp32")
    operands = [
        Column(name="a", format=lhs, count=count),
        Column(name="b", format=rhs, count=count),
    ]
    scale = None
    if all(sizes):
        if count % math.lcm(*sizes):
            raise ValueError(f"--k is {count}; allowed are multiples of {math.lcm(*sizes)}")
        assert isinstance(formats[0], ps.BlockFormat)
        scale = formats[0].scale
        names = zip(("a_scales", "b_scales"), sizes, strict=True)
        operands += [Column(name=name, format=scale, count=count // size) for name, size in names]
    operands.append(Column(name="c", format=container))
    output = spec.output.format if spec.output else container
    return DotProduct(
        machine=machine,
        spec=spec,
        operands=tuple(operands),
        result=float_format(str(output)),
        shape=Shape(
            lhs=lhs,
            rhs=rhs,
            sums=sums,
            count=count,
            length=length,
            scale=scale,
            blocks=(sizes[0], sizes[1]) if scale else (0, 0),
        ),
    )


def _element(fmt: Any) -> str:
    name = str(fmt.element if isinstance(fmt, ps.BlockFormat) else fmt)
    return CONTAINERS.get(name, name)


@lru_cache(maxsize=4)
def _kernel(spec: ps.MatmulSpec) -> Any:
    import jax

    product = partial(ps.matmul, spec=spec, backend="emulated")
    return jax.jit(lambda a, b, c: product(a, b, c=c))


def _scales(parts: Sequence[Sequence[list[float]]], k: int) -> np.ndarray:
    """Return the scales of an operand in all cases; of shape (cases, 0) without scales."""
    return np.array([p[2 + k] if len(p) > 3 else [] for p in parts])


def _multiplied(elements: Sequence[Any], scales: np.ndarray, shape: Shape) -> np.ndarray:
    """Return float32 values: elements times the scales of their blocks."""
    values = np.array(elements, np.float64)
    if scales.size:
        values *= np.repeat(scales, values.shape[1] // scales.shape[1], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _with_largest(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Append a row with the largest value that element and scale have: the array's scale is 1."""
    assert shape.scale is not None
    row = np.zeros((1, values.shape[1]), np.float32)
    row[0, 0] = shape.lhs.max_finite * shape.scale.max_finite
    return np.concatenate([values, row])
