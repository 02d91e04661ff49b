"""The table of decisions: written, edited in whatever program, and read with care."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from curation.noise.decisions import (
    COLUMNS,
    Decision,
    override_decisions,
    read_decisions,
    write_decisions,
)

DIGEST = "a1" * 32
HEAD = f"# decisions on the images {DIGEST}\n" + "\t".join(COLUMNS) + "\n"
LINE = ["yes", "move", "7", "2", "5", "misplaced", "0.9900", "a note"]

index = st.integers(0, 10**15 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
score = st.integers(0, 10_000).map(lambda n: n / 10_000)


def decision(action: str, image: bool, into: bool) -> st.SearchStrategy[Decision]:
    return st.builds(
        Decision,
        st.just(action),
        index,
        index if image else st.none(),
        st.integers(1, 10**15 - 1) if into else st.none(),
        st.sampled_from(["misplaced", "mixed", ""]),
        score,
        text,
        st.booleans(),
    )


decisions = st.one_of(
    decision("drop", True, False),
    decision("drop-identity", False, False),
    decision("move", True, True),
    decision("split", True, True),
    decision("merge", False, True),
)


def table(tmp_path: Path, *rows: list[str], head: str = HEAD, end: str = "\n") -> Path:
    path = tmp_path / "decisions.tsv"
    path.write_bytes((head + "".join("\t".join(row) + "\n" for row in rows)).replace("\n", end)
                     .encode())  # fmt: skip
    return path


def changed(column: str, value: str) -> list[str]:
    row = list(LINE)
    row[COLUMNS.index(column)] = value
    return row


@given(st.lists(decisions, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, written: list[Decision]
) -> None:
    path = tmp_path_factory.mktemp("table") / "decisions.tsv"
    write_decisions(path, DIGEST, written)
    read = read_decisions(path, DIGEST)
    assert [{**vars(one), "note": ""} for one in read] == [
        {**vars(one), "note": ""} for one in written
    ]
    # White space in a note is no more than a blank.
    assert [one.note for one in read] == [" ".join(one.note.split()) for one in written]


def test_the_file_can_be_read_by_a_person(tmp_path: Path) -> None:
    path = tmp_path / "decisions.tsv"
    write_decisions(path, DIGEST, [Decision("move", 2, 7, 5, "misplaced", 0.99, "a\tnote")])
    assert path.read_text() == HEAD + "yes\tmove\t7\t2\t5\tmisplaced\t0.9900\ta note\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_spreadsheets_may_have_saved_it(tmp_path: Path, begin: str, end: str) -> None:
    path = table(tmp_path, LINE, head=begin + HEAD, end=end)
    assert read_decisions(path, DIGEST) == [
        Decision("move", 2, 7, 5, "misplaced", 0.99, "a note", True)
    ]


def test_spreadsheets_fill_lines_with_tabs_and_leave_blank_ones(tmp_path: Path) -> None:
    head = HEAD.replace(DIGEST, DIGEST + "\t" * 7)
    path = table(tmp_path, LINE, [""] * 8, [""], changed("apply", "no"), head=head)
    assert [one.apply for one in read_decisions(path, DIGEST)] == [True, False]


def test_blanks_around_cells_and_missing_last_columns_do_not_matter(tmp_path: Path) -> None:
    path = table(tmp_path, [f" {cell} " for cell in LINE], LINE[:5])
    first, second = read_decisions(path, DIGEST)
    assert (first.action, first.image, first.note) == ("move", 7, "a note")
    assert (second.check, second.score, second.note) == ("", 1.0, "")


def test_cells_that_an_action_has_no_use_for_are_not_read(tmp_path: Path) -> None:
    path = table(tmp_path, ["yes", "merge", "ignored", "2", "5"], ["no", "drop", "7", "2", "-"])
    merge, drop = read_decisions(path, DIGEST)
    assert (merge.image, merge.into) == (None, 5)
    assert (drop.image, drop.into) == (7, None)


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("apply", "maybe", "yes, no"),
        ("apply", "", "yes, no"),
        ("action", "delete", "drop, drop-identity, move, split, merge"),
        ("image", "", "an index from 0"),
        ("image", "-1", "an index from 0"),
        ("image", "7.0", "an index from 0"),
        ("image", "٧", "an index from 0"),
        ("image", "9" * 16, "an index from 0"),
        ("identity", "x", "an index from 0"),
        ("into", "", "an index from 0"),
        ("score", "high", "a number from 0 to 1"),
        ("score", "nan", "a number from 0 to 1"),
        ("score", "1.5", "a number from 0 to 1"),
        ("score", "0,99", "a number from 0 to 1"),
    ],
)
def test_a_wrong_cell_is_named_with_line_column_and_what_is_allowed(
    tmp_path: Path, column: str, value: str, allowed: str
) -> None:
    path = table(tmp_path, LINE, changed(column, value))
    message = f"{path} line 4: {column} is {value!r}; allowed: {allowed}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_decisions(path, DIGEST)


def test_parts_of_a_split_count_from_1(tmp_path: Path) -> None:
    path = table(tmp_path, ["yes", "split", "7", "2", "0"])
    with pytest.raises(UserError, match=r"line 3: into is '0'; allowed: a part from 1"):
        read_decisions(path, DIGEST)


def test_a_line_with_few_columns_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, LINE, ["yes", "drop", "7"])
    with pytest.raises(UserError, match=r"line 4: 3 columns; 8 are wanted"):
        read_decisions(path, DIGEST)


@pytest.mark.parametrize("content", ["", "a\tb\n", "apply\taction\n", "\x00\x01"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: str) -> None:
    path = table(tmp_path, head=content)
    with pytest.raises(UserError, match=r"line 1: .*no table of decisions"):
        read_decisions(path, DIGEST)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, head=HEAD.replace("image\t", "picture\t"))
    with pytest.raises(UserError, match=r"line 2: the columns are to be apply, action, image"):
        read_decisions(path, DIGEST)


def test_a_table_for_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"decides on other images \(digest a1a1a1a1a1a1, .*bbb"):
        read_decisions(table(tmp_path, LINE), "b" * 64)


def test_a_missing_table_and_one_that_is_no_text_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; `curate check` writes it"):
        read_decisions(tmp_path / "none.tsv", DIGEST)
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary.tsv", tmp_path):
        with pytest.raises(UserError, match=r"is no text|is a directory"):
            read_decisions(path, DIGEST)


@given(st.binary(max_size=80))
def test_whatever_follows_the_head_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "decisions.tsv"
    path.write_bytes(HEAD.encode() + rest)
    with contextlib.suppress(UserError):
        assert len(read_decisions(path, DIGEST)) <= len(rest)


def test_a_huge_cell_is_no_accident(tmp_path: Path) -> None:
    path = table(tmp_path, changed("note", "x" * 200_000))
    assert len(read_decisions(path, DIGEST)[0].note) == 200_000


def test_an_override_replaces_what_is_about_the_same_image_or_identity() -> None:
    table = [
        Decision("drop", 0, 3),
        Decision("move", 0, 4, 2),
        Decision("merge", 0, into=1),
        Decision("merge", 5, into=6),
    ]
    changes = [Decision("drop", 0, 4), Decision("merge", 5, into=6, apply=False)]
    assert override_decisions(table, changes) == [table[0], table[2], *changes]


def test_an_override_adds_what_is_new_and_an_empty_one_changes_nothing() -> None:
    table = [Decision("drop", 0, 3)]
    assert override_decisions(table, []) == table
    added = Decision("drop-identity", 9)
    assert override_decisions(table, [added]) == [*table, added]
