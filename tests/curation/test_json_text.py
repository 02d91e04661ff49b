import json
import os

import pytest
from pydantic import BaseModel, ConfigDict

from curation.errors import UserError
from curation.files import UnreadableError
from curation.json_text import DEEPEST, parse_json, parse_record, read_json, read_record


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    attempt: int
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63) + 1, 2**63 - 1, 0.5, 1e300, "é\n\x00😀", [], {"a": [{}]}]
)
def test_any_value_survives_a_round_trip(value):
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON: Expecting value at character 0"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"NaN", "NaN, which is not JSON"),
        (b'{"a": -Infinity}', "-Infinity, which is not JSON"),
        (b"1e999", "too large: 1e999"),
        (b"9223372036854775808", "more than 64 bits"),
        (b"1" * 100_000, "more than 64 bits: 11111111111111111111$"),
        (rb'"\ud800"', r"half of a surrogate pair: '\\ud800'"),
        (rb'[{"\udcff": 1}]', "half of a surrogate pair"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b"[" * 500_000, "nested deeper than 64 levels"),
        (b'{"a":' * 500_000, "nested deeper than 64 levels"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "nested deeper than 64 levels"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_harmful_json_is_refused_with_a_short_reason(content, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        parse_json(content)
    assert len(str(refused.value)) < 100


def test_the_deepest_allowed_nesting_is_read():
    assert parse_json(b"[" * DEEPEST + b"]" * DEEPEST)


def test_an_invalid_record_names_the_place():
    assert parse_record(b'{"attempt": 3, "names": ["a"]}', Record) == Record(
        attempt=3, names=("a",)
    )
    with pytest.raises(ValueError, match=r"^attempt: must be a whole number \(it is '3'\)$"):
        parse_record(b'{"attempt": "3"}', Record)
    with pytest.raises(ValueError, match=r"^names\.1: must be a string \(it is 1\)$"):
        parse_record(b'{"attempt": 3, "names": ["a", 1]}', Record)
    long = json.dumps({"attempt": "\x1b\u202e" * 9000})
    with pytest.raises(ValueError, match=r"^attempt: .* \(it is '\\x1b\\u202e") as refused:
        parse_record(long.encode(), Record)
    assert len(str(refused.value)) < 100
    with pytest.raises(ValueError, match=r"^must be an object with keys$"):
        parse_record(b"[]", Record)


def test_errors_of_a_file_name_it(tmp_path):
    path = tmp_path / "runner.json"
    path.write_text('{"attempt": Infinity}')
    for read in (read_json, lambda file: read_record(file, Record)):
        with pytest.raises(UserError, match=r"runner\.json is damaged: it has Infinity"):
            read(path)
    path.write_text('{"attempt": true}')
    with pytest.raises(UserError, match=r"runner\.json is damaged: attempt: "):
        read_record(path, Record)


def test_special_and_too_large_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * 101)
    for name in ("pipe", "large", "absent", "."):
        with pytest.raises(UnreadableError):
            read_json(tmp_path / name, most=100)


@pytest.mark.parametrize("values", ["0," * 200_000 + "0", "[]," * 100_000 + "[]"])
def test_too_many_values_are_refused(values):
    with pytest.raises(ValueError, match="more than 50,000 values"):
        parse_record(f'{{"names": [{values}]}}'.encode(), Record)
