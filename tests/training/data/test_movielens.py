"""MovieLens: tabs, commas, and the published split."""

from pathlib import Path

import numpy as np
import pytest

from precsim.training.data import movielens
from tests.training.data.small_files import U_DATA, write_csv, write_u_data


def test_ids_are_numbered_and_a_fifth_is_for_testing(tmp_path: Path) -> None:
    (tmp_path / "ml-100k").mkdir()
    write_u_data(tmp_path / "ml-100k")
    data = movielens.load(0, str(tmp_path))
    assert (len(data.train_targets), len(data.test_targets)) == (5, 1)
    assert data.ids == (5, 5)  # users 22 166 186 196 244, items 51 242 302 346 377
    found = np.concatenate([data.train_inputs, data.test_inputs])
    stars = np.concatenate([data.train_targets, data.test_targets])
    expected = [(0, 0, 5), (0, 4, 1), (1, 3, 1), (2, 2, 3), (3, 1, 3), (4, 0, 2)]
    assert sorted(zip(*found.T.tolist(), stars.tolist(), strict=True)) == expected
    assert data.train_inputs.tolist() != movielens.load(1, str(tmp_path)).train_inputs.tolist()


def test_the_published_split_is_kept(tmp_path: Path) -> None:
    lines = U_DATA.splitlines(keepends=True)
    (tmp_path / "u1.base").write_text("".join(lines[:4]))
    (tmp_path / "u1.test").write_text("".join(lines[4:]))
    data = movielens.load(0, str(tmp_path))
    assert data.train_inputs.tolist() == [[3, 1], [2, 2], [0, 4], [4, 0]]
    assert data.test_inputs.tolist() == [[1, 3], [0, 0]]
    assert data.test_targets.tolist() == [1, 5]
    assert data.ids == (5, 5)


def test_halves_of_stars_in_csv(tmp_path: Path) -> None:
    write_csv(tmp_path)
    text = (tmp_path / "ratings.csv").read_text()
    (tmp_path / "ratings.csv").write_text(text.replace("\n", "\r\n"))
    data = movielens.load(0, str(tmp_path))
    stars = np.concatenate([data.train_targets, data.test_targets])
    assert sorted(stars.tolist()) == [1, 1, 2, 3.5, 3.5, 5]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("22\t377\t1\t", "22\t377\t9\t", r"has '22\\t377\\t9\\t878887116' in line 3; allowed are"),
        ("22\t377\t1\t", "22\t377\tnan\t", "in line 3; allowed are user, item, rating from 0.5"),
        ("22\t377\t1\t", "-22\t377\t1\t", "in line 3"),
        ("22\t377\t1\t", "22\t377\t", "in line 3"),
        ("22\t377\t1\t", "22\t99999999999\t1\t", "in line 3"),
        ("22\t377\t1\t", "22\t377\t1\t" + "9" * 10**6, "in line 3"),
        (U_DATA, "", "has no ratings"),
        (U_DATA, U_DATA.partition("\n")[0], "has 1 ratings; allowed are 5 or more"),
        ("\t", ",", "in line 1; allowed are user, item, rating from 0.5 to 5 and time, with tabs"),
    ],
)
def test_refused_in_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text(U_DATA.replace(old, new))
    with pytest.raises(ValueError, match=r"^[^\n]*u\.data [^\n]*$") as error:
        movielens.load(0, str(tmp_path))
    assert message.replace("\\\\", "\\") in str(error.value)
    assert len(str(error.value)) < 300 + len(str(tmp_path))


def test_another_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,item,stars\n1,2,3\n")
    message = "begins with 'user,item,stars'; allowed is 'userId,movieId,rating,timestamp'"
    with pytest.raises(ValueError, match=message):
        movielens.load(0, str(tmp_path))
