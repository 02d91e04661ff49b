"""The behaviour shared by all kinds of archives."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from test_tars import labels_of, write_tar
from test_zips import write_zip

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.sources.quarantine import read_quarantine

Writer = Callable[[Path, Iterable[tuple[str, bytes]]], Path]


@pytest.fixture(params=["tar", "tar.gz", "zip"])
def write(request) -> Writer:
    """Writes an archive of each kind below a folder."""

    def written(folder: Path, files: Iterable[tuple[str, bytes]]) -> Path:
        path = folder / f"a.{request.param}"
        if request.param == "zip":
            return write_zip(path, files)
        return write_tar(path, files, "w:gz" if request.param == "tar.gz" else "w")

    return written


@pytest.mark.filterwarnings("ignore:Duplicate name")
class TestFilesOfOneName:
    """The first is used; each later one is a bad record."""

    def test_an_error_names_them(self, tmp_path, noise_images, write):
        path = write(tmp_path, [(f"p/{n}.jpg", noise_images[n]) for n in (0, 1, 0)])
        with pytest.raises(UserError, match=r"p/0\.jpg.*has an earlier file of this name"):
            convert(path, tmp_path / "a.lmdb")

    def test_the_first_is_kept(self, tmp_path, noise_images, write):
        files = [("p/0.jpg", noise_images[0]), ("q/1.jpg", noise_images[1])]
        path = write(tmp_path, [*files, ("p/0.jpg", noise_images[2])])
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert [*store.read_many(store.rows)] == noise_images[:2]
        (skipped,) = read_quarantine(store.path)
        assert "earlier file" in skipped.reason

    def test_a_sample_keeps_its_first_image_and_label(self, tmp_path, noise_images, write):
        first = [("a.jpg", noise_images[0]), ("a.cls", b"4")]
        second = [("a.jpg", noise_images[1]), ("a.cls", b"5")]
        path = write(tmp_path, [*first, *second, ("b.jpg", noise_images[2]), ("b.cls", b"6")])
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert labels_of(store) == {"a.jpg": 4, "b.jpg": 6}
        assert store.read(0) == noise_images[0]
        assert len(list(read_quarantine(store.path))) == 2

    def test_positions_ascend_if_another_image_follows(self, tmp_path, noise_images, write):
        names = ("a.jpg", "a.cls", "b.jpg", "b.cls", "a.jpg", "a.png", "a.cls")
        path = write(tmp_path, [(n, noise_images[0] if n[-1] == "g" else b"1") for n in names])
        store = convert(path, tmp_path / "a.lmdb", skip_bad=True)
        assert sorted(store.source_names) == ["a.jpg", "a.png", "b.jpg"]
        places = [each.offset for each in read_quarantine(store.path)]
        assert len(places) == 2
        assert places == sorted(places)

    def test_other_archives_may_use_the_name_too(self, tmp_path, noise_images, write):
        for number in range(2):
            write(tmp_path / "set", [("p/0.jpg", noise_images[number])]).rename(
                tmp_path / "set" / f"{number}.{write(tmp_path, []).name.partition('.')[2]}"
            )
        assert len(convert(tmp_path / "set", tmp_path / "a.lmdb")) == 2


class TestOtherSystems:
    def test_folders_of_systems_are_ignored(self, tmp_path, noise_images, write):
        files = [("9/@eaDir/b.jpg/s.jpg", noise_images[1]), ("__MACOSX/9/a.jpg", noise_images[2])]
        path = write(tmp_path, [("9/b.jpg", noise_images[0]), *files])
        assert list(convert(path, tmp_path / "out.lmdb").source_names) == ["9/b.jpg"]

    def test_backslashes_are_slashes(self, tmp_path, noise_images, write):
        path = write(tmp_path, [(rf"p\{i // 2}\{i}.jpg", noise_images[i]) for i in range(4)])
        assert convert(path, tmp_path / "out.lmdb").labels.tolist() == [0, 0, 1, 1]

    def test_archives_in_an_archive_are_named(self, tmp_path, write):
        path = write(tmp_path, [("part1.zip", b"PK"), ("read.me", b"hello")])
        said = r"holds no good images, but files \.me, \.zip \(unpack it, and give the archives"
        with pytest.raises(UserError, match=said):
            convert(path, tmp_path / "out.lmdb")


class TestNamesWithDots:
    """Frames such as ``0.555.jpg`` have one key of WebDataset's; no image gets lost."""

    @pytest.mark.parametrize(("folder", "identities"), [("", 0), ("anna/video/", 1)])
    def test_many_images_without_labels(self, tmp_path, noise_images, write, folder, identities):
        files = [(f"{folder}0.{n:03}.jpg", noise_images[n % 2]) for n in range(40)]
        store = convert(write(tmp_path, files), tmp_path / "a.lmdb")
        assert list(store.source_names) == [name for name, _ in files]
        assert store.identities == identities
