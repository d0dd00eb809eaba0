"""Pieces of stored tensors: every element once, in any order of axes, no block and no tile cut."""

from pathlib import Path

import numpy as np
import pytest

from precsim.analysis.files import stored
from precsim.analysis.files.finding import open_tensors
from precsim.analysis.files.stored import Granule, StoredTensor

SHAPES = [(), (1,), (50,), (7, 9), (3, 5, 8), (2, 3, 4, 5), (0, 3), (4, 0), (1, 64)]


def pieces_of(path: Path, granule: Granule) -> tuple[StoredTensor, list[np.ndarray]]:
    with open_tensors(path) as tensors:
        (tensor,) = tensors
        assert isinstance(tensor, StoredTensor)
        return tensor, list(tensor.pieces(granule))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("granule", [Granule(), Granule(1, 4), Granule(2, 3)])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_pieces_hold_every_element_once(
    shape: tuple[int, ...],
    order: str,
    granule: Granule,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored, "PIECE", 12)
    x = np.asarray(np.arange(float(np.prod(shape))).reshape(shape), order=order)  # type: ignore[call-overload]
    path = tmp_path / f"x.{kind}"
    np.save(path, x) if kind == "npy" else np.savez_compressed(path, x=x)
    tensor, pieces = pieces_of(path, granule)
    assert tensor.shape == shape
    found = [piece.reshape(-1) for piece in pieces]
    assert sorted(np.concatenate([*found, []])) == list(range(x.size))
    rows, elements = (1, 1, *shape)[-2:]
    for piece in pieces:
        least = min(rows, granule.rows) * min(elements, granule.elements)
        assert piece.size <= max(12, least)
        # A piece is a part of rows: neighbours along its last axis are neighbours in the tensor.
        first = np.unravel_index(np.asarray(piece[0, 0, 0], int), (1, *shape))
        assert first[-1] % granule.elements == 0
        if len(shape) > 1:
            assert first[-2] % granule.rows == 0
        if piece.shape[2] > 1 and shape:
            assert np.all(np.diff(piece, axis=2) == 1)
        if piece.shape[1] > 1:
            assert np.all(np.diff(piece, axis=1) == shape[-1])
        assert piece.shape[2] % granule.elements == 0 or first[-1] + piece.shape[2] == elements


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f2", "<f2", ">f8"])
def test_byte_orders(dtype: str, tmp_path: Path) -> None:
    x = np.array([1.0, -2.5, 0.125], dtype)
    np.save(tmp_path / "x.npy", x)
    _, (piece,) = pieces_of(tmp_path / "x.npy", Granule())
    assert piece.tolist() == [[[1.0, -2.5, 0.125]]]


def test_too_much_in_one_piece_is_refused(tmp_path: Path) -> None:
    """Blocks along the slow axis of a Fortran file, none of which fits."""
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((1 << 10, 1 << 14), np.float16, order="F"))
    with pytest.raises(ValueError, match=r"16777216 of its elements .* allowed are 8388608"):
        pieces_of(path, Granule(1 << 10, 1 << 14))


def test_large_runs_are_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((3, 1 << 20), np.float16))
    _, pieces = pieces_of(path, Granule(1, 48))
    assert max(piece.size for piece in pieces) <= stored.PIECE
    assert sum(piece.size for piece in pieces) == 3 << 20
    ends = {piece.shape[2] for piece in pieces if piece.shape[2] % 48}
    assert ends == {(1 << 20) % (stored.PIECE // 48 * 48)}
