"""Plain JSON: the parser that every record uses."""

from pathlib import Path

from curation.json_text import read_json
from tests.fuzz.harness import Files, reader


def _samples() -> list[Files]:
    record = b'{"attempt": 3, "names": ["a", "b"], "runner": {"pid": 12, "started": 0.5}}'
    return [{"record.json": record}, {"record.json": b"[]"}]


@reader("json", _samples)
def read(folder: Path) -> None:
    read_json(folder / "record.json")
