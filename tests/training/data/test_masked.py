"""Masked characters."""

from pathlib import Path

import numpy as np

from precsim.training.data import masked, text
from tests.training.data.small_files import write_text


def test_five_of_32_characters_are_masked_and_to_be_restored(tmp_path: Path) -> None:
    write_text(tmp_path)
    data, whole = masked.load(0, str(tmp_path)), text.load(str(tmp_path))
    assert (data.classes, data.ids) == (96, (97,))
    parts = (
        (data.train_inputs, data.train_targets, whole.train_inputs),
        (data.test_inputs, data.test_targets, whole.test_inputs),
    )
    for inputs, targets, characters in parts:
        is_masked = inputs == masked.MASK
        assert (is_masked.sum(axis=1) == masked.MASKED).all()
        assert np.array_equal(np.where(is_masked, targets, inputs), characters)
        assert np.array_equal(targets == masked.NOT_COUNTED, ~is_masked)
    other = masked.load(1, str(tmp_path))
    assert (other.train_targets != data.train_targets).any()
    assert len(np.unique(np.nonzero(data.train_inputs == masked.MASK)[1])) == 32
