import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from store_content import content_of

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.inspection import inspect_path
from curation.sources.quarantine import read_quarantine
from curation.sources.samples import ArchiveError, Roles
from curation.sources.shards import find_shards
from curation.sources.tar_headers import archive_files
from curation.sources.tars import _Plain
from curation.subsets import write_keep
from curation.subsets.text_lists import By
from curation.verify import verify


def write_tar(
    path: Path,
    files: Iterable[tuple[str | tarfile.TarInfo, bytes]],
    mode: str = "w",
    form: int = tarfile.PAX_FORMAT,
) -> Path:
    """An archive of these files, created by Python's ``tarfile``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=form) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def samples(noise_images) -> list[tuple[str, bytes]]:
    """Ten WebDataset samples with the unsorted labels 7, 3 and 5."""
    files = []
    for number in range(10):
        files.append((f"{number:04d}.jpg", noise_images[number]))
        files.append((f"{number:04d}.cls", str((7, 3, 5)[number % 3]).encode()))
    return files


def labels_of(store) -> dict[str, int]:
    """Each image's label in the source, by its name."""
    labels = store.source_labels_of(store.rows).tolist()
    return dict(zip(store.source_names, labels, strict=True))


class TestWebDataset:
    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
    def test_images_and_labels_are_unchanged(self, tmp_path, samples, noise_images, suffix):
        mode = "w" if suffix == ".tar" else "w:gz"
        for number in range(2):
            write_tar(tmp_path / "set" / f"{number}{suffix}", samples[number * 10 :][:10], mode)
        store = convert(tmp_path / "set", tmp_path / "train.lmdb")
        assert labels_of(store) == {f"{i:04d}.jpg": (7, 3, 5)[i % 3] for i in range(10)}
        names = [int(name[:4]) for name in store.source_names]
        assert [store.read(i) for i in range(10)] == [noise_images[i] for i in names]
        assert store.source_keys.tolist() == names
        assert inspect_path(tmp_path / "set")["files"] == 2
        assert verify(tmp_path / "set", decoding=True)["sound"]
        assert not (store.path / "images.bin").exists()

    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    def test_archives_joined_by_cat_are_read_to_the_end(self, tmp_path, samples, suffix):
        mode = "w" if suffix == ".tar" else "w:gz"
        parts = [
            write_tar(tmp_path / f"{number}{suffix}", samples[number * 10 :][:10], mode)
            for number in range(2)
        ]
        joined = tmp_path / f"all{suffix}"
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        store = convert(joined, tmp_path / "all.lmdb")
        whole = convert(write_tar(tmp_path / f"whole{suffix}", samples, mode), tmp_path / "w.lmdb")
        assert [*store.read_many(store.rows)] == [*whole.read_many(whole.rows)]

    def test_other_bytes_after_an_archive_are_a_bad_record(self, tmp_path, samples):
        archive = write_tar(tmp_path / "a.tar", samples)
        archive.write_bytes(archive.read_bytes() + b"not an archive")
        with pytest.raises(UserError, match="damaged at byte 40,960"):
            convert(archive, tmp_path / "a.lmdb")

    def test_zeros_after_an_archive_are_ignored_up_to_a_limit(self, tmp_path, samples, monkeypatch):
        archive = write_tar(tmp_path / "a.tar", samples)
        archive.write_bytes(archive.read_bytes() + bytes(100_100))
        assert len(convert(archive, tmp_path / "a.lmdb")) == 10
        monkeypatch.setattr("curation.sources.tar_headers._MOST_ZEROS", 100)
        with pytest.raises(UserError, match="51,200 zero bytes follow"):
            convert(archive, tmp_path / "b.lmdb")

    def test_plain_and_gzipped_archives_are_equal(self, tmp_path, samples):
        plain = convert(write_tar(tmp_path / "a.tar", samples), tmp_path / "a.lmdb")
        packed = convert(write_tar(tmp_path / "b.tar.gz", samples, "w:gz"), tmp_path / "b.lmdb")
        assert plain.digest == packed.digest
        assert [*plain.read_many(plain.rows)] == [*packed.read_many(plain.rows)]

    @pytest.mark.parametrize(
        ("extension", "content", "label"),
        [
            ("cls", b"12\n", 12),
            ("json", b'{"label": 12, "id": 4}', 12),
            ("json", b'{"caption": "a face"}', -1),
            ("json", b"12", 12),
            ("json", b"[12]", 12),
            ("json", b'{"label": ["12"]}', 12),
            ("json", b'{"label": [null]}', -1),
            ("cls", b"[12]\n", 12),
            ("txt", b"12", 12),
            ("txt", b"a photo of 12 people", -1),
            ("cls", b"-1", -1),
            ("cls", b"\xef\xbb\xbf12\r\n", 12),
            ("cls", "12\n".encode("utf-16"), 12),
            ("json", b'\xef\xbb\xbf{"label": 12}', 12),
            ("txt", b"J\xfcrgen", -1),
            ("cls", b"m.0abc", 0),
            ("json", b'{"label": "Anna Smith"}', 0),
        ],
    )
    def test_labels_are_read_from_their_files(
        self, tmp_path, noise_images, extension, content, label
    ):
        files = [("a.jpg", noise_images[0]), (f"a.{extension}", content)]
        store = convert(write_tar(tmp_path / "a.tar", files), tmp_path / "a.lmdb")
        assert labels_of(store) == {"a.jpg": label}

    @pytest.mark.parametrize(
        ("files", "complaint"),
        [
            ({"a.cls": b"anna"}, r"a\.jpg: a\.cls: the label 'anna' is not a whole number"),
            ({"a.cls": b"-2"}, r"the label is -2; allowed are whole numbers from 0"),
            ({"a.cls": b"9" * 30}, "the label is 9999"),
            ({"a.json": b'{"label": "x"}'}, "the label 'x' is not a whole number"),
            (
                {"a.json": b"[1, 2]"},
                r"a\.json: the label is a list of 2 values, \[1, 2\]; expected",
            ),
            ({"a.json": b"[]"}, "the label is a list of 0 values"),
            ({"a.json": b"[[[["}, r"a\.json: "),
            ({"a.cls": b"1" * 100_000}, "it has 100,000 bytes, more than 65,536"),
        ],
    )
    def test_bad_samples_are_named_or_skipped(self, tmp_path, noise_images, files, complaint):
        content = [("0.jpg", noise_images[0]), ("0.cls", b"1"), ("a.jpg", noise_images[1])]
        path = write_tar(tmp_path / "a.tar", [*content, *files.items()])
        with pytest.raises(UserError, match=complaint):
            convert(path, tmp_path / "a.lmdb")
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert (len(store), store.meta.skipped) == (1, 1)
        assert next(read_quarantine(store.path)).reason.startswith("a.")

    @pytest.mark.parametrize("count", [2, 40])
    def test_all_images_of_one_sample_are_bad(self, tmp_path, noise_images, count):
        labelled = [("0.jpg", noise_images[0]), ("0.cls", b"1")]
        shared = [
            (f"v1.{n}.{end}", noise_images[1]) for n in range(count) for end in ("jpg", "cls")
        ]
        path = write_tar(tmp_path / "a.tar", [*labelled, *shared])
        with pytest.raises(UserError, match=r"its sample has .* images: files with one name up to"):
            convert(path, tmp_path / "a.lmdb")
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert (len(store), store.meta.skipped) == (1, count)

    def test_a_label_without_an_image_is_bad(self, tmp_path, noise_images):
        files = [("0.jpg", noise_images[0]), ("0.cls", b"1"), ("1.cls", b"1")]
        with pytest.raises(UserError, match=r"1\.cls: its sample has no image"):
            convert(write_tar(tmp_path / "a.tar", files), tmp_path / "a.lmdb")

    @pytest.mark.parametrize("first", ["images", "labels"])
    @pytest.mark.parametrize("folder", ["", "a/"])
    @pytest.mark.parametrize("label", ["cls", "json", "txt"])
    def test_labels_apart_from_their_images_are_bad(
        self, tmp_path, noise_images, first, folder, label
    ):
        images = [(f"{folder}{i}.jpg", noise_images[i]) for i in range(3)]
        labels = [(f"{folder}{i}.{label}", b"1") for i in range(3)]
        files = images + labels if first == "images" else labels + images
        path = write_tar(tmp_path / "a.tar", files)
        with pytest.raises(UserError, match=rf"a\.tar: {folder}0\.{label}: .*(sorted|first image)"):
            convert(path, tmp_path / "a.lmdb")
        assert convert(path, tmp_path / "a.lmdb", skip_bad=True).meta.skipped == 3

    def test_the_first_image_may_have_no_label(self, tmp_path, noise_images):
        files = [("0.jpg", noise_images[0]), ("1.jpg", noise_images[1]), ("1.cls", b"4")]
        store = convert(write_tar(tmp_path / "a.tar", files), tmp_path / "a.lmdb")
        assert labels_of(store) == {"0.jpg": -1, "1.jpg": 4}

    def test_texts_that_are_not_labels_may_be_in_folders(self, tmp_path, noise_images):
        texts = [("README.txt", b"faces"), ("a/about.json", b"{"), ("a/note.txt", b"3 faces")]
        files = [("a/0.jpg", noise_images[0]), *texts, ("b/1.jpg", noise_images[1])]
        store = convert(write_tar(tmp_path / "a.tar", files), tmp_path / "a.lmdb")
        assert labels_of(store) == {"a/0.jpg": 0, "b/1.jpg": 1}

    def test_images_in_unsupported_formats_are_bad(self, tmp_path, noise_images):
        files = [("0.jpg", noise_images[0]), ("0.cls", b"1"), ("1.webp", b"RIFF"), ("1.cls", b"1")]
        with pytest.raises(UserError, match=r"1\.webp: .*JPEG"):
            convert(write_tar(tmp_path / "a.tar", files), tmp_path / "a.lmdb")


