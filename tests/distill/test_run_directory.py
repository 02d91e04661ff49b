"""What a run folder holds is read as others left it."""

import pytest

from distill.run_directory import EVALUATION, STEPS, WARNINGS, read_warnings


@pytest.mark.parametrize("name", [STEPS, WARNINGS, EVALUATION])
@pytest.mark.parametrize("content", [b"", b'{"sets": {"lf', b"3"], ids=["empty", "cut", "number"])
def test_a_record_that_cannot_be_read_is_a_warning(tmp_path, name, content):
    assert read_warnings(tmp_path) == []
    (tmp_path / name).write_bytes(content)
    (warning,) = read_warnings(tmp_path)
    assert warning["text"].startswith(f"{name} cannot be read and is not shown: ")
