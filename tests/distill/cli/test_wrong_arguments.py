"""Wrong values of options and arguments are reported in the project's words, not in pydantic's."""

import pytest
from typer.testing import CliRunner

from distill.cli.curate import app as curate
from distill.cli.main import app as distill


@pytest.mark.parametrize(
    ("app", "arguments", "words"),
    [
        (distill, "serve --slots abc", "'--slots': must be a whole number, got 'abc'"),
        (distill, "status --state foo", "'--state': 'foo' is not one of 'queued',"),
        (curate, "view cap a b --each 1.5", "'--each': must be a whole number, got '1.5'"),
    ],
    ids=["number", "choice", "nested command"],
)
def test_a_wrong_value_is_reported_in_plain_words(app, arguments, words) -> None:
    result = CliRunner().invoke(app, arguments.split(), terminal_width=200)
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    assert words in said
    assert "Input should" not in said