class TestTrees:
    def test_folders_are_identities_if_there_are_no_labels(self, tmp_path, noise_images):
        names = ["z/b/1.jpg", "z/b/2.jpg", "a/1.jpg", "unlabelled/1.jpg", "top.jpg", "a/._2.jpg"]
        files = [(name, noise_images[i]) for i, name in enumerate(names)]
        store = convert(write_tar(tmp_path / "a.tar", files), tmp_path / "a.lmdb")
        assert labels_of(store) == dict(zip(names[:5], [0, 0, 1, -1, -1], strict=True))

    def test_a_folder_may_continue_in_the_next_archive(self, tmp_path, noise_images):
        for number in range(2):
            files = [(f"{name}/{number}.jpg", noise_images[number]) for name in "ab"]
            write_tar(tmp_path / "set" / f"{number}.tar", files)
        store = convert(tmp_path / "set", tmp_path / "a.lmdb")
        assert store.labels.tolist() == [0, 0, 1, 1]


class TestNames:
    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    def test_long_names_and_other_scripts_are_read(self, tmp_path, noise_images, form):
        names = ["a" * 90 + "/" + "b" * 90 + ".jpg", "./c/d.jpg"]
        if form != tarfile.USTAR_FORMAT:
            names += ["é" * 80 + "/" + "x" * 200 + ".jpg", "日本/1.jpg"]
        files = [(name, noise_images[i]) for i, name in enumerate(names)]
        store = convert(write_tar(tmp_path / "a.tar", files, form=form), tmp_path / "a.lmdb")
        assert list(store.source_names) == [name.removeprefix("./") for name in names]
        assert [store.read(i) for i in range(len(names))] == noise_images[: len(names)]

    def test_names_that_point_elsewhere_are_only_names(self, tmp_path, noise_images):
        files = [("/etc/x.jpg", noise_images[0]), ("../../y.jpg", noise_images[1])]
        store = convert(write_tar(tmp_path / "a.tar", files), tmp_path / "a.lmdb")
        assert store.source_names == ("etc/x.jpg", "../../y.jpg")


