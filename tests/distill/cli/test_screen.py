"""The text that commands print for people: none is cut, and untrusted text has no effect."""

import io
import json
import os
import subprocess
import sys

import pytest

from curation.printable import printable
from curation.progress import spoken
from distill.cli import display as displays
from distill.cli.display import Display, amount, counted, percent, speed
from distill.cli.screen import printable_log, size_of, wrap
from distill.cli.tables import table_lines

HOSTILE = [
    "in\u2060vis\u00adible\U000e0041",
    "[/x].jpg",
    "[bold red]x[/]",
    "[/__w/pytorch/gloo/transport/tcp/pair.cc:561] Connection closed",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31mred",
    "a\nerror: b",
    "a\r\tb",
    "\u202egpj.exe",
    "\udcff.jpg",
    "\x00",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_untrusted_text_becomes_one_printable_line(text):
    shown = printable(text)
    assert shown.encode()  # no lone surrogates
    assert all(character.isprintable() for character in shown)
    assert printable(shown) == shown


def test_words_of_other_languages_are_unchanged():
    for text in ("Zoë Müller", "李雷", "محمد", "café ☕", "C:\\new"):
        assert printable(text) == text


def test_a_log_keeps_its_lines_and_tabs_and_loses_its_colours():
    assert printable_log(b"\x1b[32mINFO\x1b[0m\tall is well\r\n") == "INFO\tall is well"
    assert printable_log(b"10%\r20%\r30%") == "10%\n20%\n30%"
    assert printable_log(b"\x1b]0;title\x07\xff") == "\\x1b]0;title\\x07\ufffd"


def test_sentences_wrap_and_commands_stay_whole():
    lines = wrap("see it with `distill show a-long-name` or " + "x" * 50, 32, "  ")
    assert lines == ["see it with", "  `distill show a-long-name` or", "  " + "x" * 50]


NAMES = ["name", "images", "note"]
ROWS = [
    ["train.lmdb", "5,822,653", ""],
    ["a/rather/long/path/to/some/place/long-tail-cut.view", "12", "what was done to it " * 8],
    ["[/x].jpg", "1", "\x1b[31m"],
    ["李雷", "4", "wide"],
]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_table_has_every_word_whole_at_any_width(width):
    lines = table_lines(NAMES, ROWS, width, ["images"])
    words = {word for row in ROWS for cell in row for word in printable(cell).split()}
    assert words <= {word for line in lines for word in line.split()}
    assert "…" not in "".join(lines)
    widest = max(map(size_of, lines))
    assert widest <= max(width, max(map(size_of, words)) + 10)


def test_a_table_that_fits_has_a_line_for_each_row():
    lines = table_lines(["name", "images"], [["a", "5"], ["b", "1,234"]], 80, ["images"])
    assert lines == ["name  images", "----  ------", "a          5", "b      1,234"]


def test_a_long_first_column_is_above_the_others():
    rows = [["n" * 70, "5", "6"], ["m", "7", "8"]]
    lines = table_lines(["name", "a", "b"], rows, 72)
    assert lines == ["name", "  a  b", "  -  -", "n" * 70, "  5  6", "m", "  7  8"]


def test_colours_apply_to_whole_cells():
    lines = table_lines(["state"], [["done"], ["undone"]], 80, colours={"done": "\x1b[32m"})
    assert lines[2:] == ["\x1b[32mdone  \x1b[0m", "undone"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (counted(0, 5000, "images", None), ["0 of 5,000 images"]),
        (counted(1200, 5000, "images", 350.0),
         ["1,200 of 5,000 images", "350/s", "about 11 s left"]),
        (counted(10, 100, "sets", 0.02),
         ["10 of 100 sets", "1.2 a minute", "about 1 h 15 min left"]),
        (counted(5e8, 4e9, "bytes", 1e6), ["500 MB of 4.0 GB", "1 MB/s", "about 58 min left"]),
        (counted(1, 2, "", 1.0), ["about 1 s left"]),
    ],
)  # fmt: skip
def test_progress_in_words(told, words):
    assert told == words


def test_a_speed_above_nothing_is_never_zero():
    for per_second in (1e-4, 0.004, 0.4, 0.99, 1.4, 9.99, 10, 1e6):
        assert float(speed(per_second, "images").split("/")[0].split(" ")[0].replace(",", ""))
    assert speed(0.004, "images") == "14 an hour"


