"""The address of the pages, and the addresses under which browsers may request them."""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from curation.errors import UserError

PORT = 8642
ADDRESS = f"127.0.0.1:{PORT}"
"""The default address of the pages"""
_URL = re.compile(r"https?://[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?/?")


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """The page options of `distill serve`."""

    host: str
    port: int
    """0 for any free port"""
    any_port: bool = False
    """Use another port if ``port`` is in use"""
    url: str | None = None
    """The address that browsers show if there is a proxy in between"""
    certificate: Path | None = None
    """A PEM file with the certificate and its key"""

    @property
    def is_secure(self) -> bool:
        """Whether browsers use TLS, to this process or to a proxy."""
        return self.certificate is not None or (self.url or "").startswith("https:")


def web_settings(
    address: str | None = None, url: str | None = None, certificate: Path | None = None
) -> WebSettings:
    """The checked options; ``UserError`` for an address reachable by others without TLS."""
    host, port = _host_and_port(address or ADDRESS)
    settings = WebSettings(
        host=host,
        port=port,
        any_port=address is None,
        url=None if url is None else _checked_url(url),
        certificate=None if certificate is None else _readable(certificate),
    )
    if not ipaddress.ip_address(host).is_loopback and not settings.is_secure:
        raise UserError(
            f"--web-address {address}: other machines reach this address, and would connect to "
            f"it without TLS; give --web-cert FILE, or --web-url https://NAME of the proxy in "
            f"front of it"
        )
    return settings


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    host = {"localhost": "127.0.0.1"}.get(host, host.removeprefix("[").removesuffix("]"))
    try:
        number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1
        if not colon or not 0 <= number < 1 << 16:
            raise ValueError(port)
        return str(ipaddress.ip_address(host)), number
    except ValueError:
        raise UserError(
            f"--web-address {address[:80]!r} is not an address: give an IP address and a port, "
            f"such as "
            f"{ADDRESS} or [::1]:{PORT}"
        ) from None


def _checked_url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise UserError(
            f"--web-url {url[:80]!r}: give the scheme, the name and perhaps the port that browsers "
            "use, such as https://faces.example.org"
        )
    parts = urlsplit(url.rstrip("/"))
    usual = {"http": ":80", "https": ":443"}[parts.scheme]  # browsers omit the default port
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(usual)}"


def _readable(certificate: Path) -> Path:
    if not certificate.is_file() or not os.access(certificate, os.R_OK):
        raise UserError(
            f"--web-cert {certificate}: there is no such file to read; it must hold the "
            "certificate and its key as PEM"
        )
    return certificate.resolve()
