"""Numbers and names formatted for pages and sentences."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curation.image_set import Parameter

_LONGEST_PARAMETER = 40


def number(value: float) -> str:
    """A count with commas: 5179510 is "5,179,510"."""
    return f"{value:,.0f}"


def counted(count: int, thing: str) -> str:
    """A count with its noun: "1 image", "2 images"."""
    return f"{number(count)} {noun(count, thing)}"


def noun(count: int, thing: str) -> str:
    """The noun that fits the count: "identity" or "identities"."""
    if count == 1:
        return thing
    return f"{thing[:-1]}ies" if thing.endswith("ty") else f"{thing}s"


def compact(value: float) -> str:
    """A count in at most four characters, for labels of bars: 12345 is "12k"."""
    for unit in ("", "k", "M", "G"):
        # 999.5 would be rounded to four digits.
        if value < (9.95 if unit else 999.5):
            return f"{value:.1f}{unit}" if unit else f"{value:.0f}"
        if value < 999.5:
            return f"{value:.0f}{unit}"
        value /= 1000
    return f"{value:.0f}T"


def percent(part: float, whole: float) -> str:
    """A share with one decimal; only the whole is "100 %" and only zero is "0 %"."""
    share = 100 * part / whole if whole else 0.0
    if share in (0, 100):
        shown = f"{share:.0f} %"
    elif share < 0.05:
        shown = "< 0.1 %"
    else:
        shown = "> 99.9 %" if 99.95 <= share < 100 else f"{share:.1f} %"
    return shown.replace(" ", "\N{NO-BREAK SPACE}")


def decimal(value: float) -> str:
    """A similarity or score with two decimals; "unknown" if there is none."""
    shown = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")
    return "unknown" if math.isnan(value) else shown


def parameters(given: "Mapping[str, Parameter]") -> str:
    """The parameters of a step without digests; long values are shortened."""
    shown = (
        f"{name.replace('_', ' ')} {str(value)[:_LONGEST_PARAMETER]}"
        for name, value in given.items()
        if not name.endswith("digest")
    )
    return ", ".join(shown)


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
