"""Reviews as ids of words."""

from pathlib import Path

import pytest

from precsim.training.data import sentences
from tests.training.data.small_files import write_imdb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_imdb(tmp_path)
    return tmp_path


def test_ids_by_frequency_then_alphabet_with_padding_in_front(folder: Path) -> None:
    data = sentences.load(str(folder))
    # good 71, bad 3, a 2, film 2, then in the alphabet's order: don't, end, it, see
    assert data.ids == (10,)
    assert data.classes == 2
    assert data.train_targets.tolist() == [0, 0, 1, 1]
    assert data.train_inputs.shape == (4, sentences.LENGTH)
    assert data.train_inputs[0, -6:].tolist() == [0, 4, 3, 5, 3, 3]  # a bad film bad bad
    assert data.train_inputs[1, -4:].tolist() == [0, 6, 9, 8]  # don't see it
    assert data.train_inputs[3].tolist() == [2] * 63 + [7]  # the last 64 words
    assert data.test_inputs[0, -4:].tolist() == [0, 3, 1, 1]  # two words are unknown
    assert not data.test_inputs[1].any()


def test_the_vocabulary_has_a_bound(folder: Path) -> None:
    many = " ".join(f"w{k}" for k in range(2 * sentences.VOCABULARY))
    (folder / "train" / "pos" / "2_8.txt").write_text(many)
    assert sentences.load(str(folder)).ids == (sentences.VOCABULARY,)


def test_refused_in_one_line(folder: Path) -> None:
    place = folder / "train" / "pos"
    (place / "2_8.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"^[^\n]*2_8\.txt is not UTF-8: invalid start byte$"):
        sentences.load(str(folder))
    (place / "2_8.txt").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(ValueError, match=r"^[^\n]*2_8\.txt has more than 1048576 bytes"):
        sentences.load(str(folder))
    for file in place.iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"^[^\n]*pos has no reviews; allowed are files \*\.txt$"):
        sentences.load(str(folder))
    place.rmdir()
    with pytest.raises(FileNotFoundError, match=r"^--data-dir has no folder train/pos \(looked"):
        sentences.load(str(folder))


def test_reviews_without_words(folder: Path) -> None:
    for file in (folder / "train").rglob("*.txt"):
        file.write_text("!?")
    with pytest.raises(ValueError, match=r"^the reviews in [^\n]*train have no words$"):
        sentences.load(str(folder))
