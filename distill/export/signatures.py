"""Signed bundles: an ed25519 signature of ``SHA256SUMS``, which covers all files of the bundle.

The signature is the file ``SHA256SUMS.sig``, 64 bytes. Keys are PEM files. OpenSSL can create them
and can verify signatures too.
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
    """Sign a complete bundle with the private key in the file ``key``; returns the new file.

    Raises ``UserError`` like `check_bundle`, and if the file holds no such key.
    """
    check_bundle(folder)
    private = _private(key)
    signature = private.sign(read_whole(folder / SUMS_NAME, MAXIMUM_SUMS_BYTES))
    path = folder / SIGNATURE_NAME
    with atomic_file(path) as file:
        file.write(signature)
    return path


def check_signature(folder: Path, key: Path) -> None:
    """Raise ``UserError`` unless the checksums in ``folder`` are signed by the owner of ``key``.

    ``key`` is the file of the public key. Does not check the files against the checksums.
    """
    from cryptography.exceptions import InvalidSignature

    public = _load(key, public=True)
    path, signature = folder / SIGNATURE_NAME, read_signature(folder)
    if signature is None:
        raise UserError(
            f"{folder}: it is not signed (no {SIGNATURE_NAME}); its author signs it with "
            "`distill sign`; or omit --key"
        )
    try:
        public.verify(signature, read_whole(folder / SUMS_NAME, MAXIMUM_SUMS_BYTES))
    except InvalidSignature:
        raise UserError(
            f"{path}: it is not the signature of this bundle by the owner of {key}; the bundle was "
            "changed after it was signed, or somebody else signed it: do not use it"
        ) from None


def read_signature(folder: Path) -> bytes | None:
    """The signature of a bundle; None if it is unsigned, ``UserError`` if it is damaged.

    Ignores a link, because its target is outside the bundle.
    """
    path = folder / SIGNATURE_NAME
    if not path.is_file() or leads_out(folder, path):
        return None
    signature = read_whole(path, BYTES)
    if len(signature) != BYTES:
        raise UserError(
            f"{path}: it has {len(signature)} bytes, not the {BYTES} of a signature; fetch the "
            "bundle again, or sign it again with `distill sign`"
        )
    return signature


def _private(path: Path) -> "Ed25519PrivateKey":
    return _load(path, public=False)


def _load(path: Path, public: bool) -> Any:
    """Load an ed25519 key from a PEM file."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise UserError(
            "signatures need the package cryptography, which is not installed: "
            "`pip install 'face-distill[sign]'`"
        ) from None
    content = read_whole(path, LARGEST_KEY)
    kind = ed25519.Ed25519PublicKey if public else ed25519.Ed25519PrivateKey
    try:
        if public:
            key: Any = serialization.load_pem_public_key(content)
        else:
            key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        key = None
    if not isinstance(key, kind):
        what = f"public key; {_PUBLIC}" if public else f"private key without a password; {_MAKE}"
        raise UserError(f"{path}: it holds no ed25519 {what}")
    return key
