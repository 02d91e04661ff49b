"""Answers that report an error."""

import json
from collections.abc import Mapping

from starlette.responses import JSONResponse


class _AnyText(JSONResponse):
    """JSON in ASCII: a message may quote a file name that is not UTF-8, which has no other form."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode("ascii")


def problem(why: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as one line of JSON."""
    return _AnyText({"error": why}, status, headers)
