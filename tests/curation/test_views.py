import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.store import Store
from curation.subsets import write_long_tail_cut, write_retina_s
from curation.view_writing import write_subset, write_view
from curation.views import View, open_images
from tests.memory import traced_memory


@pytest.fixture
def view(store, tmp_path):
    """Identities 0, 2 and 4 of the store: 4, 6 and 3 images."""
    return write_long_tail_cut(tmp_path / "subset.view", store, 3)


def test_a_view_renumbers_the_identities_it_keeps(view, store):
    assert view.labels.tolist() == [0] * 4 + [1] * 6 + [2] * 3
    assert view.offsets.tolist() == [0, 4, 10, 13]
    assert view.rows.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 13, 14, 15]
    assert view.source_labels.tolist() == [2, 5, 11]
    assert view.source_keys.tolist() == (view.rows + 1).tolist()
    assert [view.read(i) for i in range(len(view))] == [store.read(row) for row in view.rows]


def test_a_view_has_the_interface_of_a_store(view, store):
    for name in (
        *("name", "path", "digest", "identities", "image_size", "labels", "offsets", "rows"),
        *("source_keys", "source_labels", "store", "history"),
    ):
        assert type(getattr(view, name)) is type(getattr(store, name))
    for name in ("labels", "offsets", "rows", "source_keys", "source_labels"):
        assert getattr(view, name).dtype == getattr(store, name).dtype


def test_the_history_records_what_the_step_removed(view, store):
    (step,) = view.history
    assert (step.name, step.parameters) == ("long-tail-cut", {"minimum": 3})
    assert (step.images_before, step.identities_before) == (len(store), store.identities)
    assert (step.images_after, step.identities_after) == (13, 3)


def test_a_view_of_a_view_points_to_the_store(view, store, tmp_path):
    second = write_retina_s(tmp_path / "second.view", view, 4)
    assert second.store.path == store.path
    assert second.rows.tolist() == [0, 1, 2, 3, 13, 14, 15]
    assert second.labels.tolist() == [0] * 4 + [1] * 3
    assert [step.name for step in second.history] == ["long-tail-cut", "retina-s"]
    assert [step.images_after for step in second.history] == [13, 7]
    assert second.meta.parent == "../subset.view"


def test_a_view_outlives_the_view_it_was_made_from(view, tmp_path):
    second = write_retina_s(tmp_path / "second.view", view, 4)
    shutil.rmtree(view.path)
    assert View(second.path).read(4) == second.read(4)


