"""`distill pull URL`: fetches a job's bundle from another daemon's web pages.

Each file continues where the last attempt stopped, in a folder beside the destination, and is
checked against ``SHA256SUMS`` before the next. The server is not trusted: names must be those of a
bundle, sizes are limited, redirects are not followed.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from curation.errors import UserError
from curation.files import empty, file_digest, read_whole, sync_folder
from curation.json_text import parse_record
from curation.locks import locked
from distill.daemon.delivery import deliver, refuse_to_lose
from distill.daemon.patience import within
from distill.export.bundle_files import LARGEST_JSON, files_of
from distill.export.checksums import (
    MAXIMUM_SUMS_BYTES,
    SIGNATURE_NAME,
    SUMS_NAME,
    check_names,
    checksum_of,
    parse_sums,
    read_sums,
)
from distill.export.config import BundleConfig
from distill.export.signatures import BYTES, check_signature, read_signature
from distill.spec_source import check_name

if TYPE_CHECKING:
    import httpx

TOKEN = "DISTILL_TOKEN"
"""The environment variable with the token of the other workspace"""
SECONDS = 30.0
"""Maximum time without data from the server, or with fewer than ``LEAST_BYTES``"""
LEAST_BYTES = 1 << 14
ANSWER_SECONDS = 60.0
"""Maximum time until all headers of an answer have arrived"""
ATTEMPTS = 3
"""Attempts per file when the connection breaks"""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGE = re.compile(r"(?P<place>.*?)/jobs/(?P<job>[^/]+)/?")


def is_url(name: str) -> bool:
    """Whether the bundle is to be fetched from another machine."""
    return name.startswith(("http://", "https://"))


def job_of(url: str) -> str:
    """The job's name in ``https://HOST/jobs/NAME``; ``UserError`` for another address."""
    return check_name(_page(url)["job"])


