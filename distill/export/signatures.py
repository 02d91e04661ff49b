"""Who made a bundle: an ed25519 signature of its ``SHA256SUMS``, which stands for all its files.

The signature is the file ``SHA256SUMS.sig``, 64 bytes. Keys are PEM files; OpenSSL makes them, and
checks signatures too.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import UserError
from curation.files import atomic_file, read_whole
from distill.export.bundle_files import check_bundle
from distill.export.checksums import (
    MAXIMUM_SUMS_BYTES,
    SIGNATURE_NAME,
    SUMS_NAME,
    leads_out,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BYTES = 64
LARGEST_KEY = 1 << 14
_MAKE = "make one with `openssl genpkey -algorithm ed25519 -out sign.pem`"
_PUBLIC = "write it with `openssl pkey -in sign.pem -pubout -out sign.pub`"


def sign(folder: Path, key: Path) -> Path:
    """Sign a whole bundle with the private key in the file ``key``; the new file.

    Raises ``UserError`` as `check_bundle`, and for a file that holds no such key.
    """
    check_bundle(folder)
    private = _private(key)
    signature = private.sign(read_whole(folder / SUMS_NAME, MAXIMUM_SUMS_BYTES))
    path = folder / SIGNATURE_NAME
    with atomic_file(path) as file:
        file.write(signature)
    return path


def check_signature(folder: Path, key: Path) -> None:
    """Raise ``UserError`` unless the list of checksums in ``folder`` was signed by the owner of the
    public key in the file ``key``. The files are not checked against that list here."""
    from cryptography.exceptions import InvalidSignature

    public = _load(key, public=True)
    path, signature = folder / SIGNATURE_NAME, read_signature(folder)
    if signature is None:
        raise UserError(
            f"{folder}: it has no {SIGNATURE_NAME}: nobody signed it; sign it where it comes from "
            "(`distill sign`), or leave --key out"
        )
    try:
        public.verify(signature, read_whole(folder / SUMS_NAME, MAXIMUM_SUMS_BYTES))
    except InvalidSignature:
        raise UserError(
            f"{path}: it is not the signature of this bundle by the owner of {key}; the bundle was "
            "changed after it was signed, or somebody else signed it: do not use it"
        ) from None


def read_signature(folder: Path) -> bytes | None:
    """The signature in a bundle; None where nobody signed it. A link is none: what it leads to is
    not of the bundle."""
    path = folder / SIGNATURE_NAME
    if not path.is_file() or leads_out(folder, path):
        return None
    return read_whole(path, BYTES)


def _private(path: Path) -> "Ed25519PrivateKey":
    return _load(path, public=False)


def _load(path: Path, public: bool) -> Any:
    """An ed25519 key from a PEM file."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise UserError(
            "signatures take cryptography, which is not installed: "
            "`pip install 'face-distill[sign]'`"
        ) from None
    content = read_whole(path, LARGEST_KEY)
    kind = ed25519.Ed25519PublicKey if public else ed25519.Ed25519PrivateKey
    try:
        if public:
            key: Any = serialization.load_pem_public_key(content)
        else:
            key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):  # TypeError: it has a password
        key = None
    if not isinstance(key, kind):
        what = f"public key; {_PUBLIC}" if public else f"private key without a password; {_MAKE}"
        raise UserError(f"{path}: it holds no ed25519 {what}")
    return key