class TestPatterns:
    def test_shards_are_a_file_a_folder_or_a_pattern(self, tmp_path):
        for name in ("s-0009.tar", "s-0010.tar", "s-0011.tar", ".x.tar", "notes.txt"):
            (tmp_path / name).write_bytes(b"")
        found = {
            "": [9, 10, 11],
            "s-0010.tar": [10],
            "s-{0009..0010}.tar": [9, 10],
            "s-{0011..0009}.tar": [9, 10, 11],
            "s-00{09,11}.tar": [9, 11],
            "s-*.tar": [9, 10, 11],
            "s-001?.tar": [10, 11],
            "notes.txt": [],
        }
        for pattern, numbers in found.items():
            shards = find_shards(tmp_path / pattern, (".tar",))
            assert [int(path.stem[2:]) for path in shards] == numbers

    @pytest.mark.parametrize(
        ("pattern", "complaint"),
        [
            ("s-{0..3}.tar", r"s-0\.tar does not exist; correct the pattern"),
            ("s-{0..999999999999}.tar", "more than 100,000 files"),
            ("{0..9999}{0..9999}.tar", "more than 100,000 files"),
        ],
    )
    def test_every_file_of_a_pattern_must_exist(self, tmp_path, pattern, complaint):
        with pytest.raises(UserError, match=complaint):
            convert(tmp_path / pattern, tmp_path / "a.lmdb")


