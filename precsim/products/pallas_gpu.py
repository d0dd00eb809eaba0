"""Loops over K with the result in registers: a program in Pallas for each tile of it, on a GPU.

XLA runs each step of a loop on a GPU as a kernel of its own, which reads and writes the whole
result, and every element of it loads its own operands. Here a program keeps a tile of the result in
registers for all of K, and shares what it loads among the rows or columns of the tile. Pallas is
compiled by Triton, which JAX 0.11 calls deprecated; without it the loops of the other platforms
run, with the same bits.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from precsim._arrays import Array
from precsim._loops import repeat, unrolled, vary_alike


class Tile(NamedTuple):
    """What one program computes."""

    rows: int
    columns: int
    warps: int
    """Groups of 32 threads that share it."""


class Read(NamedTuple):
    """What a program does with references to its operands; its steps also run without a GPU."""

    column: Callable[[Any, Any], Array]
    """Entry k of a left operand, (rows of the tile, 1)."""
    row: Callable[[Any, Any], Array]
    """Entry k of a right operand, (1, columns of the tile)."""
    truncate: Callable[[Array], Array]
    """float32 to int32, toward zero; within int32's range."""


Program: TypeAlias = Callable[[Sequence[Any], Sequence[Any], Array, Read], Array]
"""From references to left and right operands and the tile's first values to its last ones."""

TRITON = "jax.experimental.pallas.triton"
_ENOUGH = 256
"""Programs that keep a GPU busy: about two for each of an H100's 132 multiprocessors."""
_CHUNK = 8


def is_usable() -> bool:
    """Return whether this process has an NVIDIA GPU, and a JAX that can compile programs for it."""
    if all(device.platform != "gpu" for device in jax.devices()):
        return False
    try:
        triton = importlib.import_module(TRITON)
    except ImportError:
        return False
    return hasattr(triton, "elementwise_inline_asm")


def by_platform(tiled: Callable[..., Array], plain: Callable[..., Array], *operands: Any) -> Array:
    """Call `tiled` where the arrays are on an NVIDIA GPU, else `plain`; only one is compiled."""
    if not is_usable():
        return plain(*operands)
    # Arrays may be placed on the CPU beside the GPU, which only XLA knows.
    result: Array = lax.platform_dependent(*operands, cuda=tiled, default=plain)
    return result


def over_tiles(
    program: Program,
    first: Array,
    columns: Sequence[Array],
    rows: Sequence[Array],
    *,
    tiles: Sequence[Tile],
) -> Array:
    """Run a program on each tile of `first`, (..., M, N), and return what they make of it.

    Each of `columns` has shape (K, ..., M, 1), each of `rows` (..., K, N). The first of `tiles`
    that makes programs enough for a GPU and is filled by half is taken, else the last. Without a
    GPU the program runs as JAX operations, slowly.
    """
    from jax.experimental import pallas as pl

    interpret = not is_usable()
    *batch, m, n = first.shape
    totals = first.reshape(-1, m, n)
    count = totals.shape[0]
    tile = _choose(tiles, count, m, n)

    def filled(x: Array, axis: int, unit: int) -> Array:
        fill = [(0, 0)] * 3
        fill[axis] = (0, -x.shape[axis] % unit)
        return jnp.pad(x, fill)

    def joined(x: Array, axis_length: int, unit: int) -> Array:
        x = jnp.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(count, -1, axis_length)
        return filled(x, 2, unit)

    left = [joined(jnp.moveaxis(x[..., 0], 0, -2), m, tile.rows) for x in columns]
    right = [joined(y, n, tile.columns) for y in rows]
    totals = filled(filled(totals, 1, tile.rows), 2, tile.columns)
    read = Read(
        column=lambda ref, k: ref[k, :][:, None],
        row=lambda ref, k: ref[k, :][None, :],
        truncate=(lambda x: x.astype(jnp.int32)) if interpret else _truncate,
    )

    def body(*refs: Any) -> None:
        *operands, start, result = refs
        x, y = operands[: len(left)], operands[len(left) :]
        result[...] = program(x, y, start[...], read)

    *operands, totals = vary_alike(*left, *right, totals)
    whole = pl.BlockSpec((None, tile.rows, tile.columns), lambda i, j, b: (b, i, j))
    parts = [pl.BlockSpec((None, x.shape[1], tile.rows), lambda i, j, b: (b, 0, i)) for x in left]
    parts += [
        pl.BlockSpec((None, y.shape[1], tile.columns), lambda i, j, b: (b, 0, j)) for y in right
    ]
    found = pl.pallas_call(
        body,
        out_shape=jax.eval_shape(lambda: totals),  # with the devices that it varies over
        grid=(totals.shape[1] // tile.rows, totals.shape[2] // tile.columns, count),
        in_specs=[*parts, whole],
        out_specs=whole,
        interpret=interpret,
        compiler_params=None if interpret else _parameters(tile),
    )(*operands, totals)
    result: Array = found[:, :m, :n].reshape(first.shape)
    return result


def _choose(tiles: Sequence[Tile], count: int, m: int, n: int) -> Tile:
    for tile in tiles:
        programs = count * -(-m // tile.rows) * -(-n // tile.columns)
        if programs >= _ENOUGH and tile.rows < 2 * m and tile.columns < 2 * n:
            return tile
    return tiles[-1]


def _parameters(tile: Tile) -> Any:
    from jax.experimental.pallas import triton

    return triton.CompilerParams(num_warps=tile.warps, num_stages=1)


def _truncate(x: Array) -> Array:
    """Convert with one instruction; JAX would first compare with the ends of int32's range."""
    from jax.experimental.pallas import triton

    shape = jax.ShapeDtypeStruct(x.shape, jnp.int32)  # type: ignore[no-untyped-call]
    (result,) = triton.elementwise_inline_asm(
        "cvt.rzi.s32.f32 $0, $1;",
        args=[jnp.asarray(x)],
        constraints="=r,f",
        pack=1,
        result_shape_dtypes=[shape],
    )
    return result


def in_chunks(count: int, body: Callable[[Any, Any], Any], state: Any) -> Any:
    """Repeat as `_loops.repeat` does, with some steps at a time in the program text.

    With all of them there a compiler loads too much ahead, with one it waits for each load.
    """
    size = math.gcd(count, _CHUNK)

    def chunk(number: Any, state: Any) -> Any:
        return unrolled(size, lambda k, state: body(number * size + k, state), state)

    return repeat(count // size, chunk, state)
