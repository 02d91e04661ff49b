"""The names of classes in all packages are unique, and those of tests are short sentences."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import curation

ROOT = Path(curation.__file__).parents[1]
LONGEST = 60
"""Maximum characters of a test's name"""
NO_SUBJECT = ("test_what_", "test_where_", "test_who_")


def test_class_names_are_unique():
    places = defaultdict(list)
    for package in ("curation", "teachers", "distill"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name.lstrip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 300
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_name_of_a_test_is_longer_than_60_characters():
    assert [where for where, name in _tests() if len(name) > LONGEST] == []


def test_names_of_tests_have_a_subject():
    assert [where for where, name in _tests() if name.startswith(NO_SUBJECT)] == []


def _tests() -> Iterator[tuple[str, str]]:
    """The file and name of each test, and the name alone."""
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield f"{path.name}: {node.name}", node.name