class TestDamage:
    @pytest.mark.parametrize(
        ("kind", "what"),
        [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.FIFOTYPE, "device")],
    )
    def test_links_and_devices_are_never_followed(self, tmp_path, noise_images, kind, what):
        info = tarfile.TarInfo("b/link.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        files = [("a/0.jpg", noise_images[0]), (info, b""), ("a/1.jpg", noise_images[1])]
        path = write_tar(tmp_path / "a.tar", files)
        with pytest.raises(UserError, match=rf"b/link\.jpg: it is a {what} in the archive"):
            convert(path, tmp_path / "a.lmdb")
        assert len(convert(path, tmp_path / "a.lmdb", skip_bad=True)) == 2

    def test_sparse_files_are_bad(self, tmp_path, noise_images):
        info = tarfile.TarInfo("a/0.jpg")
        info.pax_headers = {"GNU.sparse.size": "1000000000000"}
        path = write_tar(tmp_path / "a.tar", [(info, noise_images[0])])
        with pytest.raises(UserError, match="it is a sparse file in the archive"):
            convert(path, tmp_path / "a.lmdb")

    def test_files_with_a_huge_stated_size_take_no_memory(self, tmp_path, noise_images):
        path = write_tar(tmp_path / "a.tar", [("a/0.jpg", noise_images[0])])
        data = bytearray(path.read_bytes())
        data[124:136] = b"\x80" + (1 << 60).to_bytes(11, "big")
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 256)
        path.write_bytes(data)
        with pytest.raises(UserError, match="it has 1,152,921,504,606,846,976 bytes, more than"):
            convert(path, tmp_path / "a.lmdb")

    @pytest.mark.parametrize("size", [1 << 20, (1 << 44) - 512, 1 << 60])
    def test_a_file_that_exceeds_the_archive_is_reported(self, tmp_path, noise_images, size):
        path = write_tar(tmp_path / "a.tar", [("a/0.jpg", noise_images[0]), ("b.npy", b"")])
        data = bytearray(path.read_bytes())
        begin = data.index(b"b.npy")
        data[begin + 124 : begin + 136] = b"\x80" + size.to_bytes(11, "big")
        block = data[begin : begin + 512]
        data[begin + 148 : begin + 156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 256)
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"fewer than the {size:,} bytes of a file in it"):
            convert(path, tmp_path / "a.lmdb")
        assert len(convert(path, tmp_path / "a.lmdb", skip_bad=True)) == 1

    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    @pytest.mark.parametrize("share", [0.01, 0.3, 0.6])
    def test_truncation_is_reported_and_the_rest_is_read(self, tmp_path, samples, suffix, share):
        whole = write_tar(tmp_path / "set" / "0.tar", samples)
        cut = write_tar(
            tmp_path / "set" / f"1{suffix}", samples, "w:gz" if suffix[-1] == "z" else "w"
        )
        os.truncate(cut, int(share * cut.stat().st_size))
        with pytest.raises(UserError, match=r"1\.tar.*(cut off|cannot be read|no tar archive)"):
            convert(tmp_path / "set", tmp_path / "a.lmdb")
        if share > 0.1:
            store = convert(tmp_path / "set", tmp_path / "a.lmdb", skip_bad=True)
            assert len(store) >= 10
            assert store.meta.skipped >= 1
        assert whole.exists()

    @pytest.mark.parametrize("order", [("jpg", "cls"), ("cls", "jpg")], ids="-".join)
    def test_a_truncated_sample_is_reported_as_damage(self, tmp_path, noise_images, order):
        content = {"jpg": noise_images, "cls": [b"1"] * 3}
        files = [(f"{i}.{ending}", content[ending][i]) for i in range(3) for ending in order]
        path = write_tar(tmp_path / "a.tar", files, form=tarfile.USTAR_FORMAT)
        with tarfile.open(path) as archive:
            os.truncate(path, archive.getmembers()[-1].offset + 100)
        with pytest.raises(UserError, match=r"a\.tar: the archive is damaged at byte .*cut off"):
            convert(path, tmp_path / "a.lmdb")
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert (labels_of(store), store.meta.skipped) == ({"0.jpg": 1, "1.jpg": 1}, 1)

    @pytest.mark.parametrize("place", [-8, -4], ids=["checksum", "length"])
    def test_a_wrong_gzip_checksum_is_reported(self, tmp_path, samples, place):
        path = write_tar(tmp_path / "a.tar.gz", samples, "w:gz")
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.tar\.gz: it cannot be read past byte"):
            convert(path, tmp_path / "a.lmdb")
        assert convert(path, tmp_path / "a.lmdb", skip_bad=True).meta.skipped == 1

    def test_progress_ends_at_the_stored_size(self, tmp_path, samples):
        seen = []
        path = write_tar(tmp_path / "a.tar", samples)
        convert(path, tmp_path / "a.lmdb", lambda *counts: seen.append(counts))
        assert seen[-1] == (10, 10)

    def test_a_text_named_like_an_archive_is_not_a_list(self, tmp_path):
        (tmp_path / "a.tar").write_text("0 1 a.jpg\n")
        with pytest.raises(UserError, match=r"a\.tar is .*not a tar archive|is no tar archive"):
            convert(tmp_path / "a.tar", tmp_path / "a.lmdb")

    def test_a_bomb_is_not_unpacked(self, tmp_path, samples):
        with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as file:
            info = tarfile.TarInfo("zeros.bin")
            info.size = 1 << 40
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.write(bytes(1 << 20))
        with pytest.raises(UserError, match=r"a file in it has 1,099,511,627,776 bytes"):
            convert(tmp_path / "a.tar.gz", tmp_path / "a.lmdb")

    @pytest.mark.parametrize("content", [b"", b"\0" * 2048, b"<html>", b"x" * 2048, b"\x1f\x8bxx"])
    def test_a_file_that_is_not_an_archive_is_reported(self, tmp_path, content):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.tar"):
            convert(tmp_path / "a.tar", tmp_path / "a.lmdb", skip_bad=True)

    def test_impossible_pax_headers_are_damage(self):
        for data in (b"", b"5", b"99 path=x\n", b"0 path=x\n", b"11 size=-9\n", b"7 nokey\n"):
            info = tarfile.TarInfo("x")
            info.type, info.size = b"x", len(data)
            block = info.tobuf(tarfile.USTAR_FORMAT) + data.ljust(512, b"\0")
            with pytest.raises(ArchiveError, match=r"pax|cut off"):
                list(archive_files(_Plain(io.BytesIO(block)), Roles()))

    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
    def test_names_longer_than_any_path_are_damage(self, tmp_path, noise_images, form):
        files = [("a/0.jpg", noise_images[0]), (f"a/{'x' * 5000}.jpg", noise_images[1])]
        path = write_tar(tmp_path / "a.tar", files, form=form)
        with pytest.raises(UserError, match="the name of a file has 5,006 bytes, more than 4,096"):
            convert(path, tmp_path / "a.lmdb")

    @pytest.mark.parametrize("name", ["a.jpg", f"{60 * 'b'}/{60 * 'c'}.jpg"], ids=["short", "long"])
    def test_a_header_cut_anywhere_is_damage(self, name):
        """Its last bytes are zeros, so the checksum of a cut header may be right."""
        header = tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)
        for length in range(len(header)):
            with pytest.raises(ArchiveError, match="cut off"):
                list(archive_files(_Plain(io.BytesIO(header[:length])), Roles()))

    def test_a_pax_header_of_many_records_is_read_quickly(self):
        data = b"6 a=b\n" * 170_000
        info = tarfile.TarInfo("x")
        info.type, info.size = b"x", len(data)
        block = info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
        begin = time.process_time()
        files = archive_files(_Plain(io.BytesIO(block + tarfile.TarInfo("a.jpg").tobuf())), Roles())
        assert next(files).name == "a.jpg"
        assert time.process_time() - begin < 5


