"""The name of a test says one thing, and fits a line of a report."""

import ast
from pathlib import Path

LONGEST = 60


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