def fetch(
    url: str,
    destination: Path,
    token: str | None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
    key: Path | None = None,
) -> bool:
    """Fetch the bundle of the job at ``url`` to ``destination``; False if it is already there.

    ``destination`` appears complete, after all checks of `deliver`. Raises its errors, and
    ``UserError`` if the server refuses or disconnects. ``say`` reports progress. With ``key``, a
    public key file, the signature is checked before the large files are fetched.
    """
    import httpx

    page = _page(url)
    check_name(page["job"])
    _keep_secret(url, token)
    destination = destination.resolve()
    partial = destination.with_name(f".{destination.name}.download")
    partial.mkdir(parents=True, exist_ok=True)
    headers = {"Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    base = f"{page['place']}/jobs/{page['job']}/bundle/"
    client = httpx.Client(timeout=SECONDS, headers=headers, trust_env=False)
    try:
        with locked(partial), client as http, _named(partial, url):
            source = _RemoteFiles(http, base, url)
            _fetch_list(source, partial)
            refuse_to_lose(destination, force or _same_list(partial, destination))
            _fetch_files(source, partial, destination, say, key)
            written = deliver(partial, destination, force, key=key)
            shutil.rmtree(partial)
    finally:
        with suppress(OSError):
            partial.rmdir()  # nothing was fetched, or everything was removed
    return written


@contextmanager
def _named(folder: Path, url: str) -> Iterator[None]:
    """Name the page at ``url`` in errors about the temporary ``folder`` of its download."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(folder), url.rstrip("/"))) from None


class _RemoteFiles:
    """The files of a bundle on another machine."""

    def __init__(self, http: "httpx.Client", base: str, url: str) -> None:
        self._http, self._base, self._url = http, base, url

    def take(self, name: str, path: Path, most: int, optional: bool = False) -> None:
        """Write a file of at most ``most`` bytes, continuing after what exists; nothing if an
        ``optional`` file does not exist."""
        import httpx

        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._take_on(name, path, most, optional)
                return
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if attempt == ATTEMPTS or isinstance(error, httpx.ConnectError):
                    reason = str(error)[:200].rstrip(".") or type(error).__name__
                    raise UserError(
                        f"{self._url}: {reason} at {name}; run the same command again to continue "
                        "there"
                    ) from None

    def _take_on(self, name: str, path: Path, most: int, optional: bool) -> None:
        there = path.stat().st_size if path.exists() else 0
        headers = {"Range": f"bytes={there}-"} if there else {}
        with closing(self._answer(name, headers)) as answer:
            if there and answer.status_code == 416:
                return  # already complete
            if optional and answer.status_code == 404:
                return
            self._check(answer.status_code, name)
            continues = answer.status_code == 206 and answer.headers.get(
                "content-range", ""
            ).startswith(f"bytes {there}-")
            with path.open("ab" if continues else "wb") as file:
                size = there if continues else 0
                for piece in _steadily(answer.iter_raw()):
                    size += len(piece)
                    if size > most:
                        path.unlink()
                        raise UserError(
                            f"{self._url}: {name} has more than the {most:,} bytes that this file "
                            "of a bundle may have; refused"
                        )
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())

    def _answer(self, name: str, headers: Mapping[str, str]) -> "httpx.Response":
        """The answer, whose body has not been read."""
        import httpx

        request = self._http.build_request("GET", self._base + quote(name), headers=headers)
        try:
            return within(ANSWER_SECONDS, partial(self._http.send, request, stream=True))
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error)) from None

    def _check(self, status: int, name: str) -> None:
        if status in (200, 206):
            return
        reasons = {
            401: "the token does not belong to the other workspace (see its daemon/web-token); "
            f"give it with --token-file or ${TOKEN}",
            404: f"there is no {name}: no such job, no bundle yet, or a page of another program",
            421: "the daemon does not know this host name; see `distill serve --web-url`",
            429: "too many requests; try again in a moment",
        }
        if 300 <= status < 400:
            reasons[status] = reasons[401] if status == 303 else "it redirects elsewhere; refused"
        raise UserError(f"{self._url}: {reasons.get(status, f'it answers {status}')}")


def _steadily(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces; ``httpx.ReadTimeout`` if they arrive one byte at a time."""
    import httpx

    since, arrived = time.monotonic(), 0
    for piece in pieces:
        arrived += len(piece)
        if (seconds := time.monotonic() - since) > SECONDS:
            if arrived < LEAST_BYTES:
                raise httpx.ReadTimeout(f"only {arrived:,} bytes in {seconds:.0f} s")
            since, arrived = time.monotonic(), 0
        yield piece


def _fetch_list(source: _RemoteFiles, folder: Path) -> None:
    """Fetch the checksums, and empty the folder if it has the files of another bundle."""
    new, kept = folder / f".{SUMS_NAME}", folder / SUMS_NAME
    new.unlink(missing_ok=True)
    source.take(SUMS_NAME, new, MAXIMUM_SUMS_BYTES)
    listed = read_whole(new, MAXIMUM_SUMS_BYTES)
    new.unlink()
    parse_sums(kept, listed)
    if not kept.is_file() or kept.read_bytes() != listed:
        empty(folder)
        kept.write_bytes(listed)


def _same_list(folder: Path, destination: Path) -> bool:
    """Whether the destination is a bundle with the same checksums, perhaps a damaged one."""
    try:
        theirs = read_whole(destination / SUMS_NAME, MAXIMUM_SUMS_BYTES)
    except UserError:
        return False
    return theirs == read_whole(folder / SUMS_NAME, MAXIMUM_SUMS_BYTES)


def _fetch_files(
    source: _RemoteFiles, folder: Path, known: Path, say: Callable[[str], None], key: Path | None
) -> None:
    """Fetch the signature, and then all listed files that the folder lacks.

    Files that the bundle in ``known`` has too are copied from there.
    """
    (folder / SIGNATURE_NAME).unlink(missing_ok=True)
    source.take(SIGNATURE_NAME, folder / SIGNATURE_NAME, BYTES, optional=True)
    read_signature(folder)
    if key is not None:
        check_signature(folder, key)
    sums = read_sums(folder)
    take = partial(_take_checked, source, folder, known, sums, say)
    take("config.json", LARGEST_JSON)
    try:
        config = parse_record(read_whole(folder / "config.json", LARGEST_JSON), BundleConfig)
    except ValueError as error:
        raise UserError(
            f"{folder / 'config.json'}: {error}; not a bundle of this version"
        ) from None
    files = files_of(config)
    check_names(folder, sums, files)
    for name, most in files.items():
        if name != "config.json":
            take(name, most)
    sync_folder(folder)


def _take_checked(
    source: _RemoteFiles,
    folder: Path,
    known: Path,
    sums: Mapping[str, str],
    say: Callable[[str], None],
    name: str,
    most: int,
) -> None:
    """Fetch one file that neither ``folder`` nor ``known`` has, and verify its checksum.

    A file that does not match is removed.
    """
    path, wanted = folder / name, checksum_of(folder, sums, name)
    if path.is_file() and file_digest(path) == wanted:
        return
    if (known / name).is_file() and file_digest(known / name) == wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(known / name, path)
        return
    say(name)
    source.take(name, path, most)
    if file_digest(path) != wanted:
        path.unlink()
        raise UserError(
            f"{path}: its SHA-256 differs from that in {SUMS_NAME}; it was changed or damaged in "
            "transit; run the same command to fetch it again, and if this repeats, run `distill "
            "verify` on the bundle of the other machine"
        )


def _page(url: str) -> dict[str, str]:
    try:
        parts = urlsplit(url)
        more = parts.username or parts.query or parts.fragment or (parts.port == 0)
    except ValueError:
        more = True
    found = None if more or not parts.hostname else _PAGE.fullmatch(parts.path)
    if found is None:
        raise UserError(f"{url:.200}: give the page of a job, such as https://HOST:8642/jobs/NAME")
    return {"place": f"{parts.scheme}://{parts.netloc}{found['place']}", "job": found["job"]}


def _keep_secret(url: str, token: str | None) -> None:
    parts = urlsplit(url)
    if token and not (token.isascii() and token.isprintable()):
        raise UserError("the token has characters that no token has; copy daemon/web-token again")
    if token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise UserError(
            f"{url}: http:// would expose the token on the network; use https://, or "
            "`ssh -L 8642:127.0.0.1:8642 MACHINE` and http://127.0.0.1:8642"
        )
