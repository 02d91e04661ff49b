"""Messages name a setting as the user gave it: a key of a job spec, or an option."""

import pytest

from teachers.setting_words import setting, settings_are_options

WORDS = [
    ("size", [64, 64], "size = [64, 64]", "--size 64"),
    ("output", "fc 1", 'output = "fc 1"', "--part 'fc 1'"),
    ("least_accuracy", 0, "least_accuracy = 0", "--least-accuracy 0"),
    ("backbone", ..., "backbone = ...", "--backbone ..."),
    ("size", [6, 4], "size = [6, 4]", "size = [6, 4] in a job spec, as --size is for squares"),
]


@pytest.mark.parametrize(
    ("key", "value", "in_spec", "as_option"),
    WORDS,
    ids=[f"{key} {value}" for key, value, *_ in WORDS],
)
def test_a_message_uses_the_words_of_the_user(
    key: str, value: object, in_spec: str, as_option: str
) -> None:
    with settings_are_options():
        assert setting(key, value) == as_option
    assert setting(key, value) == in_spec
