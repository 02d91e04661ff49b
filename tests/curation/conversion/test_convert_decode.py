"""``convert --decode``: undecodable images are bad records, found during the conversion."""

import os
import signal

import cv2
import numpy as np
import pytest
from store_content import content_of

from curation.conversion.convert import convert
from curation.conversion.decoding import DecodeCheck
from curation.conversion.journal import load_state
from curation.errors import UserError
from curation.images import decode
from curation.records.layout_writer import write_layout
from curation.sources.quarantine import read_quarantine

SIZE = (24, 20)
PICTURE = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()
DAMAGED = {
    "a JPEG that ends early": JPEG[:-90],
    "a JPEG that ends early, closed": JPEG[:-90] + b"\xff\xd9",
    "a JPEG that is its header": JPEG[: JPEG.index(b"\xff\xda")],
    "a PNG that ends early": PNG[:-90],
    "a PNG with a damaged byte": PNG[:200] + bytes([PNG[200] ^ 1]) + PNG[201:],
    "a PNG with a chunk of 2 GB": PNG[:33] + b"\x7f\xff\xff\xfftEXt" + PNG[33:],
}


@pytest.fixture
def make(tmp_path, noise_images):
    """Write 160 images of 8 identities, with those in ``bad`` replaced."""

    def write(bad, name="source", order=lambda i: i // 20):
        images = [(bad.get(i, noise_images[i % 40]), order(i)) for i in range(160)]
        write_layout(tmp_path / name, images, SIZE)
        return tmp_path / name

    return write


@pytest.mark.parametrize("damage", DAMAGED)
def test_undecodable_images_are_quarantined(make, tmp_path, damage):
    source = make({7: DAMAGED[damage], 130: DAMAGED[damage]})
    store = convert(source, tmp_path / "a.lmdb", skip_bad=True, decode=True)
    assert len(store) == 158
    lines = list(read_quarantine(store.path))
    assert [line.key for line in lines] == [8, 131]
    assert all("damaged" in line.reason for line in lines)
    for image in store.read_many(np.arange(158)):
        decode(image)


@pytest.mark.parametrize("damage", DAMAGED)
def test_without_skip_bad_the_first_one_stops_the_conversion(make, tmp_path, damage):
    source = make({7: DAMAGED[damage]})
    with pytest.raises(
        UserError, match=r"record 8 at byte \d+: the image is damaged: .*--skip-bad"
    ):
        convert(source, tmp_path / "a.lmdb", decode=True)
    assert not (tmp_path / "a.lmdb").exists()
    assert len(convert(source, tmp_path / "a.lmdb")) == 160  # all are good by their headers


def test_intact_images_give_the_same_store_as_without_decode(make, tmp_path):
    source = make({3: JPEG[:-2], 9: PNG})
    plain = convert(source, tmp_path / "plain.lmdb")
    decoded = convert(source, tmp_path / "decoded.lmdb", decode=True)
    assert content_of(plain.path) == content_of(decoded.path)
    assert decoded.read(3) == JPEG[:-2]


def count_decoded(monkeypatch):
    counts = []
    objections = DecodeCheck.objections

    def counted(self, images, which):
        counts.append(len(which))
        return objections(self, images, which)

    monkeypatch.setattr(DecodeCheck, "objections", counted)
    return counts


def test_an_undecoded_store_is_decoded_once(make, tmp_path, monkeypatch):
    source = make({})
    convert(source, tmp_path / "a.lmdb")
    counts, calls = count_decoded(monkeypatch), []
    convert(source, tmp_path / "a.lmdb", lambda *call: calls.append(call), decode=True)
    assert sum(counts) == 160
    assert calls[-1] == (160, 160)
    convert(source, tmp_path / "a.lmdb", decode=True)
    assert sum(counts) == 160


def test_a_decoded_store_is_not_decoded_again(make, tmp_path, monkeypatch):
    source = make({})
    counts = count_decoded(monkeypatch)
    for decoding in (True, True, False):
        convert(source, tmp_path / "a.lmdb", decode=decoding)
    assert sum(counts) == 160


def test_bad_images_of_an_undecoded_store_are_counted(make, tmp_path):
    source = make({7: JPEG[:-90], 130: JPEG[:-90]})
    convert(source, tmp_path / "a.lmdb")
    for _ in range(2):
        with pytest.raises(UserError, match=r"2 of 160 images .* image 7 \(key 8\).*ends early"):
            convert(source, tmp_path / "a.lmdb", decode=True)
    assert len(convert(source, tmp_path / "a.lmdb")) == 160


# Interruption and resumption


def start(source, destination, commits, **options):
    """A conversion in a forked process that is killed after ``commits`` commits."""
    child = os.fork()
    if child == 0:
        replace, left = os.fdatasync, [commits * 4]

        def die_later(file):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(file)

        os.fdatasync = die_later
        try:
            convert(source, destination, **options)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    state = load_state(destination.with_name(destination.name + ".partial"))
    assert state is not None
    assert 0 < state.read < 160
    return state


def descending(i):
    return 7 - i // 20


@pytest.mark.usefixtures("many_batches")
@pytest.mark.parametrize("order", [lambda i: i // 20, descending])
@pytest.mark.parametrize("commits", [2, 3])
def test_killed_and_resumed_it_gives_the_same_content(make, tmp_path, monkeypatch, order, commits):
    source = make({7: JPEG[:-90], 130: PNG[:-90]}, order=order)
    options = {"skip_bad": True, "decode": True}
    wanted = content_of(convert(source, tmp_path / "wanted.lmdb", **options).path)
    state = start(source, tmp_path / "a.lmdb", commits, **options)
    counts = count_decoded(monkeypatch)
    store = convert(source, tmp_path / "a.lmdb", **options)
    assert content_of(store.path) == wanted
    assert sum(counts) == 160 - state.read - state.skipped
    assert len(list(read_quarantine(store.path))) == 2


@pytest.mark.usefixtures("many_batches")
def test_begun_without_decode_it_starts_over_with_it(make, tmp_path):
    source = make({7: JPEG[:-90], 130: JPEG[:-90]})
    start(source, tmp_path / "a.lmdb", 3, skip_bad=True)
    store = convert(source, tmp_path / "a.lmdb", skip_bad=True, decode=True)
    assert [line.key for line in read_quarantine(store.path)] == [8, 131]
    wanted = convert(source, tmp_path / "wanted.lmdb", skip_bad=True, decode=True)
    assert content_of(store.path) == content_of(wanted.path)


@pytest.mark.usefixtures("many_batches")
def test_begun_with_decode_it_resumes_without(make, tmp_path, monkeypatch):
    source = make({150: JPEG[:-90]})
    start(source, tmp_path / "a.lmdb", 3, decode=True)
    assert len(convert(source, tmp_path / "a.lmdb")) == 160
    with pytest.raises(UserError, match="1 of 160 images cannot be decoded"):
        convert(source, tmp_path / "a.lmdb", decode=True)


@pytest.mark.usefixtures("many_batches")
def test_after_skipped_images_resuming_requires_decode(make, tmp_path):
    source = make({7: JPEG[:-90]})
    start(source, tmp_path / "a.lmdb", 3, skip_bad=True, decode=True)
    with pytest.raises(UserError, match="decoded its images and skipped 1; give --decode again"):
        convert(source, tmp_path / "a.lmdb", skip_bad=True)


def test_an_image_too_large_for_a_face_is_a_bad_record(tmp_path):
    data = bytearray(JPEG)
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    write_layout(tmp_path / "source", [(bytes(data), 0)], (65535, 65535))
    for decoding in (False, True):
        with pytest.raises(UserError, match="65535x65535 pixels; an aligned face is far smaller"):
            convert(tmp_path / "source", tmp_path / "a.lmdb", decode=decoding)
