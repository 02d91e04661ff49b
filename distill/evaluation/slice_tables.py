"""Tables that assign the images or identities of a set to groups: pose, age, sex, camera ...

The first row names the columns: ``identity`` (the label in the source) or ``image`` (its index in
the set, from 0; 0 to 2P - 1 in a set of pairs), then one attribute per column. An empty cell
assigns no group. Rows of images and identities that the set does not have are ignored.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.pairs import VerificationPairs
from curation.text_files import SEPARATORS, split_line, text_lines
from curation.text_numbers import whole
from distill.evaluation.identify_sets import people_of

KEYS = ("identity", "image")
QUALITY = "quality"
"""The attribute of `quality`"""
NOWHERE = -1
MOST_GROUPS = 50
MOST_ATTRIBUTES = 100
_LONGEST_NAME = 80
_NO_ROW = -2


@dataclass(frozen=True)
class Attribute:
    """The ``groups`` of an attribute, and the group of each image, [N]; -1 for no group."""

    name: str
    groups: Sequence[str]
    of: np.ndarray = field(repr=False)


def read_slices(path: Path, each: VerificationPairs | ImageSet) -> list[Attribute]:
    """Read the attributes of a set's images from a table.

    Raises `UserError` with file and line if the table is invalid, names no image or identity of the
    set, or has a group without pairs.
    """
    lines = text_lines(path, "a table of groups")
    first = next(lines, None)
    if first is None:
        raise UserError(
            f"{path} is empty; its first row must name the columns, such as identity,sex,age"
        )
    separator, key, names = _heading(path, first[1])
    if key == "identity" and isinstance(each, VerificationPairs):
        raise UserError(
            f"{path}: {each.name} is a set of pairs without identities; name the first column image"
        )
    of_images = _keys(each, key)
    numbers, back = np.unique(of_images, return_inverse=True)
    rows = _rows(path, lines, separator, key, len(names))
    groups, placed = _grouped(path, rows, numbers, key, names)
    if (placed == _NO_ROW).all():
        raise UserError(f"{path}: no row has an {key} of {each.name}; allowed: {_range(of_images)}")
    placed[placed == _NO_ROW] = NOWHERE
    attributes = [
        _attribute(path, name, known, column[back])
        for name, known, column in zip(names, groups, placed.T, strict=True)
    ]
    for attribute in attributes:
        _check_pairs(path, attribute, each)
    return attributes


def quality(norms: np.ndarray) -> Attribute:
    """Tenths of the images by the norm [N] of their embedding, which reflects face quality."""
    rank = np.empty(len(norms), np.int64)
    rank[np.argsort(norms, kind="stable")] = np.arange(len(norms))
    names = ["lowest tenth", *(f"tenth {number}" for number in range(2, 10)), "highest tenth"]
    return Attribute(QUALITY, names, rank * 10 // max(len(norms), 1))


def why_no_quality(norms: np.ndarray) -> str | None:
    """Why norms [N] do not reflect quality: the embeddings were already normalised."""
    if len(norms) and np.allclose(norms, 1, rtol=0, atol=1e-4):
        return "all embeddings have the norm 1, which does not show quality; give unnormalised ones"
    return None


def _heading(path: Path, line: str) -> tuple[str, str, list[str]]:
    separator = next((each for each in SEPARATORS if each in line and each != " "), ",")
    key, *names = split_line(line, separator) or [""]
    if key.lower() not in KEYS:
        raise UserError(
            f"{path}: the first column is named {key[:40]!r}; allowed: {' or '.join(KEYS)}. The "
            "first row names the columns, such as identity,sex,age"
        )
    if not names or not all(names) or len(set(names)) < len(names):
        raise UserError(f"{path}: the first row must name every attribute once")
    if QUALITY in names:
        raise UserError(
            f"{path}: the first row names an attribute {QUALITY!r}, which is measured for every "
            "set; rename that column"
        )
    if any(len(name) > _LONGEST_NAME for name in names):
        raise UserError(
            f"{path}: the name of an attribute has more than {_LONGEST_NAME} characters"
        )
    if len(names) > MOST_ATTRIBUTES:
        raise UserError(
            f"{path}: the first row names {len(names):,} attributes; allowed: {MOST_ATTRIBUTES}"
        )
    return separator, key.lower(), names


def _number(word: str, where: str, key: str) -> int:
    found = whole(word)
    if found is None:
        raise UserError(f"{where}: {word[:40]!r} is not the number of an {key}")
    return found


def _keys(each: VerificationPairs | ImageSet, key: str) -> np.ndarray:
    if isinstance(each, VerificationPairs):
        return each.numbers
    return people_of(each) if key == "identity" else np.arange(len(each))


def _range(numbers: np.ndarray) -> str:
    return f"{numbers.min()} to {numbers.max()}"


def _rows(
    path: Path, lines: Iterator[tuple[int, str]], separator: str, key: str, columns: int
) -> Iterator[tuple[str, int, list[str]]]:
    """Where each row is, the number of its identity or image, and its groups."""
    for line, text in lines:
        words = split_line(text, separator)
        where = f"{path}: line {line}"
        if len(words) != 1 + columns:
            raise UserError(f"{where} has {len(words)} columns, the first row {1 + columns}")
        if any(len(word) > _LONGEST_NAME for word in words):
            raise UserError(
                f"{where}: the name of a group has more than {_LONGEST_NAME} characters"
            )
        yield where, _number(words[0], where, key), words[1:]


def _grouped(
    path: Path,
    rows: Iterator[tuple[str, int, list[str]]],
    numbers: np.ndarray,
    key: str,
    names: Sequence[str],
) -> tuple[list[dict[str, int]], np.ndarray]:
    """The groups of each attribute with their places, and the places of ``numbers``, int8 [K, A].

    ``numbers`` [K] ascend; rows of others are skipped, so a table of any length takes no memory.
    """
    ascending = array("q", numbers.tolist())
    placed = np.full((len(ascending), len(names)), _NO_ROW, np.int8)
    known = [{"": NOWHERE} for _ in names]
    for where, number, words in rows:
        at = bisect_left(ascending, number)
        if at == len(ascending) or ascending[at] != number:
            continue
        row = [its.setdefault(word, len(its) - 1) for its, word in zip(known, words, strict=True)]
        if max(row) >= MOST_GROUPS:
            name = names[row.index(max(row))]
            raise UserError(f"{path}: {name} has more than {MOST_GROUPS} groups")
        if placed[at, 0] != _NO_ROW and placed[at].tolist() != row:
            raise UserError(f"{where}: {key} {number} has other groups on an earlier line")
        placed[at] = row
    return known, placed


def _attribute(path: Path, name: str, known: dict[str, int], of: np.ndarray) -> Attribute:
    """The groups in alphabetical order; ``of`` [N] has their places in ``known``."""
    groups = sorted(known.keys() - {""})
    if not groups:
        raise UserError(f"{path}: {name} has no groups; allowed: 1 to {MOST_GROUPS}")
    order = np.full(len(groups) + 1, NOWHERE)  # its last is the place of no group, -1
    order[[known[group] for group in groups]] = np.arange(len(groups))
    return Attribute(name, groups, order[of])


def _check_pairs(path: Path, attribute: Attribute, each: VerificationPairs | ImageSet) -> None:
    """Raise ``UserError`` if a group has no pair, neither within itself nor with another group."""
    for number, group in enumerate(attribute.groups):
        members = attribute.of == number
        count = int(members.sum())
        if isinstance(each, VerificationPairs):
            has_pairs = bool(((attribute.of[::2] >= 0) & members[1::2]).any()) or bool(
                ((attribute.of[1::2] >= 0) & members[::2]).any()
            )
        else:
            has_pairs = count > 1
        if not has_pairs:
            raise UserError(
                f"{path}: the group {group!r} of {attribute.name} has {count} images of "
                f"{each.name} and no pair; leave its cells empty, or add images to it"
            )


def pairings(attribute: Attribute) -> list[tuple[int, int]]:
    """Each group with itself, then all pairs of different groups."""
    numbers = range(len(attribute.groups))
    return [(number, number) for number in numbers] + list(combinations(numbers, 2))
