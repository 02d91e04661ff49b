"""Unlabelled images: from the source, through store and views, to an export."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest
from store_content import content_of

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.export import export_folders, export_records
from curation.extract import write_images
from curation.inspection import inspect_path
from curation.store import Store
from curation.subsets import (
    write_cap,
    write_difference,
    write_drop,
    write_intersection,
    write_long_tail_cut,
    write_merge,
    write_random_identities,
    write_retina_s,
    write_split_list,
    write_union,
)
from curation.subsets.text_lists import By
from curation.verify import verify
from curation.view_writing import write_subset, write_view
from curation.views import View, open_images


@pytest.fixture
def flat(tmp_path, noise_images) -> Path:
    """Five images in one folder."""
    folder = tmp_path / "street"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(noise_images[number])
    return folder


@pytest.fixture
def mixed(tmp_path, noise_images) -> Store:
    """Seven images from a list: identity 4 has the keys 1 and 6, 9 has the key 3, four are
    unlabelled.
    """
    labels = [-1, 4, -1, 9, -1, -1, 4]
    lines = []
    for number, label in enumerate(labels):
        (tmp_path / f"{number}.jpg").write_bytes(noise_images[number])
        lines.append(f"{number}\t{label}\t{number}.jpg\n")
    (tmp_path / "mixed.lst").write_text("".join(lines))
    return convert(tmp_path / "mixed.lst", tmp_path / "mixed.lmdb")


class TestSources:
    def test_a_flat_folder_is_images_without_labels(self, flat, tmp_path, noise_images):
        store = convert(flat, tmp_path / "street.lmdb")
        assert (len(store), store.identities, store.unlabelled) == (5, 0, 5)
        assert store.labels.tolist() == [-1] * 5
        assert store.offsets.tolist() == [0]
        assert store.source_labels.tolist() == []
        assert store.source_names == tuple(f"{number}.jpg" for number in range(5))
        assert [store.read(i) for i in range(5)] == noise_images[:5]

    def test_a_list_of_paths_is_images_without_labels(self, flat, tmp_path):
        (tmp_path / "all.txt").write_text("".join(f"street/{i}.jpg\n" for i in (3, 1)))
        store = convert(tmp_path / "all.txt", tmp_path / "all.lmdb")
        assert (store.unlabelled, store.source_names) == (2, ("street/3.jpg", "street/1.jpg"))

    def test_unlabelled_images_come_after_all_identities(self, mixed):
        assert mixed.labels.tolist() == [0, 0, 1, -1, -1, -1, -1]
        assert mixed.source_keys.tolist() == [1, 6, 3, 0, 2, 4, 5]
        assert mixed.source_labels.tolist() == [4, 9]
        assert mixed.offsets.tolist() == [0, 2, 3]
        assert mixed.source_labels_of(np.array([1, 4, 2])).tolist() == [4, -1, 9]

    def test_unlabelled_images_may_follow_in_one_pass(self, flat, tmp_path, noise_images):
        (tmp_path / "all.txt").write_text("street/0.jpg 3\nstreet/1.jpg 5\nstreet/2.jpg -1\n")
        store = convert(tmp_path / "all.txt", tmp_path / "all.lmdb")
        assert store.labels.tolist() == [0, 1, -1]
        assert [store.read(i) for i in range(3)] == noise_images[:3]

    def test_a_tree_can_be_converted_without_labels(self, tmp_path, noise_images):
        for name in ("a/1.jpg", "b/2.jpg", "loose.jpg"):
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise_images[0])
        with pytest.raises(UserError, match="it is not in an identity's folder"):
            convert(tmp_path / "tree", tmp_path / "tree.lmdb")
        store = convert(tmp_path / "tree", tmp_path / "tree.lmdb", unlabelled=True)
        assert (store.identities, store.unlabelled) == (0, 3)
        assert store.source_names == ("loose.jpg", "a/1.jpg", "b/2.jpg")

    def test_every_source_can_be_converted_without_labels(self, write_source, tmp_path):
        source = write_source({3: 2, 1: 2})
        store = convert(source, tmp_path / "a.lmdb", unlabelled=True)
        assert (store.identities, store.unlabelled) == (0, 4)
        assert convert(source, tmp_path / "a.lmdb", unlabelled=True).digest == store.digest
        os.utime(source / "train.rec")
        assert convert(source, tmp_path / "a.lmdb", unlabelled=True).digest == store.digest

    @pytest.mark.parametrize("unlabelled", [True, False])
    def test_stores_with_and_without_labels_differ(self, write_source, tmp_path, unlabelled):
        source = write_source({3: 2, 1: 2})
        convert(source, tmp_path / "a.lmdb", unlabelled=unlabelled)
        with pytest.raises(UserError, match="with other labels"):
            convert(source, tmp_path / "a.lmdb", unlabelled=not unlabelled)

    def test_a_killed_conversion_can_be_resumed(self, tmp_path, noise_images):
        folder = tmp_path / "street"
        folder.mkdir()
        for number in range(2000):
            (folder / f"{number}.jpg").write_bytes(noise_images[number % 40])
        program = (
            "import os, sys; from curation.conversion import build, convert\n"
            "build.COMMIT_BYTES = 1 << 16\n"
            "def stop(done, total):\n"
            f"    if done > 1000: os.kill(os.getpid(), {signal.SIGKILL.value})\n"
            "convert.convert(sys.argv[1], sys.argv[2], stop)"
        )
        command = [sys.executable, "-c", program, str(folder), str(tmp_path / "a.lmdb")]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert inspect_path(tmp_path / "a.lmdb")["images"] > 0
        stopped = convert(folder, tmp_path / "a.lmdb")
        whole = convert(folder, tmp_path / "b.lmdb")
        assert content_of(stopped.path) == content_of(whole.path)


class TestTheStore:
    def test_states_the_number_of_unlabelled_images_if_any(self, mixed, store):
        assert (mixed.meta.identities, mixed.meta.unlabelled) == (2, 4)
        assert b'"unlabelled":4' in mixed.meta.to_json()
        assert b"unlabelled" not in store.meta.to_json()

    def test_differs_from_one_with_other_labels(self, flat, tmp_path):
        stores = [
            convert(flat, tmp_path / "a.lmdb", unlabelled=True),
            convert(flat, tmp_path / "b.lmdb"),
        ]
        assert stores[0].digest == stores[1].digest
        (tmp_path / "all.txt").write_text("".join(f"street/{i}.jpg 0\n" for i in range(5)))
        assert convert(tmp_path / "all.txt", tmp_path / "c.lmdb").digest != stores[0].digest

    def test_is_inspected_and_verified(self, flat, mixed, tmp_path):
        convert(flat, tmp_path / "street.lmdb")
        for path, counts in {
            flat: (5, 0, 5),
            tmp_path / "street.lmdb": (5, 0, 5),
            tmp_path / "mixed.lst": (7, 2, 4),
            mixed.path: (7, 2, 4),
        }.items():
            for found in (inspect_path(path), verify(path, decoding=True)):
                assert (found["images"], found["identities"], found["unlabelled"]) == counts
        assert "histogram" not in inspect_path(tmp_path / "street.lmdb")
        assert inspect_path(mixed.path)["images_per_identity"]["most"] == 2

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"unlabelled": 3}, "damaged"),
            ({"unlabelled": 8}, "damaged"),
            ({"unlabelled": -1}, "unlabelled: must be at least 0"),
            ({"unlabelled": 10**15}, "unlabelled: must be below"),
            ({"identities": 0}, "damaged"),
            ({"identities": 4}, "damaged"),
            ({"unlabelled": 7, "identities": 0}, "damaged"),
        ],
    )
    def test_with_modified_meta_data_is_refused(self, mixed, change, complaint):
        with (
            lmdb.open(str(mixed.path), 1 << 24, lock=False) as environment,
            environment.begin(write=True) as transaction,
        ):
            meta = json.loads(transaction.get(b"meta"))
            transaction.put(b"meta", json.dumps(meta | change).encode())
        with pytest.raises(UserError, match=complaint):
            _ = Store(mixed.path).labels, Store(mixed.path).offsets


class TestViews:
    def test_of_some_images_keep_them_unlabelled(self, mixed, tmp_path):
        keep = np.array([False, False, True, True, False, True, False])
        view = write_subset(tmp_path / "a.view", mixed, keep, "some", {})
        assert view.labels.tolist() == [0, -1, -1]
        assert (view.identities, view.unlabelled) == (1, 2)
        assert view.source_labels.tolist() == [9]
        again = open_images(view.path)
        assert (again.offsets.tolist(), again.source_keys.tolist()) == ([0, 1], [3, 0, 4])
        assert inspect_path(view.path)["unlabelled"] == 2

    def test_of_unlabelled_images_only(self, mixed, tmp_path):
        view = write_subset(tmp_path / "a.view", mixed, mixed.labels < 0, "nobody", {})
        below = write_cap(tmp_path / "b.view", view, 1)
        assert (below.identities, below.unlabelled, below.offsets.tolist()) == (0, 4, [0])
        steps = inspect_path(below.path)["history"]
        assert [step["identities_kept"] for step in steps] == [0, 0]

    def test_can_give_them_identities(self, mixed, tmp_path):
        rows, labels = np.array([3, 5, 0, 1, 2, 4]), np.array([0, 0, 1, 1, -1, -1])
        view = write_view(tmp_path / "a.view", mixed, rows, labels, "cluster", {})
        assert view.source_labels.tolist() == [-1, 4]
        with pytest.raises(UserError, match="had no label in the source"):
            export_folders(view, tmp_path / "out", original=True)

    def test_by_the_size_of_identities_count_each_as_one(self, mixed, tmp_path):
        sizes = {
            write_long_tail_cut: (2, [0, 0]),
            write_retina_s: (1, [0, -1, -1, -1, -1]),
            write_cap: (1, [0, 1, -1, -1, -1, -1]),
        }
        for number, (write, (limit, labels)) in enumerate(sizes.items()):
            assert write(tmp_path / f"{number}.view", mixed, limit).labels.tolist() == labels

    def test_at_random_draw_them_like_identities(self, mixed, tmp_path):
        view = write_random_identities(tmp_path / "a.view", mixed, identities=6)
        assert view.identities + view.unlabelled == 6
        half = write_random_identities(tmp_path / "b.view", mixed, fraction=0.5)
        assert half.identities + half.unlabelled == 3
        with pytest.raises(UserError, match=r"has 6 \(each unlabelled image counts as one\)"):
            write_random_identities(tmp_path / "c.view", mixed, identities=7)

    def test_by_lists_name_them_by_key(self, mixed, tmp_path):
        (tmp_path / "list.txt").write_text("0\n6\n")
        view = write_drop(tmp_path / "a.view", mixed, tmp_path / "list.txt", By.KEY)
        assert (view.labels.tolist(), view.source_keys.tolist()) == (
            [0, 1, -1, -1, -1],
            [1, 3, 2, 4, 5],
        )

    def test_of_merged_identities_leave_them_alone(self, mixed, tmp_path):
        view = write_merge(tmp_path / "a.view", mixed, [[0, 1]], {})
        assert view.labels.tolist() == [0, 0, 0, -1, -1, -1, -1]

    def test_of_split_identities_leave_them_alone(self, mixed, tmp_path):
        (tmp_path / "list.txt").write_text("6 1\n")
        view = write_split_list(tmp_path / "a.view", mixed, tmp_path / "list.txt", By.KEY)
        assert view.labels.tolist() == [0, 1, 2, -1, -1, -1, -1]
        (tmp_path / "list.txt").write_text("6 1\n4 1\n")
        with pytest.raises(UserError, match=r"\(key 4\) .* has no label, so there is no identity"):
            write_split_list(tmp_path / "b.view", mixed, tmp_path / "list.txt", By.KEY)

    def test_of_two_sets(self, mixed, tmp_path):
        def rows(name: str, chosen: list[int], labels: list[int]) -> View:
            return write_view(
                tmp_path / name, mixed, np.array(chosen), np.array(labels), "chosen", {}
            )

        first = rows("a.view", [0, 1, 3, 4], [0, 0, -1, -1])
        second = rows("b.view", [2, 4, 5], [0, -1, -1])
        union = write_union(tmp_path / "union.view", first, second)
        assert (union.rows.tolist(), union.labels.tolist()) == (
            [0, 1, 2, 3, 4, 5],
            [0, 0, 1, -1, -1, -1],
        )
        both = write_intersection(tmp_path / "both.view", first, second)
        assert (both.rows.tolist(), both.labels.tolist()) == ([4], [-1])
        rest = write_difference(tmp_path / "rest.view", first, second)
        assert (rest.rows.tolist(), rest.labels.tolist()) == ([0, 1, 3], [0, 0, -1])

    def test_a_union_takes_the_label_that_one_set_has(self, mixed, tmp_path):
        found = write_view(
            tmp_path / "a.view", mixed, np.array([3, 5, 4]), np.array([0, 0, -1]), "cluster", {}
        )
        for name, sets in {"b": (mixed, found), "c": (found, mixed)}.items():
            union = write_union(tmp_path / f"{name}.view", *sets)
            assert union.rows.tolist() == [0, 1, 2, 3, 5, 4, 6]
            assert union.labels.tolist() == [0, 0, 1, 2, 2, -1, -1]


class TestExports:
    def test_folders_are_read_back_as_they_were(self, mixed, tmp_path):
        export_folders(mixed, tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "000000",
            "000001",
            "unlabelled",
        ]
        again = convert(tmp_path / "out", tmp_path / "again.lmdb")
        assert again.labels.tolist() == mixed.labels.tolist()
        assert [*again.read_many(np.arange(7))] == [*mixed.read_many(np.arange(7))]

    def test_recordio_cannot_represent_unlabelled_images(self, mixed, tmp_path):
        with pytest.raises(UserError, match=r"4 of 7 images .* have no label, which RecordIO"):
            export_records(mixed, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_images_can_be_extracted(self, mixed, tmp_path):
        paths = write_images(mixed, tmp_path / "out", identities=3, each=1)
        assert [str(path.relative_to(tmp_path / "out")) for path in paths] == [
            "000000/00000000.jpg",
            "000001/00000002.jpg",
            "unlabelled/00000003.jpg",
        ]
