"""The table of decisions: written, edited in any program, and read strictly."""

import contextlib
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from curation.noise.decisions import (
    COLUMNS,
    TITLE,
    Decision,
    decisions_with,
    read_decisions,
    write_decisions,
)

DIGEST = "a1" * 32
HEAD = f"# decisions on the images {DIGEST}\n" + "\t".join(COLUMNS) + "\n"
LINE = ["yes", "move", "7", "2", "5", "misplaced", "0.9900", "a note"]

TABLE_IN_DOCS = re.compile(rf"^```(?:text)?\n({TITLE} *(\S+)\n.*?)```$", re.MULTILINE | re.DOTALL)
PAGES = Path(__file__).parents[3] / "docs"

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
    assert [replace(one, note="") for one in read] == [
        replace(one, note="") for one in dict.fromkeys(written)
    ]
    # White space in a note is reduced to single blanks.
    notes = [" ".join(one.note.split()) for one in dict.fromkeys(written)]
    assert [one.note for one in read] == notes


def test_the_file_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "decisions.tsv"
    move = Decision("move", 2, 7, 5, "misplaced", 0.99, "a\tnote", findings="misplaced-0f")
    write_decisions(path, DIGEST, [move])
    line = "yes\tmove\t7\t2\t5\tmisplaced\t0.9900\ta note\tmisplaced-0f\n"
    assert path.read_text() == HEAD + line


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_marks_and_line_ends_of_spreadsheets_are_accepted(
    tmp_path: Path, begin: str, end: str
) -> None:
    path = table(tmp_path, LINE, head=begin + HEAD, end=end)
    assert read_decisions(path, DIGEST) == [
        Decision("move", 2, 7, 5, "misplaced", 0.99, "a note", True)
    ]


def test_trailing_tabs_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    head = HEAD.replace(DIGEST, DIGEST + "\t" * 7)
    path = table(tmp_path, LINE, [""] * 8, [""], changed("apply", "no"), head=head)
    assert [one.apply for one in read_decisions(path, DIGEST)] == [True, False]


def test_spaces_and_missing_last_columns_are_accepted(tmp_path: Path) -> None:
    path = table(tmp_path, [f" {cell} " for cell in LINE], LINE[:5])
    first, second = read_decisions(path, DIGEST)
    assert (first.action, first.image, first.note) == ("move", 7, "a note")
    assert (second.check, second.score, second.note) == ("", 1.0, "")


