"""What reads files, whatever is in them."""

import gzip
from pathlib import Path

import pytest

from precsim.training.data import files


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\rc\n")
    assert files.read_all(path, 7) == b"a\r\nb\rc\n"
    assert files.read_text(path) == "a\nb\nc\n"
    with pytest.raises(ValueError, match=r"a\.txt has more than 6 bytes, which are allowed"):
        files.read_all(path, 6)


def test_what_a_file_can_hold(tmp_path: Path) -> None:
    for ending, factor in ((".bin", 1), (".gz", files.MOST_DEFLATED)):
        path = tmp_path / f"a{ending}"
        path.write_bytes(bytes(10))
        assert files.most_in(path) == 10 * factor


def test_deflate_makes_no_more_of_a_byte() -> None:
    content = gzip.compress(bytes(2**22))
    assert 2**22 / len(content) < files.MOST_DEFLATED


def test_one_line_of_a_system_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*nowhere cannot be read: No such file or direc"):
        files.most_in(tmp_path / "nowhere")
    odd = tmp_path / "a\nb"
    with pytest.raises(ValueError, match=r"^'[^\n]*a\\nb' cannot be read: No such file"):
        files.listed(odd)


def test_tables_that_are_not_there() -> None:
    assert files.packaged_table("nothing.csv") is None