def test_both_may_be_moved_together(view, tmp_path, noise_images):
    (tmp_path / "elsewhere").mkdir()
    for name in ("train.lmdb", "subset.view"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    moved = View(tmp_path / "elsewhere" / "subset.view")
    assert moved.digest == view.digest
    assert moved.read(4) == noise_images[5]


def test_a_view_can_be_opened_through_a_link(view, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "linked.view").symlink_to(view.path)
    assert View(tmp_path / "links" / "linked.view").read(0) == view.read(0)


def test_a_pickled_view_can_be_read(view):
    assert pickle.loads(pickle.dumps(view)).read(6) == view.read(6)


def test_a_missing_image_is_an_index_error(view):
    for i in (-1, 13):
        with pytest.raises(IndexError, match="has only the images 0 to 12"):
            view.read(i)


def test_digests_are_equal_for_equal_views_only(view, store, tmp_path):
    same = write_long_tail_cut(tmp_path / "same.view", store, 3)
    other = write_long_tail_cut(tmp_path / "other.view", store, 4)
    assert same.digest == view.digest
    assert len({view.digest, other.digest, store.digest}) == 3


def test_rows_may_be_in_any_order_and_identities_merged(store, tmp_path):
    merged = write_view(
        tmp_path / "merged.view", store, np.array([15, 0, 4]), np.array([0, 0, 1]), "merge", {}
    )
    assert [merged.read(i) for i in range(3)] == [store.read(i) for i in (15, 0, 4)]
    assert merged.source_labels.tolist() == [11, 3]


def test_stores_and_views_are_distinguished_by_their_files(view, store, tmp_path):
    assert isinstance(open_images(view.path), View)
    assert isinstance(open_images(str(store.path)), Store)
    with pytest.raises(UserError, match=r"neither a store .* nor a view"):
        open_images(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_images(tmp_path / "none")


class TestWriting:
    def test_an_existing_path_is_left_alone(self, view, store):
        with pytest.raises(UserError, match=r"subset\.view exists"):
            write_long_tail_cut(view.path, store, 2)
        assert len(View(view.path)) == 13

    def test_an_empty_view_is_refused(self, store, tmp_path):
        with pytest.raises(UserError, match="would have no images"):
            write_long_tail_cut(tmp_path / "empty.view", store, 1000)
        assert not (tmp_path / "empty.view").exists()

    def test_leftovers_of_a_stopped_attempt_are_replaced(self, store, tmp_path):
        (tmp_path / "subset.view.partial").mkdir()
        (tmp_path / "subset.view.partial" / "rows.npy").write_bytes(b"torso")
        write_long_tail_cut(tmp_path / "subset.view", store, 3)
        files = {path.name for path in (tmp_path / "subset.view").iterdir()}
        assert files == {"rows.npy", "labels.npy", "view.json"}
        assert not (tmp_path / "subset.view.partial").exists()

    @pytest.mark.parametrize("labels", [[0, 2], [1, 1], [-1, 0], [0, -2], [0, 0, 0]])
    def test_labels_with_gaps_are_an_error(self, store, tmp_path, labels):
        with pytest.raises(ValueError, match="without gaps"):
            write_view(tmp_path / "a.view", store, np.array([0, 1]), np.array(labels), "step", {})

    @pytest.mark.parametrize(
        ("parameters", "complaint"),
        [
            ({"maximum": 10**30}, "an integer of more than 64 bits: 1000000"),
            ({"at_most": float("inf")}, "parameters.at_most"),
            ({"list": "a" * 300}, "parameters.list"),
            ({f"a{i}": i for i in range(60_000)}, "more than 50,000 values"),
        ],
    )
    def test_unreadable_views_are_not_written(self, store, tmp_path, parameters, complaint):
        one = np.array([0])
        with pytest.raises(UserError, match=f"would be unreadable: .*{complaint}"):
            write_view(tmp_path / "a.view", store, one, one, "step", parameters)
        assert not (tmp_path / "a.view").exists()

    def test_a_path_that_is_not_utf8_is_reported(self, store, tmp_path):
        folder, one = tmp_path / os.fsdecode(b"l\xff"), np.array([0])
        folder.mkdir()
        store.path.rename(folder / "a.lmdb")
        moved = Store(folder / "a.lmdb")
        with pytest.raises(UserError, match=r"not UTF-8, which view\.json .*beside it"):
            write_view(tmp_path / "a.view", moved, one, one, "step", {})
        assert len(write_view(folder / "a.view", moved, one, one, "step", {})) == 1

    def test_file_names_that_are_not_utf8_are_escaped(self, store, tmp_path):
        one, name = np.array([0]), os.fsdecode(b"l\xff.txt")
        view = write_view(tmp_path / "a.view", store, one, one, "keep", {"list": name})
        assert view.history[0].parameters == {"list": r"l\udcff.txt"}

    def test_identities_without_images_disappear(self, store, tmp_path):
        keep = np.isin(store.labels, [1, 4])
        view = write_subset(tmp_path / "a.view", store, keep, "choose", {"by": "hand"})
        assert view.labels.tolist() == [0, 1, 1, 1]


class TestInvalidViews:
    def test_a_missing_store_is_named(self, view, store):
        shutil.rmtree(store.path)
        with pytest.raises(UserError, match=r"view of a store that cannot be read.*train\.lmdb"):
            View(view.path)

    def test_another_store_in_its_place_is_detected(self, view, store, write_source, tmp_path):
        shutil.rmtree(store.path)
        convert(write_source({0: 9, 1: 9}, "other"), store.path)
        with pytest.raises(UserError, match=r"was made from another store than .*train\.lmdb"):
            View(view.path)

    @pytest.mark.parametrize("name", ["rows.npy", "labels.npy"])
    @pytest.mark.parametrize(
        "array",
        [np.arange(13)[::-1], np.arange(12), np.zeros(13), np.zeros((13, 1), np.int64), None],
    )
    def test_other_arrays_are_refused(self, view, name, array):
        (view.path / name).unlink()
        if array is not None:
            np.save(view.path / name, array)
        with pytest.raises(UserError, match="damaged"):
            View(view.path)

    def test_an_array_of_objects_is_not_unpickled(self, view):
        np.save(view.path / "rows.npy", np.array([{}] * 13, object), allow_pickle=True)
        with pytest.raises(UserError, match="damaged"):
            View(view.path)

    @pytest.mark.parametrize(
        "change", [{"format_version": 2}, {"extra": 1}, {"images": "13"}, {"history": None}]
    )
    def test_other_meta_data_is_refused_by_key(self, view, change):
        path = view.path / "view.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(UserError, match=rf"view\.json is damaged: {next(iter(change))}"):
            View(view.path)

    @pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe"])
    def test_invalid_json_is_refused(self, view, text):
        (view.path / "view.json").write_bytes(text)
        with pytest.raises(UserError, match="damaged"):
            View(view.path)

    @pytest.mark.parametrize(
        "content",
        [
            '{"history": [' + "0," * 1_000_000 + "0]}",
            '{"history": [{"parameters": {'
            + ",".join(f'"{i}":[]' for i in range(300_000))
            + "}}]}",
        ],
        ids=["steps", "parameters"],
    )
    def test_a_million_errors_are_not_all_collected(self, view, content):
        (view.path / "view.json").write_text(content)
        with (
            traced_memory() as memory,
            pytest.raises(UserError, match=r"view\.json is damaged: .*; make the view again"),
        ):
            View(view.path)
        assert memory.peak < 300 << 20

    def test_a_folder_without_its_file_is_refused(self, tmp_path):
        with pytest.raises(
            UserError, match=r"is not a view: view\.json in it: cannot read it: No such"
        ):
            View(tmp_path)

    @pytest.mark.parametrize("name", ["rows.npy", "labels.npy", "view.json"])
    @pytest.mark.parametrize("kind", ["pipe", "device", "zip", "huge"])
    def test_special_files_for_arrays_are_refused_at_once(self, view, name, kind):
        path = view.path / name
        path.unlink()
        match kind:
            case "pipe":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case "zip":
                path.write_bytes(b"PK\x03\x04 and no more")
            case "huge":
                header = {"descr": "<i8", "fortran_order": False, "shape": (1 << 50,)}
                with path.open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, header)
        with pytest.raises(UserError, match=r"is damaged|is not a view"):
            View(view.path)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"rows": -1}, r"rows\.npy: it names the images -1 to \d+; its store has 0 to"),
            ({"rows": 1 << 40}, r"rows\.npy: it names the images"),
            ({"labels": 7}, r"labels\.npy: it does not hold the identities 0 to"),
            ({"identities": 10**9}, r"of 1,000,000,000 identities, but its last step left 13 of 3"),
            ({"identities": 10**15}, "identities: must be below"),
            ({"images": -1}, "images: must be at least"),
            (
                {"history": {"identities_before": -1}},
                r"history.*identities_before: must",
            ),
            ({"history": {"images_after": 14}}, "13 images of 3 .*, but its last step left 14 of"),
            ({"history": {"parameters": {"minimum": 2**70}}}, "an integer of more than 64 bits"),
            ({"history": {"name": "a" * 1000}}, r"history.*name: must have at most 255"),
            ({"history": []}, "history: must not be empty"),
            ({"images": 10**9, "all": True}, "1,000,000,000 images of 3 .*of a store of 16"),
            ({"store": "../\0"}, "store: does not match"),
            ({"store": "../" + "a" * 300}, "a view of a store that cannot be read"),
            ({"store": "a" * 5000}, "store: must have at most 4096"),
            ({"digest": "../../x"}, "digest: does not match"),
        ],
    )
    def test_a_manipulated_view_is_refused(self, view, change, complaint):
        meta = json.loads((view.path / "view.json").read_text())
        rows, labels = view.rows.copy(), view.labels.copy()
        rows[3] = change.pop("rows", rows[3])
        labels[3] = change.pop("labels", labels[3])
        np.save(view.path / "rows.npy", rows)
        np.save(view.path / "labels.npy", labels)
        history = change.pop("history", {})
        meta["history"] = [meta["history"][0] | history] if isinstance(history, dict) else history
        if change.pop("all", False):
            meta["history"][0]["images_after"] = change["images"]
        signed = hashlib.sha256(f"view 1 {view.store.digest}\n".encode())
        signed.update(rows.tobytes() + labels.tobytes())
        meta |= {"digest": signed.hexdigest()} | change
        (view.path / "view.json").write_text(json.dumps(meta))
        with pytest.raises(UserError, match=complaint):
            View(view.path)
