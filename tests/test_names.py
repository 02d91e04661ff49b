"""The names of classes, over all packages."""

import ast
from collections import defaultdict
from pathlib import Path

import curation

ROOT = Path(curation.__file__).parents[1]


def test_a_class_name_stands_once():
    places = defaultdict(list)
    for package in ("curation", "teachers", "distill"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name.lstrip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 300
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
