"""Unknown names: the probable intended one, and the known ones."""

import pytest

from curation.suggestions import LINE, hint, listed, suggestions, unknown

NAMES = ["drawn-faces", "ms1m", "sample", "misplaced", "Retina_S", "faces/lfw"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sampel", "sample"),
        ("SAMPLE", "sample"),
        ("drawn_faces", "drawn-faces"),
        ("retina-s", "Retina_S"),
        ("mis", "misplaced"),
        ("displaced", "misplaced"),
        ("lfw", "faces/lfw"),
    ],
)
def test_a_typo_is_recognised(given, meant):
    assert suggestions(given, NAMES)[0] == meant
    assert f"did you mean {meant!r}" in str(unknown("thing", given, NAMES))


def test_all_names_are_listed_only_if_none_is_similar():
    assert "ms1m" not in hint("sampel", NAMES)
    assert hint("cake", NAMES[:3]) == "; there are: drawn-faces, ms1m, sample"
    assert hint("cake", [], "make one") == "; there are none; make one"


def test_many_names_are_on_their_own_lines_of_screen_width():
    first, *lines = listed([f"network-number-{i}" for i in range(1000)], "`show` tells").split("\n")
    assert first == "; `show` tells; there are:"
    assert all(line.startswith("  ") and len(line) <= LINE + 2 for line in lines)
    assert lines[-1].endswith("and 900 more")
    assert len(lines) < 40


@pytest.mark.parametrize("given", ["", "x" * 10**6, "\x1b[31m", "[/x]", "\udcff", "a\nb"])
def test_any_text_is_accepted_as_a_name(given):
    assert len(str(unknown("thing", given, NAMES))) < 400


def test_the_nearest_of_very_many_names_is_found_fast():
    names = [f"job-{i:05}" for i in range(20_000)]
    assert "job-01999" in suggestions("jbo-01999", names)
