"""Labels in unusual places: warnings about them, and the options that find them."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tars import write_tar
from test_zips import write_zip

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.inspection import inspect_path
from curation.sources.label_choice import LabelChoice
from curation.sources.list_tables import PATH_KEYS
from curation.sources.lists import read_list
from curation.store import Store


def people_of(store: Store) -> list[set[str]]:
    """The names of the images of each identity."""
    names = list(store.source_names or [])
    return [
        {name for name, label in zip(names, store.labels.tolist(), strict=True) if label == person}
        for person in range(store.identities)
    ]


def write_tree(kind: str, folder: Path, files: dict[str, bytes]) -> Path:
    if kind == "tar":
        return write_tar(folder / "a.tar", files.items())
    if kind == "zip":
        return write_zip(folder / "a.zip", files.items())
    for name, content in files.items():
        (folder / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "a" / name).write_bytes(content)
    return folder / "a"


def write_json(path: Path, images: list[bytes], objects: list[Any]) -> Path:
    pairs = [
        (f"{number}.{suffix}", content)
        for number, (image, each) in enumerate(zip(images, objects, strict=True))
        for suffix, content in (("jpg", image), ("json", json.dumps(each).encode()))
    ]
    return write_tar(path, pairs)


def write_table(path: Path, images: list[bytes], **columns: list[Any]) -> Path:
    pq.write_table(pa.table({"Image": pa.array(images, pa.binary()), **columns}), path)
    return path


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
class TestIdentityFolder:
    def test_splits_with_the_same_people(self, tmp_path, noise_images, kind):
        names = ["test/anna/2.jpg", "train/anna/1.jpg", "train/ben/1.jpg"]
        files = dict(zip(names, noise_images, strict=False))
        source = write_tree(kind, tmp_path, files)
        (warning,) = inspect_path(source)["warnings"]
        assert "'train/anna' and 'test/anna'" in warning
        assert convert(source, tmp_path / "a.lmdb").identities == 3
        store = convert(source, tmp_path / "b.lmdb", choice=LabelChoice(folder=1))
        assert people_of(store) == [set(names[:2]), set(names[2:])]

    def test_folders_within_a_person(self, tmp_path, noise_images, kind):
        names = ["anna/front/1.jpg", "anna/side/1.jpg", "ben/front/1.jpg"]
        source = write_tree(kind, tmp_path, dict(zip(names, noise_images, strict=False)))
        warnings: list[str] = []
        choice = LabelChoice(folder=2)
        store = convert(source, tmp_path / "a.lmdb", choice=choice, warn=warnings.append)
        assert people_of(store) == [set(names[:2]), set(names[2:])]
        assert not warnings

    def test_an_image_without_such_a_folder_is_unlabelled(self, tmp_path, noise_images, kind):
        files = dict(zip(["anna/side/1.jpg", "ben/2.jpg"], noise_images, strict=False))
        source = write_tree(kind, tmp_path, files)
        store = convert(source, tmp_path / "a.lmdb", choice=LabelChoice(folder=2))
        assert (store.identities, store.unlabelled) == (1, 1)

    def test_names_are_compared_as_they_look(self, tmp_path, noise_images, kind):
        names = [f"{split}/{unicodedata.normalize(split, 'Zoé')}/1.jpg" for split in ("NFC", "NFD")]
        source = write_tree(kind, tmp_path, dict(zip(names, noise_images, strict=False)))
        assert len(inspect_path(source)["warnings"]) == 1
        assert convert(source, tmp_path / "a.lmdb", choice=LabelChoice(folder=1)).identities == 1

    def test_a_store_with_other_labels_is_not_the_same(self, tmp_path, noise_images, kind):
        files = dict(zip(["a/x/1.jpg", "b/x/1.jpg"], noise_images, strict=False))
        source = write_tree(kind, tmp_path, files)
        convert(source, tmp_path / "a.lmdb")
        with pytest.raises(UserError, match=r"a\.lmdb"):
            convert(source, tmp_path / "a.lmdb", choice=LabelChoice(folder=1))


def test_label_files_do_not_count_if_folders_do(tmp_path, noise_images):
    files = {"x/1.jpg": noise_images[0], "x/1.cls": b"7", "x/2.jpg": noise_images[1]}
    source = write_tree("tar", tmp_path, files)
    store = convert(source, tmp_path / "a.lmdb", choice=LabelChoice(folder=1))
    assert store.source_labels.tolist() == [0]
    assert len(store) == 2


class TestLabelKey:
    @pytest.mark.parametrize("key", ["label", "celeb_id", "identity_id", "person_id", "Subject"])
    def test_usual_names(self, tmp_path, noise_images, key):
        tables = write_table(tmp_path / "a.parquet", noise_images[:3], **{key: [4, 9, 4]})
        shard = write_json(tmp_path / "a.tar", noise_images[:3], [{key: n} for n in (4, 9, 4)])
        for number, source in enumerate((tables, shard)):
            store = convert(source, tmp_path / f"{number}.lmdb")
            assert store.source_labels.tolist() == [4, 9]

    def test_other_names_are_listed_and_can_be_chosen(self, tmp_path, noise_images):
        who = ["anna", "ben", "anna"]
        table = write_table(tmp_path / "a.parquet", noise_images[:3], who=who, age=[1, 2, 3])
        shard = write_json(
            tmp_path / "a.tar", noise_images[:3], [{"who": n, "age": 1} for n in who]
        )
        for number, source in enumerate((table, shard)):
            (warning,) = inspect_path(source)["warnings"]
            assert warning.endswith("`--label-key` takes another one: who, age")
            choice = LabelChoice(key="who")
            store = convert(source, tmp_path / f"{number}.lmdb", choice=choice)
            assert store.source_labels_of(store.rows).tolist() == [0, 0, 1]

    def test_a_key_that_no_object_has_is_named(self, tmp_path, noise_images):
        shard = write_json(tmp_path / "a.tar", noise_images[:2], [{"label": 3, "age": 1}] * 2)
        warnings: list[str] = []
        choice = LabelChoice(key="who.id")
        store = convert(shard, tmp_path / "a.lmdb", choice=choice, warn=warnings.append)
        assert store.identities == 0
        assert "no JSON key is called who.id" in warnings[0]

    def test_null_labels_cause_no_warning(self, tmp_path, noise_images):
        shard = write_json(tmp_path / "a.tar", noise_images[:2], [{"label": None, "age": 1}] * 2)
        description = inspect_path(shard)
        assert (description["unlabelled"], description["warnings"]) == (2, [])

    def test_nested_keys(self, tmp_path, noise_images):
        values = [{"who": {"id": n}} for n in (4, 9, None)]
        table = write_table(tmp_path / "a.parquet", noise_images[:3], meta=values)
        shard = write_json(tmp_path / "a.tar", noise_images[:3], [{"meta": v} for v in values])
        for number, source in enumerate((table, shard)):
            choice = LabelChoice(key="meta.who.id")
            store = convert(source, tmp_path / f"{number}.lmdb", choice=choice)
            assert store.source_labels_of(store.rows).tolist() == [4, 9, -1]

    def test_json_columns_of_shards(self, tmp_path, noise_images):
        values = [{"label": n, "url": "x"} for n in (4, 9, 4)]
        table = write_table(tmp_path / "a.parquet", noise_images[:3], json=values)
        assert convert(table, tmp_path / "a.lmdb").source_labels.tolist() == [4, 9]

    def test_a_missing_column_is_an_error_that_lists_the_columns(self, tmp_path, noise_images):
        table = write_table(tmp_path / "a.parquet", noise_images[:1], age=[3])
        with pytest.raises(UserError, match=r"has no column who\.id, but Image, age"):
            convert(table, tmp_path / "a.lmdb", choice=LabelChoice(key="who.id"))

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            (LabelChoice(key="who"), "--label-key is for lists with named columns, tar and zip"),
            (LabelChoice(folder=1), "--identity-folder is for folders, lists"),
        ],
        ids=["key", "folder"],
    )
    def test_sources_without_such_labels(self, tmp_path, noise_images, choice, message):
        source = write_table(tmp_path / "a.parquet", noise_images[:1])
        if choice.key:
            source = write_tree("folder", tmp_path, {"anna/1.jpg": noise_images[0]})
        with pytest.raises(UserError, match=message):
            convert(source, tmp_path / "a.lmdb", choice=choice)


def test_many_images_of_one_person_are_doubted(tmp_path, noise_images):
    files = {f"img_align/{number:06}.jpg": noise_images[0] for number in range(100)}
    (warning,) = inspect_path(write_tree("tar", tmp_path, files))["warnings"]
    assert "100 images have the same label" in warning
    assert "--unlabelled" in warning


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_files_with_an_unusual_suffix_hold_labels(tmp_path, noise_images, kind):
    files: dict[str, bytes] = {}
    for number, name in enumerate(("anna", "ben", "anna")):
        files |= {f"{number}.jpg": noise_images[number], f"{number}.ID": name.encode()}
        files[f"{number}.npy"] = b"\x93NUMPY"
    source = write_tree(kind, tmp_path, files)
    [warning] = inspect_path(source)["warnings"]
    assert warning.startswith("files with the suffixes id, npy were not read; if one of them")
    assert "`--label-key id`" in warning
    told: list[str] = []
    store = convert(source, tmp_path / "a.lmdb", choice=LabelChoice("id"), warn=told.append)
    assert people_of(store) == [{"0.jpg", "2.jpg"}, {"1.jpg"}]
    assert told == []


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_files_without_a_suffix_hold_no_labels(tmp_path, noise_images, kind):
    files: dict[str, bytes] = {}
    for number in range(2):
        files |= {f"a/{number}.jpg": noise_images[number], f"a/{number}.": b"7"}
    store = convert(write_tree(kind, tmp_path, files), tmp_path / "a.lmdb")
    assert (store.source_labels.tolist(), store.identities) == ([0], 1)


def test_labels_of_a_store_cannot_be_chosen(tmp_path, noise_images):
    table = write_table(tmp_path / "a.parquet", noise_images[:2], who=["anna", "ben"])
    assert inspect_path(table, choice=LabelChoice("who"))["identities"] == 2
    store = convert(table, tmp_path / "a.lmdb", choice=LabelChoice("who"))
    with pytest.raises(UserError, match=r"the labels of .*a\.lmdb are fixed"):
        inspect_path(store.path, choice=LabelChoice("who"))


def test_lost_labels_lead_to_the_way_to_them(tmp_path, noise_images):
    table = write_table(tmp_path / "a.parquet", noise_images[:2], who=["anna", "ben"])
    told: list[str] = []
    for _ in range(2):  # the second finds the store of the first
        assert convert(table, tmp_path / "a.lmdb", warn=told.append).unlabelled == 2
    assert told[0] == told[1]
    assert told[0].endswith(f"another one: who; remove {tmp_path / 'a.lmdb'} first")
    with pytest.raises(UserError, match=r"from this source with other labels; .* or remove it"):
        convert(table, tmp_path / "a.lmdb", choice=LabelChoice("who"))


class TestListsWithColumns:
    ROWS = (("0.jpg", "anna", "31"), ("1.jpg", "ben", "31"), ("2.jpg", "anna", "44"))

    @pytest.fixture(params=[("csv", ","), ("tsv", "\t"), ("jsonl", "")], ids=lambda kind: kind[0])
    def listed(self, request, tmp_path, noise_images) -> Path:
        for number in range(3):
            (tmp_path / f"{number}.jpg").write_bytes(noise_images[number])
        suffix, separator = request.param
        names = ("file_name", "who", "age")
        rows = [separator.join(row) for row in (names, *self.ROWS)]
        if not separator:
            rows = [json.dumps(dict(zip(names, row, strict=True))) for row in self.ROWS]
        path = tmp_path / f"list.{suffix}"
        path.write_text("\n".join(rows))
        return path

    def test_a_missing_label_is_a_warning(self, tmp_path, listed):
        warnings: list[str] = []
        store = convert(listed, tmp_path / "a.lmdb", warn=warnings.append)
        assert store.unlabelled == 3
        assert warnings[0].startswith("no image has a label: no column is called label, labels")
        assert "`--label-key` takes another one: who, age; remove " in warnings[0]

    def test_the_chosen_column_has_the_labels(self, tmp_path, listed):
        store = convert(listed, tmp_path / "a.lmdb", choice=LabelChoice("who"))
        assert people_of(store) == [{"0.jpg", "2.jpg"}, {"1.jpg"}]

    def test_a_column_that_is_not_there_is_named(self, tmp_path, listed):
        choice = LabelChoice("person")
        if listed.suffix == ".jsonl":
            told: list[str] = []
            convert(listed, tmp_path / "a.lmdb", choice=choice, warn=told.append)
            assert told[0].startswith("no image has a label: no column is called person")
        else:
            with pytest.raises(UserError, match="has no column person, but file_name, who, age"):
                convert(listed, tmp_path / "a.lmdb", choice=choice)

    @pytest.mark.parametrize(
        "heading",
        ["filename,age", "path,score", "image,split", "age,path", "key,age,path"],
    )
    def test_other_columns_are_never_labels(self, tmp_path, noise_images, heading):
        (tmp_path / "0.jpg").write_bytes(noise_images[0])
        names = heading.split(",")
        row = ["0.jpg" if name in PATH_KEYS else "31" for name in names]
        path = tmp_path / "list.csv"
        path.write_text(f"{heading}\n{','.join(row)}\n")
        described = inspect_path(path)
        assert described["unlabelled"] == 1
        other = next(name for name in names if name in ("age", "score", "split"))
        assert other in described["warnings"][0]
        assert inspect_path(path, choice=LabelChoice(other))["identities"] == 1

    @pytest.mark.parametrize("heading", ["photo,age", "photo\tage", "photo age", "#photo,age"])
    def test_columns_of_unknown_names_are_refused(self, tmp_path, heading):
        separator = next(mark for mark in "\t, " if mark in heading)
        path = tmp_path / "list.tsv"
        path.write_text(f"{heading}\n0.jpg{separator}31\n")
        with pytest.raises(UserError, match="none of the columns photo, age has the name of a"):
            read_list(path)

    @pytest.mark.parametrize(
        "heading", ["path,name", "image,Id", "photo,Celeb ID", "name,path", "photo,person", "#x"]
    )
    def test_the_names_of_labels_beside_a_path(self, tmp_path, noise_images, heading):
        (tmp_path / "0.jpg").write_bytes(noise_images[0])
        path = tmp_path / "list.csv"
        row = "anna,0.jpg" if heading.startswith("name") else "0.jpg,anna"
        path.write_text(f"{heading}\n{row}\n")
        described = inspect_path(path)
        assert (described["identities"], described["warnings"]) == (1, [])

    def test_a_list_without_a_heading_has_no_columns(self, tmp_path, noise_images):
        (tmp_path / "0.jpg").write_bytes(noise_images[0])
        (tmp_path / "list.csv").write_text("0.jpg,7\n")
        with pytest.raises(UserError, match="--label-key needs a first line with the names"):
            convert(tmp_path / "list.csv", tmp_path / "a.lmdb", choice=LabelChoice("who"))
