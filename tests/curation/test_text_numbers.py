import math

import pytest

from curation.text_numbers import decimal, signed, whole

NO_NUMBERS = [
    "",
    " 1",
    "1 ",
    "1_0",
    "\u0661",
    "\u00b2",
    "1\n",
    "--1",
    "0x1",
    "nan",
    "inf",
    "1,0",
    ".",
]


@pytest.mark.parametrize("word", NO_NUMBERS, ids=ascii)
def test_only_ascii_digits_are_numbers(word):
    assert [whole(word), signed(word), decimal(word)] == [None] * 3


def test_whole_numbers_are_not_negative_and_limited_in_length():
    assert [whole(word) for word in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
    assert [whole(word) for word in ("-1", "+1", "1.0", "9" * 19)] == [None] * 4
    assert (whole("123", 3), whole("1234", 3)) == (123, None)


def test_only_signed_numbers_may_have_signs():
    assert [signed(word) for word in ("-1", "+5", "5", "-0")] == [-1, 5, 5, 0]
    assert signed("1.0") is None


def test_decimals_may_have_exponents():
    assert [decimal(word) for word in ("1", "-1.5", ".5", "2.", "1E-3")] == [1, -1.5, 0.5, 2, 0.001]
    assert decimal("1e999") == math.inf
    assert decimal("e5") is None
