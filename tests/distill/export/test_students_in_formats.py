"""Every student in every format is exported and compared, or refused as in docs/bundle.md."""

import pytest

from tests.distill.export.students import FORMATS, STUDENTS, is_installed, read_record, why_not


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
