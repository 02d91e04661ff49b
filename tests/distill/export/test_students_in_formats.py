"""Every student in every format is exported and compared, or refused as in docs/bundle.md."""

import pytest

from tests.distill.export.students import (
    FORMATS,
    STUDENTS,
    is_installed,
    read_record,
    table_of,
    why_not,
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("student", STUDENTS)
def test_a_student_in_a_format(student: str, format: str):
    if not is_installed(format):
        pytest.skip(f"{format} is not installed")
    assert why_not(student, format) == read_record().get(student, {}).get(format)


def test_the_record_has_only_existing_students_and_formats():
    record = read_record()
    assert set(record) <= set(STUDENTS)
    assert {format for found in record.values() for format in found} <= set(FORMATS)


def test_the_table_names_untried_formats_and_failures():
    whole, partly, failed, *others = STUDENTS
    record = {
        whole: dict.fromkeys(FORMATS),
        partly: {"onnx": None, "ncnn": None},
        failed: {"onnx": None, "ncnn": "no unbind"},
    }
    shown = table_of(record)
    assert f"In `onnx`, `onnx-fp16`, `ncnn`, `openvino`, `litert`: `{whole}`." in shown
    untried = "`onnx-fp16`, `openvino`, `litert` not tried"
    assert f"In `onnx`, `ncnn` ({untried}): `{partly}`." in shown
    assert f"| `{failed}` | `ncnn` | no unbind |" in shown
    assert f"{len(others)} students were not tried yet." in shown
