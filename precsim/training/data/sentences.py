"""Reviews of films, as words, with the opinion as class: IMDb."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from precsim.training.data.dataset import Data
from precsim.training.data.files import MOST_BYTES, files_of, folder_of, named, read_text

LENGTH = 64
"""Words of a review that a model sees: the last ones."""
VOCABULARY = 5000
"""Ids at most: 0 for padding, 1 for unknown words, and one per known word."""
PADDING, UNKNOWN = 0, 1
OPINIONS = ("neg", "pos")
_MOST_OF_REVIEW = 2**20
_WORD = re.compile(r"[a-z0-9']+")


def load(data_dir: str) -> Data:
    """Read ``train/pos/*.txt``, ``train/neg/*.txt`` and the same in ``test``; targets 0 and 1.

    A word is a run of letters a to z, digits and apostrophes, in lower case. Known are the 4,998
    words that are most frequent in the reviews for training; of equally frequent ones those that
    come first in the alphabet. An example is the ids of the last 64 words, int32, with padding in
    front. Negative reviews come first, in the order of their files' names. The folders may be in
    ``aclImdb``, which the published archive unpacks to. Source: A. Maas et al., Learning Word
    Vectors for Sentiment Analysis, ACL 2011.
    """
    folder = folder_of(data_dir, "aclImdb")
    counts: Counter[str] = Counter()
    train, targets = [], []
    for opinion, words in _reviews(folder / "train"):
        counts.update(words)
        train.append(words[-LENGTH:])
        targets.append(opinion)
    if not counts:
        raise ValueError(f"the reviews in {named(folder / 'train')} have no words")
    known = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - 2]
    ids = {word: UNKNOWN + 1 + k for k, word in enumerate(known)}
    test, test_targets = [], []
    for opinion, words in _reviews(folder / "test"):
        test.append(words[-LENGTH:])
        test_targets.append(opinion)
    return Data(
        _tokens(train, ids),
        np.array(targets, np.int32),
        _tokens(test, ids),
        np.array(test_targets, np.int32),
        len(OPINIONS),
        (UNKNOWN + 1 + len(ids),),
    )


def _reviews(part: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the class and the words of each review."""
    total = 0
    for opinion, name in enumerate(OPINIONS):
        if not (part / name).is_dir():
            raise FileNotFoundError(
                f"--data-dir has no folder {part.name}/{name} (looked for {named(part / name)})"
            )
        files = [path for path in files_of(part / name) if path.suffix == ".txt"]
        if not files:
            raise ValueError(f"{named(part / name)} has no reviews; allowed are files *.txt")
        for path in files:
            text = read_text(path, _MOST_OF_REVIEW)
            total += len(text)
            if total > MOST_BYTES:
                raise ValueError(f"{named(part)} has more than {MOST_BYTES} characters of reviews")
            yield opinion, _WORD.findall(text.lower().replace("<br />", " "))


def _tokens(reviews: list[list[str]], ids: dict[str, int]) -> np.ndarray:
    tokens = np.full((len(reviews), LENGTH), PADDING, np.int32)
    for row, words in zip(tokens, reviews, strict=True):
        if words:
            row[-len(words) :] = [ids.get(word, UNKNOWN) for word in words]
    return tokens