def test_durations_have_readable_units():
    told = [spoken(seconds) for seconds in (7, 59, 61, 3599, 12_000, 500_000)]
    assert told == ["7 s", "59 s", "1 min", "1 h", "3 h 20 min", "6 days"]
    assert (percent(999, 1000), percent(1000, 1000), percent(5, 0)) == ("99%", "100%", "")
    assert amount(1234567, "images") == "1,234,567"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise AssertionError("COLUMNS says how wide it is")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test advances."""
    times = [0.0]
    return times, lambda: times[0]


def test_a_file_gets_one_line_per_minute(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", output := io.StringIO())
    times, now = clock
    shown = Display(now)
    shown.begin()
    for second in range(0, 601, 5):
        times[0] = second
        shown.show("embed", second, 600, ["told"])
    lines = output.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "embed: 10%, told"


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_terminal_is_redrawn_and_left_clean(monkeypatch, clock, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", output := Terminal())
    times, now = clock
    shown = Display(now)
    for second in range(3):
        times[0] = second
        shown.show("embed\x1b[31m", second, 3, ["1,234,567 of 5,822,653 images", "[/x] 3"])
    frame = output.getvalue().rsplit("\x1b[J", 1)[-1]
    assert max(map(len, frame.split("\n"))) < columns or columns == 20
    assert "1,234,567" in frame
    assert "\x1b" not in frame
    shown.say("embed: done")
    assert output.getvalue().endswith("\x1b[Jembed: done\n")


def test_silent_work_is_shown_too(monkeypatch):
    from distill.cli import bars

    monkeypatch.setattr(bars, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(displays, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(sys, "stderr", output := io.StringIO())
    with bars.watch("mixed", ""):
        deadline = displays.time.monotonic() + 10
        while output.getvalue().count("mixed: at work for") < 2:
            assert displays.time.monotonic() < deadline
            displays.time.sleep(0.01)
    assert output.getvalue().splitlines()[-1].startswith("mixed: done in ")


def test_each_phase_of_work_has_its_title_and_progress(monkeypatch):
    from distill.cli import bars

    monkeypatch.setattr(displays, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", output := io.StringIO())
    with bars.watch_phases(("embed", "compare"), "images") as (embed, compare):
        embed(5, 10)
        compare(7, 70)
        embed(10, 10)
    shown = output.getvalue().splitlines()
    assert [line.partition(" images")[0] for line in shown[1:-1]] == [
        "embed: 50%, 5 of 10",
        "compare: 10%, 7 of 70",
        "embed: 100%, 10 of 10",
    ]
    assert shown[-1].startswith("embed: 10 images in ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_output_can_be_written(tmp_path, encoding):
    folder = tmp_path / "ws" / "datasets" / os.fsdecode(b"\xff\xc3\xa9\xe6\x9d\x8e")
    folder.mkdir(parents=True)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "distill.cli.curate", "inspect", str(folder)]
    ran = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert ran.returncode == 1
    assert ran.stderr.decode(encoding).startswith("error: ")
    assert "Traceback" not in ran.stderr.decode(encoding)


def test_json_has_the_whole_untrusted_text_escaped(capsys):
    from distill.cli.common import print_json

    print_json({"not": [float("nan"), float("inf")]})
    assert json.loads(capsys.readouterr().out) == {"not": [None, None]}
    print_json({text: text for text in HOSTILE} | {"Zoë": "李雷"})
    shown = capsys.readouterr().out
    assert "李雷" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert json.loads(shown) == {text: text for text in HOSTILE} | {"Zoë": "李雷"}


def test_the_names_of_columns_are_made_printable_too():
    """The column names of an evaluation come from a record that a job wrote."""
    for width in (80, 20):
        lines = table_lines(
            ["set", "FAR \x1b]0;x\x07"], [["lfw", "0.7"]], width, ["FAR \x1b]0;x\x07"]
        )
        assert "\x1b" not in "".join(lines)
        assert r"\x1b]0;x\x07" in "".join(lines)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"], ids=["out", "err", "all"])
def test_a_closed_stream_changes_nothing_else(tmp_path, closed):
    command = f"{sys.executable} -m distill status --workspace {tmp_path} {closed}"
    told = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert told.returncode == 0
    assert "Traceback" not in told.stderr
    assert list(tmp_path.iterdir()) == []