def test_unused_cells_of_an_action_are_ignored(tmp_path: Path) -> None:
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
def test_a_wrong_cell_is_named_with_line_and_column(
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
    with pytest.raises(UserError, match=r"line 4: identity is ''; allowed"):
        read_decisions(path, DIGEST)


@pytest.mark.parametrize("content", ["", "a\tb\n", "apply\taction\n", "\x00\x01"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = table(tmp_path, head=content)
    with pytest.raises(UserError, match="is not a table of decisions"):
        read_decisions(path, DIGEST)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, head=HEAD.replace("image\t", "picture\t"))
    with pytest.raises(
        UserError,
        match=r"line 2: columns are missing: image; expected",
    ):
        read_decisions(path, DIGEST)


def test_a_table_for_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is about other images \(digest a1a1a1a1a1a1, .*bbb"):
        read_decisions(table(tmp_path, LINE), "b" * 64)


def test_missing_and_binary_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; `curate check`, `curate cluster` and "):
        read_decisions(tmp_path / "none.tsv", DIGEST)
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary.tsv", tmp_path):
        with pytest.raises(UserError, match=r"is not UTF-16 text|is a directory"):
            read_decisions(path, DIGEST)


@given(st.binary(max_size=80))
def test_any_rows_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "decisions.tsv"
    path.write_bytes(HEAD.encode() + rest)
    with contextlib.suppress(UserError):
        assert len(read_decisions(path, DIGEST)) <= len(rest)


@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_a_huge_cell_is_named_with_its_line(tmp_path: Path, size: int) -> None:
    path = table(tmp_path, LINE, changed("note", "x" * size))
    with pytest.raises(UserError, match=r"line 4.*(field larger|more than)"):
        read_decisions(path, DIGEST)


def as_spreadsheets_save(delimiter: str) -> str:
    """Commas or semicolons between cells, quoted where needed, with empty cells filled in."""
    title, columns = HEAD.splitlines()
    line = delimiter.join([*LINE[:7], f'"one{delimiter} two ""three"""', ""])
    return "\r\n".join([title + delimiter * 8, columns.replace("\t", delimiter), line, ""])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_that_a_spreadsheet_saved_are_read(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(as_spreadsheets_save(delimiter).encode(encoding))
    (read,) = read_decisions(path, DIGEST)
    assert (read.action, read.image, read.into) == ("move", 7, 5)
    assert read.note == f'one{delimiter} two "three"'


def test_columns_may_be_reordered_with_others_between(tmp_path: Path) -> None:
    columns = "into\tremark\tIdentity\timage\taction\tapply"
    path = table(
        tmp_path,
        ["5", "sure", "2", "7", "move", "Yes"],
        ["", "", "2", "8", "drop", "no"],
        head=f"# decisions on the images {DIGEST}\n{columns}\n",
    )
    move, drop = read_decisions(path, DIGEST)
    assert (move.image, move.identity, move.into, move.apply) == (7, 2, 5, True)
    assert (drop.image, drop.into, drop.apply) == (8, None, False)


def test_a_note_with_quotes_survives(tmp_path: Path) -> None:
    path = tmp_path / "decisions.tsv"
    written = [Decision("drop", 0, 1, note='"quoted'), Decision("drop", 0, 2, note='5" wide')]
    write_decisions(path, DIGEST, written)
    assert read_decisions(path, DIGEST) == written


def test_joined_tables_are_merged_without_repeated_lines(
    tmp_path: Path,
) -> None:
    one = table(tmp_path, LINE, changed("image", "8")).read_text()
    path = tmp_path / "both.tsv"
    path.write_text(one + "\n" + one)
    assert [line.image for line in read_decisions(path, DIGEST)] == [7, 8]


def test_a_joined_table_of_other_images_is_named_with_its_line(tmp_path: Path) -> None:
    path = table(tmp_path, LINE)
    path.write_text(path.read_text() + HEAD.replace(DIGEST, "b2" * 32))
    with pytest.raises(UserError, match=r"line 4 is about other images"):
        read_decisions(path, DIGEST)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ('yes\tdrop\t7\t2\t\t\t\t"no end\n', r"line 3: unexpected end of data"),
        ('yes\tdrop\t7\t2\t\t\t\t"a"b\n', r"line 3: .*expected after"),
        ("yes\tdrop\t7\t2\t\t\t1\ta\t\tb\n", r"line 3: 10 cells under 9 columns"),
        ("yes\tdrop\t7\t2\t\t\t1\ta\tsome words\n", r"line 3: findings is 'some words'"),
        ('yes\tdrop\t7\t2\t\t\t1\ta\t"mixed\nx-0f"\n', r"line 3: findings is 'mixed\\nx-0f'"),
        ("yes\tdrop\t7\t2\t\t\t1\ta\tmixed-\n", r"line 3: findings is 'mixed-'"),
        ("yes\tdrop\t7\t2\t\t\t1\ta\t../mixed-0f\n", r"line 3: findings is '../mixed-0f'"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, rest: str, message: str) -> None:
    path = tmp_path / "broken.tsv"
    path.write_text(HEAD + rest)
    with pytest.raises(UserError, match=message):
        read_decisions(path, DIGEST)


def test_a_spreadsheet_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "decisions.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(UserError, match="zip archive, not a table of decisions"):
        read_decisions(path, DIGEST)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(UserError, match="named pipe"):
        read_decisions(tmp_path / "pipe.tsv", DIGEST)


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        pytest.param("formats.md", 3, id="formats"),
        pytest.param("tutorials/clean-in-an-hour.md", 2, id="tutorial"),
    ],
)
def test_the_tables_in_the_docs_are_tables(tmp_path: Path, page: str, lines: int) -> None:
    """What ``curate clean`` reads, with all columns in the order in which they are written."""
    found = TABLE_IN_DOCS.findall((PAGES / page).read_text())
    assert len(found) == 1
    ((shown, digest),) = found
    assert shown.splitlines()[1].split("\t") == list(COLUMNS)
    path = tmp_path / "decisions.tsv"
    path.write_text(shown)
    assert len(read_decisions(path, digest)) == lines


def test_a_table_appears_only_with_what_it_belongs_to(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        decisions_with(tmp_path / "a.tsv", DIGEST, [Decision("merge", 1, into=0)]),
    ):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with decisions_with(tmp_path / "a.tsv", DIGEST, [Decision("merge", 1, into=0)]):
        assert not (tmp_path / "a.tsv").exists()
    assert len(read_decisions(tmp_path / "a.tsv", DIGEST)) == 1
