"""Safe reading and atomic writing of files."""

import ctypes
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import DEFAULT_BUFFER_SIZE, BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

from curation.errors import UserError
from curation.locks import locked
from curation.progress import Progress

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class UnreadableError(UserError):
    """A file that cannot be read; ``reason`` is a clause about it ("it is a named pipe")."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def regular_file_size(path: Path) -> int:
    """The size in bytes; ``UnreadableError`` if the path is missing or not a regular file."""
    with _os_errors_named(path):
        return _size_if_regular(path, path.stat())


def open_regular(path: Path, buffer: int = DEFAULT_BUFFER_SIZE) -> BufferedReader:
    """Open an untrusted file for reading with a buffer of ``buffer`` bytes.

    Opening a named pipe would block, and a device may have no end, so anything but a regular file
    raises ``UnreadableError``, as does a missing one.
    """
    with _os_errors_named(path):
        _size_if_regular(path, path.stat())
        # Non-blocking, in case a pipe has taken the name since.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _size_if_regular(path, os.fstat(descriptor))
        except UnreadableError:
            os.close(descriptor)
            raise
        return BufferedReader(FileIO(descriptor), buffer)


def read_whole(path: Path, most: int) -> bytes:
    """All bytes of an untrusted file.

    Raises ``UnreadableError`` as ``open_regular`` does, and if there are more than ``most`` bytes.
    """
    with open_regular(path) as file, _os_errors_named(path):
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UnreadableError(path, f"it has {size:,} bytes; at most {most:,} are allowed here")
        return file.read(size)


def file_digest(path: Path, progress: Progress | None = None) -> str:
    """SHA-256 (hex) of a file, opened as in ``open_regular``; ``progress`` counts bytes."""
    digest = hashlib.sha256()
    done = 0
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, size)
    return digest.hexdigest()


def _size_if_regular(path: Path, status: os.stat_result) -> int:
    if not stat.S_ISREG(status.st_mode):
        names = {stat.S_IFDIR: "directory", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
        what = names.get(stat.S_IFMT(status.st_mode), "device")
        raise UnreadableError(path, f"it is a {what}, not a file")
    return status.st_size


@contextmanager
def _os_errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if path.is_symlink():
            reason = f"it is a link to {path.readlink()}, which does not exist"
            raise UnreadableError(path, reason) from None
        raise UnreadableError(path, f"cannot read it: {error.strerror}") from None
    except OSError as error:
        raise UnreadableError(path, f"cannot read it: {error.strerror}") from None


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write beside ``path``, renamed to it when the block ends without an error.

    ``path`` is either complete or unchanged; if ``durable``, also after a power cut. Raises
    ``UserError`` if a folder has the name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except IsADirectoryError:
        raise UserError(f"cannot write {path}: it is a folder; remove it") from None
    except OSError as error:
        error.filename = error.filename or os.fspath(path)  # none if the disk is full
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def check_writable(path: Path) -> None:
    """Raise ``UserError`` if no file ``path`` can be written; call it before long work."""
    folder = path.parent
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make it first, or choose another one")
    if not can_make_files(folder):
        raise UserError(f"cannot write to {folder}: it is read-only; choose another folder")


def can_make_files(folder: Path) -> bool:
    """Whether this user may make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK)


def reserve(path: Path, size: int) -> None:
    """Reserve ``size`` bytes of disk space for a later ``write_reserved`` to ``path``."""
    with _reserved(path).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        os.fsync(file.fileno())


def write_reserved(path: Path, data: bytes) -> None:
    """Replace ``path`` atomically, in the space from ``reserve`` if it is sufficient.

    This works on a full disk.
    """
    temporary = _reserved(path)
    with suppress(FileNotFoundError), temporary.open("r+b") as file:
        if len(data) <= os.fstat(file.fileno()).st_size:
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
            return
    with atomic_file(path) as file:
        file.write(data)
    release(path)


def release(path: Path) -> None:
    """Release the space from ``reserve``, if it still exists."""
    _reserved(path).unlink(missing_ok=True)


def _reserved(path: Path) -> Path:
    return path.with_name(f".{path.name}.reserved")


def check_space(path: Path, wanted: int, purpose: str = "") -> None:
    """Raise ``UserError`` if the disk of the folder ``path`` has fewer than ``wanted`` bytes."""
    free = shutil.disk_usage(path).free
    if wanted > free:
        raise UserError(
            f"{path} needs {wanted / 1e6:,.1f} MB more{purpose}, its disk has {free / 1e6:,.1f} MB "
            "free; free some space and run the same command again, or choose another destination"
        )


def nearest_folder(path: Path) -> Path:
    """The path if it is a folder, else its nearest parent that exists."""
    return next(each for each in (path, *path.parents) if each.is_dir())


def disk_error(path: Path, number: int | None) -> str:
    """The message for a disk error while writing ``path``."""
    free = shutil.disk_usage(nearest_folder(path.absolute().parent)).free / 1e6
    return (
        f"cannot write {path}: {os.strerror(number or errno.EIO)}: the disk is full or failing, "
        f"with {free:,.1f} MB free; free some space and run the same command again"
    )


@contextmanager
def atomic_folder(path: Path, size: int = 0) -> Iterator[Path]:
    """A folder to fill beside ``path``, renamed to it when the block ends without an error.

    The remains of a killed attempt are removed first. Raises ``UserError`` if ``path`` exists or
    cannot be created, if another process is filling it, or if the disk is full or has fewer than
    ``size`` bytes. The block itself must sync its files.
    """
    check_free(path)
    temporary = path.with_name(f"{path.name}.partial")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.filename}: {error.strerror}") from None
    with locked(temporary):
        check_free(path)  # another process may just have finished it
        try:
            empty(temporary)
            check_space(temporary, size)
            yield temporary
            temporary.rename(path)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise UserError(disk_error(path, error.errno)) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def check_free(*paths: Path) -> None:
    """Raise ``UserError`` if one of ``paths`` exists; call it before long work."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists; remove it or choose another name")


def empty(folder: Path) -> None:
    """Delete the content of a folder; links are removed without following them."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders atomically; False if the system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return library.renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def replaced_name(path: Path) -> Path:
    """The name of an older folder at ``path`` while `replace_folder` replaces it."""
    return path.with_name(f".{path.name}.replaced")


def replace_folder(new: Path, path: Path) -> None:
    """Rename the folder ``new`` to ``path``; an older folder there is removed only afterwards."""
    if not path.exists() or not exchange(new, path):
        if path.exists():
            shutil.rmtree(replaced_name(path), ignore_errors=True)
            path.rename(replaced_name(path))
        new.rename(path)
    sync_folder(path.parent)
    shutil.rmtree(replaced_name(path), ignore_errors=True)


def sync_file(path: Path) -> None:
    """Sync a file's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync the names inside ``folder`` (created, renamed, removed) to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
