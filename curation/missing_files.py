"""Why a file that a list or a command names may be missing: names from other systems."""

import os
import re
import unicodedata
from functools import lru_cache
from itertools import islice
from pathlib import Path

_MOST_COMPARED = 100_000
"""Names in a folder"""
_BYTES = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as Python reads them"""
_DRIVE, _ADDRESS = re.compile("[A-Za-z]:"), re.compile("(https?|ftp|s3|gs|hdfs):")


def why_missing(path: Path) -> str:
    """The likely reason why there is no ``path``, in brackets for the end of a sentence, or "".

    Such are paths of Windows, web addresses, names that exist in upper or lower case or in another
    of Unicode's forms, as macOS writes them, and names from a list that is not UTF-8.
    """
    if path.root == "//" or any(map(_DRIVE.fullmatch, path.parts)):  # //HOST/SHARE
        return " (a path of Windows; write paths from the folder of the images, with /)"
    if any(map(_ADDRESS.fullmatch, path.parts)):
        return " (a web address; download the images first)"
    other = _nearly(path)
    if other is None or other == path:
        is_text = _BYTES.search(str(path)) is None
        return "" if is_text else " (its name is not UTF-8; save the list as UTF-8)"
    how = "Unicode form" if _form(str(other)) == _form(str(path)) else "upper and lower case"
    return f" (there is {other}, which differs in {how})"


def _nearly(path: Path) -> Path | None:
    """The existing path that differs only in case and Unicode form."""
    missing: list[str] = []
    here = path
    while not os.path.lexists(here) and here != here.parent:
        missing.append(here.name)
        here = here.parent
    for name in reversed(missing):
        found = _names_in(here).get(_form(name).casefold())
        if found is None:
            return None
        here /= found
    return here


@lru_cache(maxsize=8)
def _names_in(folder: Path) -> dict[str, str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_COMPARED)]
    except OSError:
        return {}
    return {_form(name).casefold(): name for name in names}


def _form(text: str) -> str:
    return unicodedata.normalize("NFC", text)
