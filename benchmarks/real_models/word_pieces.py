"""The tokens of uncased BERT: words and punctuation, cut greedily into the longest pieces of a vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

_LONGEST_WORD = 100


def read_vocabulary(text: str) -> dict[str, int]:
    """Read a vocabulary file: one piece a line, numbered from 0."""
    return {piece: index for index, piece in enumerate(text.splitlines())}


def words(text: str) -> list[str]:
    """Split a text into lower-case words without accents and single punctuation marks.

    Example:
        >>> words("Café, don't!")
        ['cafe', ',', 'don', "'", 't', '!']
    """
    plain = (c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _is_mark(c) else c for c in plain).split()


def pieces(word: str, vocabulary: Mapping[str, int]) -> list[int]:
    """Cut one word into the longest known pieces, from its start on; `[UNK]` when that fails.

    Example:
        >>> pieces("playing", {"[UNK]": 0, "play": 1, "##ing": 2, "##i": 3})
        [1, 2]
    """
    found: list[int] = []
    start = 0
    while start < len(word) <= _LONGEST_WORD:
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            number = vocabulary.get(prefix + word[start:end])
            if number is not None:
                found.append(number)
                start = end
                break
        else:
            return [vocabulary["[UNK]"]]
    return found or [vocabulary["[UNK]"]]


def encode(text: str, vocabulary: Mapping[str, int], longest: int) -> list[int]:
    """Turn a text into at most `longest` token numbers between `[CLS]` and `[SEP]`."""
    inner = [number for word in words(text) for number in pieces(word, vocabulary)]
    return [vocabulary["[CLS]"], *inner[: longest - 2], vocabulary["[SEP]"]]


def _is_mark(character: str) -> bool:
    """Say whether a character stands alone: Unicode punctuation, or any ASCII sign that is no letter or digit."""
    if unicodedata.category(character).startswith("P"):
        return True
    return character.isascii() and character.isprintable() and not character.isalnum() and not character.isspace()
