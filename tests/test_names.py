"""The names of classes in all packages are unique, and those of tests are short."""

import ast
from collections import defaultdict
from pathlib import Path

import curation

ROOT = Path(curation.__file__).parents[1]
LONGEST = 60
"""Maximum characters of a test's name"""


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
    longer = [
        f"{path.name}: {node.name}"
        for path in Path(__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > LONGEST
    ]
    assert longer == []