class TestResuming:
    @pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
    @pytest.mark.parametrize("shuffled", [False, True])
    @pytest.mark.parametrize("stop", [300, 1200])
    def test_a_killed_conversion_is_resumed(self, tmp_path, noise_images, suffix, shuffled, stop):
        files = []
        for number in range(1500):
            label = (number * 7919) % 500 if shuffled else number // 3
            files.append((f"{number}.jpg", noise_images[number % 40]))
            files.append((f"{number}.cls", str(label).encode()))
        path = write_tar(tmp_path / f"a{suffix}", files, "w" if suffix == ".tar" else "w:gz")
        program = (
            "import os, sys; from curation.conversion import build, convert\n"
            "build.COMMIT_BYTES = 1 << 16; build.COMMIT_IMAGES = 100\n"
            "def stop(done, total):\n"
            f"    if done > {stop}: os.kill(os.getpid(), {signal.SIGKILL.value})\n"
            "convert.convert(sys.argv[1], sys.argv[2], stop)"
        )
        command = [sys.executable, "-c", program, str(path), str(tmp_path / "a.lmdb")]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        stopped = convert(path, tmp_path / "a.lmdb")
        assert content_of(stopped.path) == content_of(convert(path, tmp_path / "b.lmdb").path)
        assert {file.name for file in stopped.path.iterdir()} == {"data.mdb", "source.json"}


class TestLists:
    @pytest.mark.parametrize("listed", ["0003.jpg\n0004\n", "0003\n0004.jpg\n"])
    def test_clean_lists_name_images_by_file_or_key(self, tmp_path, samples, listed):
        store = convert(write_tar(tmp_path / "a.tar", samples), tmp_path / "a.lmdb")
        (tmp_path / "list.txt").write_text(listed)
        view = write_keep(tmp_path / "a.view", store, tmp_path / "list.txt", By.NAME)
        assert sorted(view.source_keys.tolist()) == [3, 4]
