"""A check of the header length of an untrusted safetensors file, before its reader opens it."""

from pathlib import Path

from curation.errors import UserError
from curation.files import open_regular

MAXIMUM_BYTES = 1 << 22
"""A tensor takes about 100 bytes of header; no network here has 40,000 tensors."""


def check_header(path: Path) -> None:
    """Raise ``UserError`` if the header is longer than that of any network.

    The first eight bytes are its length; the reader itself would allow 100 MB.
    """
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAXIMUM_BYTES:
        raise UserError(
            f"{path}: not a safetensors file of a network (its header claims {length:,} bytes)"
        )
