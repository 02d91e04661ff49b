"""Folders of images as sources of a conversion."""

import os
import random
import re
import socket

import pytest
from store_content import content_of

import curation.conversion.build
import curation.sources.image_files
from curation.conversion.convert import convert
from curation.conversion.journal import load_state
from curation.errors import UserError
from curation.sources.folders import natural_order
from curation.sources.quarantine import read_quarantine


class TestFolders:
    def test_each_folder_is_an_identity_in_natural_order(self, folder, tmp_path):
        store = convert(folder, tmp_path / "train.lmdb")
        assert store.source_names == (
            "9/a2.jpg",
            "9/a10.jpg",
            "9/b.jpg",
            "10/x.JPEG",
            "10/deep/er/y.jpg",
        )
        assert store.labels.tolist() == [0, 0, 0, 1, 2]
        assert store.meta.source_kind == "folder"

    def test_names_need_not_be_utf8(self, folder, tmp_path):
        odd = folder.rename(folder.with_name(os.fsdecode(b"faces\xff")))
        (odd / "9" / "b.jpg").rename(odd / "9" / os.fsdecode(b"b\xfe.jpg"))
        store = convert(odd, tmp_path / "train.lmdb")
        assert store.meta.source_name == r"faces\udcff"
        assert store.source_names[2] == os.fsdecode(b"9/b\xfe.jpg")
        assert len(convert(odd, tmp_path / "train.lmdb")) == 5

    def test_folders_of_systems_are_ignored(self, folder, tmp_path, noise_images):
        names = list(convert(folder, tmp_path / "before.lmdb").source_names)
        for name in ("9/@eaDir/b.jpg", "__MACOSX/9", "$RECYCLE.BIN"):
            (folder / name).mkdir(parents=True)
            (folder / name / "thumb.jpg").write_bytes(noise_images[0])
        assert list(convert(folder, tmp_path / "after.lmdb").source_names) == names

    def test_bytes_are_copied_unchanged(self, folder, tmp_path):
        store = convert(folder, tmp_path / "train.lmdb")
        for i, name in enumerate(store.source_names):
            assert store.read(i) == (folder / name).read_bytes()

    def test_a_second_conversion_notices_only_a_changed_file(self, folder, tmp_path):
        first = convert(folder, tmp_path / "train.lmdb")
        os.utime(folder / "9" / "b.jpg")
        assert convert(folder, tmp_path / "train.lmdb").digest == first.digest
        data = bytearray((folder / "9" / "b.jpg").read_bytes())
        data[-5] ^= 1
        (folder / "9" / "b.jpg").write_bytes(data)
        with pytest.raises(UserError, match="made from another source"):
            convert(folder, tmp_path / "train.lmdb")

    def test_images_outside_identities_are_refused_or_skipped(self, folder, tmp_path):
        (folder / "stray.png").write_bytes(b"")
        (folder / "sheet 2.jpg").write_bytes(b"")
        with pytest.raises(
            UserError, match=r"2\.jpg: it is not in an identity's folder.*--skip-bad"
        ):
            convert(folder, tmp_path / "train.lmdb")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        assert (len(store), store.identities, store.meta.skipped) == (5, 3, 2)
        listed = [(bad.key, bad.offset, bad.reason) for bad in read_quarantine(store.path)]
        wanted = f"it is not in an identity's folder; expected {folder}/IDENTITY/"
        assert listed == [
            (None, 5, f"sheet 2.jpg: {wanted}sheet 2.jpg"),
            (None, 6, f"stray.png: {wanted}stray.png"),
        ]

    @pytest.mark.parametrize("kind", ["pipe", "device", "socket", "lost link", "annex", "huge"])
    def test_a_special_file_is_a_bad_image_and_never_blocks(self, folder, tmp_path, kind):
        path = folder / "9" / "c.jpg"
        with socket.socket(socket.AF_UNIX) as server:
            match kind:
                case "pipe":
                    os.mkfifo(path)
                case "device":
                    path.symlink_to("/dev/zero")
                case "socket":
                    server.bind(str(path))
                case "lost link":
                    path.symlink_to("elsewhere.jpg")
                case "annex":
                    path.symlink_to("../.git/annex/objects/x.jpg")
                case "huge":
                    os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 10 << 30)
            store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        ((key, _, reason),) = read_quarantine(store.path)
        said = {"pipe": "named pipe", "lost link": "link to elsewhere.jpg", "huge": "at most"}
        assert key == 3
        assert reason.startswith("9/c.jpg: it ")
        assert said.get(kind, kind) in reason

    def test_images_in_unsupported_formats_are_reported(self, folder, tmp_path):
        (folder / "9" / "c.webp").write_bytes(b"RIFF\x24\0\0\0WEBPVP8 ")
        (folder / "9" / "d.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        reasons = [bad.reason for bad in read_quarantine(store.path)]
        assert "neither JPEG nor PNG: it is an image (WebP)" in reasons[0]
        assert "neither JPEG nor PNG: it is a Git LFS pointer" in reasons[1]

    def test_linked_folders_are_read_and_cycles_are_not(self, folder, tmp_path, noise_images):
        outside = tmp_path / "elsewhere"
        outside.mkdir()
        (outside / "z.jpg").write_bytes(noise_images[7])
        (outside / "back").symlink_to(folder)
        (outside / "here").symlink_to(outside)
        (folder / "11").symlink_to(outside)
        (folder / "12").symlink_to(outside)
        (folder / "again").symlink_to(folder / "9")
        (folder / "9" / "up").symlink_to("..")
        names = convert(folder, tmp_path / "train.lmdb").source_names
        assert names[3:] == ("10/x.JPEG", "10/deep/er/y.jpg", "11/z.jpg")

    def test_circular_links_are_bad_images(self, folder, tmp_path):
        (folder / "9" / "c.jpg").symlink_to("d.jpg")
        (folder / "9" / "d.jpg").symlink_to("c.jpg")
        (folder / "9" / "here").symlink_to("here")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        reasons = [bad.reason for bad in read_quarantine(store.path)]
        assert [reason[:18] for reason in reasons] == ["9/c.jpg: it is a l", "9/d.jpg: it is a l"]

    def test_digits_in_other_scripts_sort_as_letters(self, tmp_path, noise_images):
        for name in ("\u00b2x", "2x", "\u0663", "10\u00b2"):
            (tmp_path / "faces" / name).mkdir(parents=True)
            (tmp_path / "faces" / name / "\u00b9.jpg").write_bytes(noise_images[0])
        names = convert(tmp_path / "faces", tmp_path / "train.lmdb").source_names
        assert [name.split("/")[0] for name in names] == ["2x", "10\u00b2", "\u00b2x", "\u0663"]

    def test_an_unfinished_conversion_lists_a_bad_file_once(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(curation.conversion.build, "COMMIT_BYTES", 1)
        monkeypatch.setattr(curation.sources.image_files, "_TOGETHER", 2)
        (folder / "9" / "a1.jpg").symlink_to("nowhere")
        (folder / "stray.jpg").touch()

        def stop(done, total):
            if done > 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(folder, tmp_path / "train.lmdb", stop, skip_bad=True)
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        reasons = [bad.reason.split(":")[0] for bad in read_quarantine(store.path)]
        assert (reasons, len(store)) == (["stray.jpg", "9/a1.jpg"], 5)

    def test_a_bad_file_is_named_and_can_be_skipped(self, folder, tmp_path):
        (folder / "9" / "c.jpg").write_bytes(b"nothing of the kind")
        with pytest.raises(UserError, match=r"9/c\.jpg: the image is neither.*--skip-bad"):
            convert(folder, tmp_path / "train.lmdb")
        store = convert(folder, tmp_path / "train.lmdb", skip_bad=True)
        assert (len(store), store.meta.skipped) == (5, 1)

    def test_a_stopped_conversion_is_resumed(self, tmp_path, noise_images, monkeypatch):
        monkeypatch.setattr(curation.conversion.build, "COMMIT_BYTES", 20_000)
        monkeypatch.setattr(curation.sources.image_files, "_TOGETHER", 4)
        for i in range(60):
            (tmp_path / "faces" / str(i % 7)).mkdir(parents=True, exist_ok=True)
            (tmp_path / "faces" / str(i % 7) / f"{i}.jpg").write_bytes(noise_images[i % 40])
        convert(tmp_path / "faces", tmp_path / "wanted.lmdb")

        class StoppedError(Exception):
            pass

        def stop(done, total):
            if done >= 40:
                raise StoppedError

        with pytest.raises(StoppedError):
            convert(tmp_path / "faces", tmp_path / "train.lmdb", stop)
        assert load_state(tmp_path / "train.lmdb.partial").copied > 0
        convert(tmp_path / "faces", tmp_path / "train.lmdb")
        assert content_of(tmp_path / "train.lmdb") == content_of(tmp_path / "wanted.lmdb")

    def test_names_sort_by_their_words_and_numbers(self):
        def slow(name):
            words = re.findall(r"[0-9]+|[^0-9]+", name)
            return [(0, int(w), "") if w[0] in "0123456789" else (1, 0, w) for w in words], name

        rng = random.Random(0)
        names = ["".join(rng.choices("ab019._\u00b2", k=rng.randrange(8))) for _ in range(5_000)]
        assert sorted(names, key=natural_order) == sorted(names, key=slow)

    @pytest.mark.parametrize("names", [["2", "10"], ["a2b", "a10a"], ["007", "8"], ["1a", "a1"]])
    def test_numbers_in_names_count(self, names):
        assert sorted({*names}, key=natural_order) == names
