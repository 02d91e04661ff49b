"""Copies the images of a source into the unfinished store; can be interrupted and resumed.

If labels ascend, as in every pack from insightface, images are copied as they are read, in one
pass. If a label descends, the rest is read first, and then all images are copied in label order.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from curation.conversion.finish import finish_store
from curation.conversion.image_check import ImageCheck, good_images
from curation.conversion.journal import (
    CHECKSUM,
    LABEL,
    OFFSET,
    Journal,
    JournalState,
    discard,
    load_sound_state,
)
from curation.conversion.store_file import stored_bytes
from curation.environment import DATA_FILE
from curation.errors import UserError
from curation.files import check_space
from curation.labels import sort_keys
from curation.progress import Progress
from curation.sources.digests import PrefixDigest
from curation.sources.image_source import ImageSource, Position, SourceImages
from curation.sources.quarantine import QUARANTINE_FILE, BadRecordError, read_quarantine
from curation.wording import counted

COMMIT_BYTES = 8 << 20
"""Approximate work lost by an interruption; twice as much is held in memory."""
COMMIT_IMAGES = 1 << 16
_INDEX_BYTES = 28
"""Bytes of the arrays per image"""
_FEW_PAGES = 16 << 12
_BATCH = 256
"""Images that are copied together in the second pass."""


class Conversion:
    """Converts ``source`` into the folder ``partial``, starting from any state of that folder."""

    def __init__(
        self,
        source: ImageSource,
        partial: Path,
        skip_bad: bool,
        decode: bool,
        progress: Progress | None,
    ) -> None:
        self._source, self._partial, self._skip_bad = source, partial, skip_bad
        self._decode = decode
        self._progress = progress or (lambda done, total: None)
        stated_size = source.stated_image_size()
        state = load_sound_state(partial)
        self._is_resumed = state is not None and (state.decode or not decode)
        if state is None or not self._is_resumed:  # the earlier images were not decoded
            discard(partial)
            state = JournalState(stamp=source.stamp(), decode=decode)
        self._journal = Journal(partial, state)
        read = self._journal.rows()
        self._last = sort_keys(read[-1:, LABEL])
        self._check = ImageCheck(stated_size, state.image_size, state.encodings, decode)

    def run(self) -> None:
        """Complete the store in the folder, leaving only the journal besides."""
        with self._journal as journal:
            if self._is_resumed:
                self._check_resumable()
            self._check_space()
            if not journal.state.scanned and journal.state.ordered:
                self._read_and_copy()
            if not journal.state.scanned:
                self._read_only()
            if journal.state.read == 0:
                bad = read_quarantine(self._partial)
                first = next(bad, None)
                why = first and f": {1 + sum(1 for _ in bad):,} are bad, the first: {first.reason}"
                discard(self._partial)
                why = why or self._source.other_content()
                raise UserError(f"{self._source.path} holds no good images{why}")
            order = None if journal.state.ordered else self._copy_in_order()
            finish_store(self._source, journal, order, self._check)
            self._progress(journal.read, journal.read)  # the number was an estimate until now

    def _check_resumable(self) -> None:
        """Compare sizes and listings only: a record file may have been touched.

        Reading compares contents.
        """
        state, now = self._journal.state, self._source.stamp()
        if (state.stamp.size, state.stamp.listing) != (now.size, now.listing):
            raise UserError(
                f"{self._source.path} has changed since the conversion was stopped, or its labels "
                "now come from another place; to continue, give the same --unlabelled, "
                f"--label-key or --identity-folder as before; remove {self._partial} to start over"
            )
        if state.skipped and state.decode and not self._decode:
            raise UserError(
                f"the stopped conversion decoded its images and skipped {state.skipped}; give "
                f"--decode again to continue, or remove {self._partial} to start over"
            )
        if state.skipped and not self._skip_bad:
            raise UserError(
                f"the stopped conversion skipped {counted(state.skipped, 'bad record')}, see "
                f"{self._partial / QUARANTINE_FILE}; give --skip-bad again to continue"
            )

    def _check_space(self) -> None:
        wanted = _FEW_PAGES - (self._partial / DATA_FILE).stat().st_size
        for sizes in self._source.image_sizes():
            wanted += int(stored_bytes(sizes).sum()) + _INDEX_BYTES * len(sizes)
        check_space(self._partial, wanted)

    def _read_and_copy(self) -> None:
        """Copy images as they are read, up to the end or the first label that descends."""
        for images in self._images():
            self._journal.add_rows(_rows(images))
            if not self._ascends(images):
                self._begin_sorting()
                return
            self._journal.add_images(images.payloads)
            if self._journal.waiting_bytes >= COMMIT_BYTES:
                self._commit_reading()
        self._commit_reading(scanned=True)
        self._journal.wait()

    def _begin_sorting(self) -> None:
        """Continue reading without copying.

        A source that cannot be read again is read from the start and spooled.
        """
        if self._source.reads_again:
            self._journal.forget_images()
            self._commit_reading(ordered=False)
            return
        spooled = sum(int(sizes.sum()) for sizes in self._source.image_sizes())
        check_space(self._partial, spooled, " to sort the images by their labels")
        self._journal.begin_spool()
        restart = JournalState(stamp=self._journal.state.stamp).model_dump(exclude={"stamp"})
        self._journal.commit({**restart, "decode": self._decode, "ordered": False, "spooled": True})
        self._journal.wait()

    def _read_only(self) -> None:
        spooled = self._journal.state.spooled
        for images in self._images():
            self._journal.add_rows(_rows(images))
            if spooled:
                self._journal.add_spooled(images.payloads)
            if self._journal.read - self._journal.state.read >= COMMIT_IMAGES:
                self._commit_reading()
        self._commit_reading(scanned=True)
        self._journal.wait()

    def _copy_in_order(self) -> np.ndarray:
        """Copy the images in label order, and return that order."""
        rows = self._journal.rows()
        order = np.argsort(sort_keys(rows[:, LABEL]), kind="stable")
        for first in range(self._journal.state.copied, len(order), _BATCH):
            these = order[first : first + _BATCH]
            self._journal.add_images(self._read_again(rows, these))
            self._second_pass(first + len(these), len(order))
            if self._journal.waiting_bytes >= COMMIT_BYTES:
                self._journal.commit({})
        self._journal.commit({})
        self._journal.wait()
        return order

    def _images(self) -> Iterator[SourceImages]:
        """The good images that were not read yet."""
        state, source = self._journal.state, self._source
        earlier = PrefixDigest(*state.digest) if state.digest[0] else None
        start = Position(*state.position)
        for images in source.images(self._on_bad, start, earlier, self._first_pass):
            good = good_images(images, self._check, source, self._on_bad)
            if good.payloads:
                yield good

    def _ascends(self, images: SourceImages) -> bool:
        """Whether the labels still do not descend; must be called once for all images in order."""
        keys = np.concatenate([self._last, sort_keys(images.labels)])
        self._last = keys[-1:]
        return bool((keys[1:] >= keys[:-1]).all())

    def _read_again(self, rows: np.ndarray, these: np.ndarray) -> list[bytes]:
        rows = rows[these]
        if self._journal.state.spooled:
            payloads = self._journal.read_spooled(these)
        else:
            payloads = list(self._source.read(iter(rows[:, OFFSET].tolist())))
        for row, payload in zip(rows, payloads, strict=True):
            if zlib.crc32(payload) != row[CHECKSUM]:
                raise UserError(
                    f"{self._source.path} was changed at byte {row[OFFSET]} during its conversion; "
                    f"remove {self._partial} to start over"
                )
        return payloads

    def _on_bad(self, bad: BadRecordError) -> None:
        if not self._skip_bad:
            raise bad
        self._journal.add_bad(bad, self._source.name(bad.offset))

    def _commit_reading(self, scanned: bool = False, ordered: bool = True) -> None:
        self._journal.commit(
            {
                "position": tuple(self._source.position),
                "digest": tuple(self._source.digest),
                "scanned": scanned,
                "ordered": ordered and self._journal.state.ordered,
                "decode": self._decode,
                "image_size": self._check.image_size,
                "encodings": self._check.encodings,
            }
        )

    def _first_pass(self, done: int, total: int) -> None:
        """Report images, extrapolating their total from the progress of the source."""
        read = self._journal.read
        if read and done:
            images = max(read, round(read * total / done))
            self._progress(read if self._journal.state.ordered else read // 2, images)

    def _second_pass(self, done: int, total: int) -> None:
        self._progress((total + done) // 2, total)


def _rows(images: SourceImages) -> np.ndarray:
    """The images as rows of the journal: int64 ``[n, 5]``."""
    sizes = np.fromiter(map(len, images.payloads), np.int64, len(images.payloads))
    checksums = np.fromiter(map(zlib.crc32, images.payloads), np.int64, len(images.payloads))
    columns = (images.keys, images.labels, images.offsets, sizes, checksums)
    return np.stack(columns, axis=1)
