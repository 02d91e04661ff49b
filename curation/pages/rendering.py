"""Renders templates that escape everything not marked as trusted."""

import base64
import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from curation import wording
from curation.printable import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

STYLE = Path(__file__).parent / "style.css"
"""The style sheet of all pages"""


def environment(templates: Path) -> "Environment":
    """The templates in a folder, with the filters ``number``, ``compact`` and ``decimal``, and
    the functions ``percent`` and ``noun``. Untrusted text is escaped and made ``printable``; file
    names need not be UTF-8.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        finalize=_shown,
        auto_reload=False,  # templates of another version would not fit the running code
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": wording.number,
        "compact": wording.compact,
        "decimal": wording.decimal,
        "urlencode": partial(quote, errors="surrogateescape"),
    }
    found.globals |= {"percent": wording.percent, "noun": wording.noun}
    return found


def style(*more: Path) -> "Markup":
    """The style sheet followed by others, to inline into a self-contained page."""
    return trusted("\n".join(path.read_text("utf-8") for path in (STYLE, *more)))


def trusted(text: str) -> "Markup":
    """Mark our own text as safe."""
    from markupsafe import Markup

    return Markup(text)


def digest_for_policy(text: str) -> str:
    """SHA-256 for a Content-Security-Policy that allows only this script or style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(value: Any) -> Any:
    """Text without bidirectional controls and lone surrogates."""
    return printable(value) if type(value) is str else value
