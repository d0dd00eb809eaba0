"""Arithmetics that a matrix product may have had, from the cheap and common ones on.

A candidate is a `MatmulSpec` and an arrangement of the K products: reversed, or dealt out to the
lanes of a vector register, which turns the order of a spec into that of a kernel.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from precsim.products.matmul import matmul
from precsim.products.specs.machines import MACHINES
from precsim.products.specs.matrix_units import MATRIX_UNITS
from precsim.products.specs.spec import MatmulSpec
from precsim.rounding.spec import RoundingSpec

Arrangement = Callable[[int], np.ndarray]
"""From K to the positions of the products in the order in which they are added; -1 adds zero."""

_COMPILED_FROM = 257
"""Products K from which a compiled loop beats NumPy's, which takes a millisecond for each."""
_LIBRARIES = ("numpy", "jax", "torch", "_operator", "builtins", "cupy")
_LANES = (2, 4, 8, 16, 32)
_BLOCKS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_PARTS = (2, 3, 4, 8)
_GRANULES = (64, 32, 16)
_CHAINS = (32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class Product:
    """An arithmetic of products ``a @ b``.

    `name` is a spec, with the arrangement behind it where there is one; `meaning` says it in words.
    """

    name: str
    meaning: str
    spec: MatmulSpec
    arrangement: Arrangement | None = None

    def run(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return a @ b, shapes (..., M, K) and (..., K, N)."""
        k = a.shape[-1]
        if self.arrangement is not None:
            places = self.arrangement(k)
            a, b = _taken(a, places, -1), _taken(b, places, -2)
        backend = "reference" if a.shape[-1] < _COMPILED_FROM else "auto"
        return np.asarray(matmul(a, b, self.spec, backend=backend))

    def rounded(self, output: str) -> "Product":
        """Return the same product with another output."""
        spec = replace(self.spec, output=RoundingSpec.parse(output))
        _, space, arrangement = self.name.partition(" ")
        name, meaning = f"{spec}{space}{arrangement}", f"{self.meaning}; {output} results"
        return replace(self, name=name, meaning=meaning, spec=spec)


def _taken(x: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Return the entries at some places of an axis, zeros where a place is -1."""
    width = [(0, 0)] * x.ndim
    width[axis] = (0, 1)
    return np.take(np.pad(x, width), np.where(places < 0, x.shape[axis], places), axis=axis)


def _reversed(k: int) -> np.ndarray:
    return np.arange(k)[::-1]


def _lanes(count: int) -> Arrangement:
    """Return an arrangement in blocks, one for each lane: k, k + count, k + 2 count, ..."""

    def arranged(k: int) -> np.ndarray:
        places = np.arange(-(-k // count) * count).reshape(-1, count).T.ravel()
        return np.where(places < k, places, -1)

    return arranged


def tiers(k: int, dtype: str, values: Sequence[str]) -> list[list[Product]]:
    """Return candidates for K products, cheap and common ones first, no two with the same spec.

    Parameters
    ----------
    k : int
        Number of products.
    dtype : {"fp32", "fp64"}
        What the operands are carried in and the sums, unless narrower.
    values : sequence of str
        Formats among "fp16" and "bf16" that have all the results: only then can an accumulator have
        been so narrow.
    """
    seen: set[tuple[MatmulSpec, str]] = set()
    listed = []
    for tier in (_plain, _machines, _scheduled, _crossed):
        new = []
        for product in tier(k, dtype, values):
            key = product.spec, product.name.partition(" ")[2]
            if key not in seen:
                seen.add(key)
                new.append(product)
        listed.append(new)
    return listed


def _operands(dtype: str) -> dict[str, str]:
    words = {"tf32": "TF32", "tf32[rtz]": "cut-off TF32"}
    return {dtype: ""} | {
        name: f"operands rounded to {words.get(name, name)}, "
        for name in ("tf32", "bf16", "fp16", "tf32[rtz]")
    }


def _plain(k: int, dtype: str, values: Sequence[str]) -> Iterator[Product]:
    """Yield operand formats with sums in sequence, and orders with operands as they are."""
    for operand, words in _operands(dtype).items():
        yield _ordered(operand, dtype, words, "sequential")
    for narrow in values:
        yield _ordered(narrow, narrow, _operands(dtype)[narrow], "sequential")
    yield from _orders(dtype, dtype, "")


def _orders(operand: str, sums: str, words: str) -> Iterator[Product]:
    for is_fused in _fusions(operand, sums):
        yield _ordered(operand, sums, words, "sequential", is_fused=is_fused)
        yield _arranged(
            operand, sums, words, "sequential", "reversed", _reversed, is_fused=is_fused
        )
        yield _ordered(operand, sums, words, "pairwise", is_fused=is_fused)
    yield _ordered(operand, sums, words, "exact")


def _fusions(operand: str, sums: str) -> tuple[bool, ...]:
    """Return whether products are fused into the sums, and where it matters also that not."""
    return (True, False) if operand == sums else (True,)


def _crossed(k: int, dtype: str, values: Sequence[str]) -> Iterator[Product]:
    """Yield every order, blocks, lanes and split sums with every operand format."""
    for operand, words in _operands(dtype).items():
        yield from _orders(operand, dtype, words)
    for narrow in values:
        yield from _orders(narrow, narrow, _operands(dtype)[narrow])
    sizes = sorted({*_BLOCKS, *(-(-k // parts) for parts in _PARTS)})
    for (operand, words), size in itertools.product(_operands(dtype).items(), sizes):
        for is_fused in _fusions(operand, dtype) if 1 < size < k else ():
            yield _ordered(operand, dtype, words, f"blocked{size}", is_fused=is_fused)
    for (operand, words), count in itertools.product(_operands(dtype).items(), _LANES):
        order, name = f"blocked{-(-k // count)}", f"in {count} lanes"
        for is_fused in _fusions(operand, dtype) if count < k else ():
            yield _arranged(operand, dtype, words, order, name, _lanes(count), is_fused=is_fused)


def _ordered(operand: str, sums: str, words: str, order: str, *, is_fused: bool = True) -> Product:
    product = "" if is_fused else f":product={sums}"
    spec = MatmulSpec.parse(f"{operand}_{operand}_{sums}:{order}{product}")
    return Product(name=str(spec), meaning=_meaning(words, sums, order, is_fused), spec=spec)


def _arranged(
    operand: str,
    sums: str,
    words: str,
    order: str,
    name: str,
    arrangement: Arrangement,
    *,
    is_fused: bool = True,
) -> Product:
    plain = _ordered(operand, sums, words, order, is_fused=is_fused)
    meaning = _meaning(words, sums, name, is_fused)
    return replace(plain, name=f"{plain.name} {name}", meaning=meaning, arrangement=arrangement)


def _meaning(words: str, sums: str, order: str, is_fused: bool) -> str:
    orders = {
        "sequential": f"{sums} sums in sequence",
        "reversed": f"{sums} sums in reversed order",
        "pairwise": f"{sums} sums in pairs",
        "exact": f"exact sums rounded once to {sums}",
    }
    products = "" if is_fused else f", products rounded to {sums}"
    return f"{words}{orders.get(order, f'{sums} sums {order}')}{products}"


def _machines(k: int, dtype: str, values: Sequence[str]) -> Iterator[Product]:
    """Yield what tensor cores and matrix units do in one chain; float32 carriers only."""
    if dtype == "fp32":
        for spec, names in _machine_specs(values).items():
            yield Product(name=names[0], meaning=f"{_hardware(names)}, one chain", spec=spec)
        for machine, units in MATRIX_UNITS.items():
            hardware = "matrix units" if machine.startswith("mi") else "dot-product instructions"
            for operand in units:
                name = f"{machine}:{operand}"
                meaning = f"{hardware} ({machine}), {operand} operands, one chain"
                yield Product(name=name, meaning=meaning, spec=MatmulSpec.parse(name))


def _scheduled(k: int, dtype: str, values: Sequence[str]) -> Iterator[Product]:
    """Yield the same with the schedules of kernels."""
    if dtype != "fp32":
        return
    splits: dict[int, str] = {}  # by the length of a part
    for granule, parts in itertools.product(_GRANULES, _PARTS):
        length = math.ceil(math.ceil(k / granule) / parts) * granule
        splits.setdefault(length, f"splitk{parts}x{granule}")
    chains = {length: f"promote{length}" for length in _CHAINS}
    schedules = [name for length, name in [*splits.items(), *chains.items()] if length < k]
    for (_, names), schedule in itertools.product(_machine_specs(values).items(), schedules):
        name = f"{names[0]}:{schedule}"
        try:
            spec = MatmulSpec.parse(name)
        except ValueError:
            continue  # not every instruction is used with every schedule
        yield Product(name=name, meaning=f"{_hardware(names)}, schedule {schedule}", spec=spec)


def _machine_specs(values: Sequence[str]) -> dict[MatmulSpec, list[str]]:
    """Return the products of all machines and scalar operands; the names of each."""
    found: dict[MatmulSpec, list[str]] = {}
    for machine in dict.fromkeys(("h100", "a100", *MACHINES)):
        for kind, instruction in MACHINES[machine].items():
            operands = "e4m3" if kind == "fp8" else kind
            for accumulator in instruction.accumulators:
                if accumulator == "fp16" and "fp16" not in values:
                    continue
                name = f"{machine}:{operands}" + (":acc=fp16" if accumulator == "fp16" else "")
                found.setdefault(MatmulSpec.parse(name), []).append(name)
    return found


def _hardware(names: Sequence[str]) -> str:
    machines = ", ".join(name.partition(":")[0] for name in names)
    _, operands, *option = names[0].split(":")
    accumulator = ", fp16 accumulator" if option else ""
    return f"tensor cores ({machines}), {operands} operands{accumulator}"


def is_known(fun: Any, args: Sequence[Any]) -> bool:
    """Return whether a function is a matrix product of two arrays, by its name and library."""
    name = getattr(fun, "__name__", "")
    library = str(getattr(fun, "__module__", None) or type(fun).__module__).partition(".")[0]
    if len(args) != 2 or library not in _LIBRARIES or name not in ("matmul", "dot", "mm", "bmm"):
        return False
    # Of more dimensions `dot` is another function.
    return name != "dot" or all(len(getattr(x, "shape", (0,))) <= 2 for x in args)
