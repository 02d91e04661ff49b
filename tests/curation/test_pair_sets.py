"""Verification sets made from lists of pairs, and drawn from stores and views."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.pair_sets import lists
from curation.pair_sets.drawing import draw_pairs
from curation.pair_sets.folds import in_folds
from curation.pair_sets.lists import read_pair_list
from curation.pair_sets.making import drawn_pairs, pairs_of_list, write_pair_set
from curation.pairs import read_pairs
from curation.subsets import write_long_tail_cut


@pytest.fixture
def people(tmp_path, noise_images):
    """Aligned faces in LFW's layout, with a list ``pairs.txt``: Ann 1 2 3, Bo 1 2, Cy 1."""
    names = ["Ann/Ann_0001", "Ann/Ann_0002", "Ann/Ann_0003", "Bo/Bo_0001", "Bo/Bo_0002"]
    for name, image in zip([*names, "Cy X/Cy X_0001"], noise_images, strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jpg").write_bytes(image)
    return dict(zip(["a1", "a2", "a3", "b1", "b2", "c1"], noise_images, strict=False))


def listed(tmp_path, text):
    (tmp_path / "pairs.txt").write_text(text)
    return tmp_path / "pairs.txt"


WANTED = ([("a1", "a3"), ("b1", "c1")], [True, False])
A1, A3, B1, C1 = "Ann/Ann_0001.jpg", "Ann/Ann_0003.jpg", "Bo/Bo_0001.jpg", "Cy X/Cy X_0001.jpg"


class TestLists:
    @pytest.mark.parametrize(
        "text",
        [
            "1\t1\nAnn\t1\t3\nBo\t1\tCy X\t1\n",
            "2\nAnn\t1\t3\r\nBo\t1\tCy X\t1\r\n\r\n",
            "Ann\t1\t3\nBo\t1\tCy X\t1\n",
            f"{A1}\t{A3}\t1\n{B1}\t{C1}\t0\n",
            f"{A1},{A3},1\n{B1},{C1},0\n",
            f'"{A1}", "{A3}", True\n"{B1}", "{C1}", False\n',
            f"path_a,path_b,same\n{A1},{A3},yes\n{B1},{C1},no\n",
            f"img1,img2,genuine\n{A1},{A3},1.0\n{B1},{C1},0.0\n",
            f"label,first image,second image\n1,{A1},{A3}\n0,{B1},{C1}\n",
            f"1;{A1};{A3}\n-1;{B1};{C1}\n",
            f"\ufeff{A1}\t{A3}\tTRUE\n\n{B1}\t{C1}\tFALSE",
            f"left,right,target\n{A1},{A3},1\n{B1},{C1},0\n",
            f",img1,img2,score,same\n0,{A1},{A3},1.0,1\n1,{B1},{C1},0.0,0\n",
            f"a,b,match\n{A1},{A3},match\n{B1},{C1},mismatch\n",
            f"{A1}\t{A3}\t1\t0.73\n{B1}\t{C1}\t0\t0.12\n",
            f"{A1};{A3};genuine\n{B1};{C1};impostor\n",
            f"# mine\n{A1}\t{A3}\tT\n# two people\n{B1}\t{C1}\tF\n",
            f"{A1},{A3},1\n{B1},{C1},0\n".replace("/", "\\"),
            f".\\{A1},{A3},1\n./Bo\\Bo_0001.jpg,{C1},0\n",
            "name,imagenum1,imagenum2,Unnamed: 3\nAnn,1,3,\nBo,1,Cy X,1\n",
            "Ann\tAnn_0001.jpg\tAnn_0003.jpg\nBo\tBo_0001.jpg\tCy X\tCy X_0001.jpg\n",
            f"{A1}\t7\n{A3}\t7\n{B1}\t0\n{C1}\t0\n",
        ],
        ids=[
            *(
                "lfw",
                "lfw-count",
                "lfw-no-count",
                "tabs",
                "commas",
                "quotes",
                "heading",
                "decimals",
            ),
            *("label-first", "minus-one", "mark", "other-heading", "score-and-index", "match"),
            *("score", "words", "comments", "backslashes", "mixed-slashes", "kaggle-lfw"),
            *("lfw-file-names", "calfw"),
        ],
    )
    def test_all_forms_give_the_same_pairs(self, tmp_path, people, text):
        made = pairs_of_list(listed(tmp_path, text))
        names, same = WANTED
        assert made.images == [people[name] for pair in names for name in pair]
        assert made.same.tolist() == same

    def test_spaces_separate_words_if_no_path_has_any(self, tmp_path, people):
        made = pairs_of_list(listed(tmp_path, "1 1\nAnn 1 3\nAnn 2 Bo 2\n"))
        assert made.images == [people[name] for name in ("a1", "a3", "a2", "b2")]
        made = pairs_of_list(listed(tmp_path, f"{A1} {A3} 1\n{A1} {B1} 0\n"))
        assert made.same.tolist() == [True, False]

    def test_paths_are_relative_to_the_folder_of_images(self, tmp_path, people):
        (tmp_path / "elsewhere").mkdir()
        path = listed(tmp_path / "elsewhere", "Ann 1 3\nBo 1 Ann 2\n")
        assert len(pairs_of_list(path, tmp_path).same) == 2

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "names no pairs"),
            ("10 300\n", "names no pairs"),
            ("Ann 1 3\nBo one 2\n", "line 2: 'Bo one 2' is not a pair"),
            ("a.jpg b.jpg 2\n", "line 1: .* is not a pair; expected lines NAME I J"),
            ("a.jpg b.jpg\n", "line 1: .* is not a pair"),
            ("Ann 1 3\na.jpg b.jpg 1\n", "line 2: .* all of one form"),
            ("a,b c.jpg,1,1\n", "line 1"),
            ("a.jpg b.jpg 1 0\n", "name that of SAME in the first line"),
            ("p/a b.jpg c.jpg 1\n", "line 1: .* is not a pair"),
            ("i,a,b,same\n0,3,5,1\n", "line 1: which of the columns i, a, b, same are the images"),
            ("a_1.jpg 3\na_2.jpg 4\n", "line 1: .* and the next line are no pair of CALFW's form"),
            ("a_1.jpg 3\nb_2.jpg 3\n", "line 1: .* and the next line are no pair"),
            ("a_1.jpg 0\na_2.jpg 0\n", "line 1: .* and the next line are no pair"),
            ("a_1.jpg 3\na_2.jpg 3\nb_1.jpg 0\n", "line 3: .* and the next line are no pair"),
        ],
    )
    def test_an_invalid_line_is_named(self, tmp_path, text, complaint):
        with pytest.raises(UserError, match=complaint):
            read_pair_list(listed(tmp_path, text))

    def test_a_missing_or_bad_image_stops_or_is_skipped(self, tmp_path, people):
        (tmp_path / "Bo" / "Bo_0002.jpg").write_bytes(people["b2"][:300])
        (tmp_path / "Bo" / "Bo_0003.jpg").write_bytes(encode_jpeg(np.zeros((9, 9, 3), np.uint8)))
        (tmp_path / "Bo" / "Bo_0004.png").symlink_to("/dev/zero")
        text = "Ann 1 3\nBo 1 2\nAnn 1 Bo 3\nBo 1 4\nCy 1 Ann 1\nBo 1 Ann 1\n"
        with pytest.raises(UserError, match=r"line 2: .*Bo_0002\.jpg is damaged.*--skip-bad"):
            pairs_of_list(listed(tmp_path, text))
        made = pairs_of_list(tmp_path / "pairs.txt", skip_bad=True)
        assert made.same.tolist() == [True, False]
        reasons = ["is damaged", "has 9x9 pixels, the first image 24x20", "device", "cannot read"]
        assert all(said in line for said, line in zip(reasons, made.left_out, strict=True))

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("Ann 1 3\nBo 1 1\n", "line 2: both images are .*Bo_0001; a pair has two different"),
            (
                f"{A1},{A3},1\n{B1},{A1},0\n{A3},{A1},0\n",
                "line 3: the pair shows two people, but the same person on line 1; correct the "
                "list, or leave such pairs out",
            ),
            ("Ann b.jpg 1\n", r"line 1: .*/Ann: it is a directory, not a file \(nor with"),
            ("/ b.jpg 1\n", r"line 1: /: it is a directory"),
            ("Ann/1 b.jpg 1\n", r"line 1: .*/Ann/1: .*nor with \.jpg, \.jpeg, \.png"),
        ],
        ids=["twice", "contradictory", "folder", "root", "no-ending"],
    )
    def test_a_wrong_pair_is_named(self, tmp_path, people, text, complaint):
        with pytest.raises(UserError, match=complaint):
            pairs_of_list(listed(tmp_path, text))

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("zoe\u0308", "zo\u00eb/zo\u00eb_0001.jpg, which differs in Unicode form"),
            ("ZO\u00cb", "which differs in upper and lower case"),
            ("zo\udceb", "its name is not UTF-8"),
        ],
    )
    def test_names_of_people_that_differ_are_explained(self, tmp_path, people, name, hint):
        folder = tmp_path / "zo\u00eb"
        folder.mkdir()
        for number in (1, 2):
            (folder / f"zo\u00eb_{number:04}.jpg").write_bytes(people["a1"])
        path = tmp_path / "pairs.txt"
        path.write_text(f"{name} 1 2\n", "utf-8", "surrogateescape")
        with pytest.raises(UserError, match=hint):
            pairs_of_list(path)

    @pytest.mark.parametrize("name", ["a" * 5000, "b" * 300 + ".jpg", "/".join("c" * 3000)])
    def test_impossible_file_names(self, tmp_path, people, name):
        path = listed(tmp_path, f"{A1} {name} 1\n{A1} {A3} 1\n")
        with pytest.raises(UserError, match=r"line 1: .*cannot read it: "):
            pairs_of_list(path)
        assert len(pairs_of_list(path, skip_bad=True).same) == 1

    def test_no_more_pairs_are_read_than_a_set_can_have(self, tmp_path, monkeypatch):
        monkeypatch.setattr(lists, "MOST_PAIRS", 3)
        path = tmp_path / "pairs.txt"
        path.write_text("a.jpg b.jpg 1\n" * 3)
        assert len(read_pair_list(path)) == 3
        path.write_text("a.jpg b.jpg 1\n" * 4 + "no pair\n")
        with pytest.raises(UserError, match=r"pairs\.txt has more than 3 pairs"):
            read_pair_list(path)

    def test_no_usable_pairs_is_an_error(self, tmp_path):
        with pytest.raises(
            UserError, match=r"none of the 1 pairs is usable: .*line 1: .*Ann_0001: cannot"
        ):
            pairs_of_list(listed(tmp_path, "Ann 1 3\n"), skip_bad=True)


class TestFolds:
    def test_balanced_pairs_keep_their_order(self):
        same = np.tile(np.repeat([True, False], 30), 10)
        assert in_folds(same).tolist() == list(range(600))
        assert in_folds(np.tile([True, False], 40)).tolist() == list(range(80))

    @pytest.mark.parametrize("same", [[True] * 50 + [False] * 50, [True] * 33 + [False] * 71])
    def test_sorted_kinds_are_distributed_over_the_folds(self, same):
        order = in_folds(same)
        assert sorted(order.tolist()) == list(range(len(same)))
        share = np.mean(same)
        for fold in np.array_split(np.array(same)[order], 10):
            assert abs(fold.mean() - share) < 0.15

    def test_one_kind_alone_keeps_its_order(self):
        assert in_folds([True] * 25).tolist() == list(range(25))


@pytest.fixture
def curate(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "distill.cli.curate", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def many(tmp_path, noise_images, write_source):
    """Forty identities: twenty with six images, ten with two, ten with one."""
    counts = {label: 6 if label < 20 else 2 if label < 30 else 1 for label in range(40)}
    return convert(write_source(counts), tmp_path / "many.lmdb")


class TestDrawing:
    @pytest.mark.parametrize("seed", range(3))
    def test_each_fold_has_both_kinds_and_its_own_people(self, many, seed):
        indices, same = draw_pairs(many, 200, seed)
        people = many.labels[indices]
        assert ((people[:, 0] == people[:, 1]) == same).all()
        assert len({tuple(pair) for pair in np.sort(indices).tolist()}) == 200
        folds = [set(fold.ravel().tolist()) for fold in np.split(people, 10)]
        assert sum(map(len, folds)) == len(set().union(*folds))
        assert same.tolist() == ([True] * 10 + [False] * 10) * 10

    def test_identities_take_turns(self, tmp_path, write_source):
        store = convert(write_source({i: 30 if i == 0 else 3 for i in range(40)}), tmp_path / "a")
        indices, same = draw_pairs(store, 240, 0)
        genuine = store.labels[indices[same, 0]]
        assert np.bincount(genuine, minlength=40).max() == 3

    def test_pairs_depend_on_the_seed(self, many):
        first, again, other = (draw_pairs(many, 100, seed)[0].tolist() for seed in (1, 1, 2))
        assert first == again != other

    def test_all_possible_pairs_can_be_drawn(self, tmp_path, write_source):
        store = convert(write_source(dict.fromkeys(range(20), 2)), tmp_path / "a.lmdb")
        indices, same = draw_pairs(store, 40, 0)
        assert len(np.unique(indices[same])) == 40
        with pytest.raises(
            UserError, match=r"20 identities and 40 images: they give 40 pairs.*--pairs 40\)"
        ):
            draw_pairs(store, 60, 0)

    @pytest.mark.parametrize(
        ("people", "complaint"),
        [
            (dict.fromkeys(range(6), 3), "has 6 identities, 6 of them with two or more images"),
            (dict.fromkeys(range(30), 1), "has 30 identities, 0 of them with two or more"),
            ({i: 1 + (i < 9) for i in range(30)}, "has 30 identities, 9 of them with two or more"),
        ],
        ids=["few", "single", "few-with-two"],
    )
    def test_too_few_for_any_pairs(self, tmp_path, write_source, people, complaint):
        store = convert(write_source(people), tmp_path / "a.lmdb")
        needs = "need 20 identities, 10 of them with two or more images; give more images"
        with pytest.raises(UserError, match=f"{complaint}.*{needs}"):
            draw_pairs(store, 20, 0)

    def test_the_fewest_identities_that_give_pairs(self, tmp_path, write_source):
        people = {i: 1 + (i < 10) for i in range(20)}
        store = convert(write_source(people), tmp_path / "a.lmdb")
        assert len(draw_pairs(store, 20, 0)[1]) == 20

    def test_a_number_that_cannot_be_divided_is_refused(self, many):
        with pytest.raises(UserError, match="multiples of 20"):
            draw_pairs(many, 50, 0)

    def test_a_view_gives_its_own_images(self, many, tmp_path):
        view = write_long_tail_cut(tmp_path / "a.view", many, 6)
        made = drawn_pairs(view, 100, 0)
        allowed = {view.read(i) for i in range(len(view))}
        assert set(made.images) <= allowed


class TestWriting:
    def test_a_set_is_written_once_and_nothing_else_is_overwritten(self, many, tmp_path):
        made = drawn_pairs(many, 100, 0)
        path = tmp_path / "a.bin"
        assert write_pair_set(path, made)
        assert not write_pair_set(path, made)
        read = read_pairs(path)
        assert (read.images, read.same.tolist()) == (made.images, made.same.tolist())
        other = drawn_pairs(many, 100, 1)
        before = path.read_bytes()
        with pytest.raises(UserError, match="exists and has other contents; --replace"):
            write_pair_set(path, other)
        assert path.read_bytes() == before
        assert write_pair_set(path, other, replace=True)
        path.write_bytes(b"my notes")
        with pytest.raises(UserError, match="--replace"):
            write_pair_set(path, other)

    def test_many_pairs_of_few_images_can_be_read(self, many, tmp_path):
        made = drawn_pairs(many, 100, 0)
        more = type(made)(made.images * 200, np.tile(made.same, 200))
        write_pair_set(tmp_path / "a.bin", more)
        assert len(read_pairs(tmp_path / "a.bin")) == 20_000

    def test_insightface_reads_what_is_written(self, many, tmp_path):
        made = drawn_pairs(many, 40, 0)
        write_pair_set(tmp_path / "a.bin", made)
        bins, same = pickle.loads((tmp_path / "a.bin").read_bytes(), encoding="bytes")
        assert (bins, same) == (made.images, made.same.tolist())


class TestCommand:
    def test_a_list_and_a_store_become_sets(self, curate, many, people, tmp_path):
        listed(tmp_path, "1 1\nAnn 1 3\nAnn 1 9\nAnn 2 Bo 2\n")
        made = curate("pairs", "pairs.txt", "mine.bin", "--skip-bad", "--json")
        assert "left out: pairs.txt: line 3: " in made.stderr
        report = json.loads(made.stdout)
        assert (report["pairs"], report["same"], report["left_out"]) == (2, 1, 1)
        made = curate("pairs", "many.lmdb", "drawn.bin", "--pairs", "100", "--json")
        report = json.loads(made.stdout)
        assert (report["pairs"], report["same"], report["different"]) == (100, 50, 50)
        assert report["digest"] == read_pairs(tmp_path / "drawn.bin").digest
        made = curate("pairs", "many.lmdb", "drawn.bin", "--pairs", "100")
        assert (made.returncode, "nothing to do" in made.stderr) == (0, True)

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["many.lmdb", "a.bin", "--pairs", "100000"], "ask for at most that many (--pairs "),
            (["none.txt", "a.bin"], "none.txt: cannot read it"),
            (["none.lmdb", "a.bin"], "none.lmdb is not a store"),
            (["many.lmdb", "nowhere/a.bin", "--pairs", "20"], "nowhere"),
        ],
    )
    def test_mistakes_are_one_line(self, curate, many, arguments, complaint):
        made = curate("pairs", *arguments)
        assert (made.returncode, made.stdout) == (1, "")
        assert complaint in made.stderr.strip().splitlines()[-1]


class TestListsOfStores:
    @pytest.fixture
    def store(self, tmp_path, people):
        (tmp_path / "faces").mkdir()
        for folder in ("Ann", "Bo", "Cy X"):
            (tmp_path / folder).rename(tmp_path / "faces" / folder)
        return convert(tmp_path / "faces", tmp_path / "faces.lmdb")

    @pytest.mark.parametrize(
        "text",
        [
            "1\t1\nAnn\t1\t3\nBo\t1\tCy X\t1\n",
            f"{A1},{A3},1\n{B1},{C1},0\n",
            "0 2 1\n3 5 0\n",
            "1,0,2\n0,3,5\n",
            f"a,b,same\n0,./{A3},1\n3,{C1},0\n",
            "key:0;key:2;1\nkey:3;5;0\n",
        ],
        ids=["lfw", "paths", "numbers", "same first", "both", "keys"],
    )
    def test_images_are_named_by_path_key_or_number(self, tmp_path, people, store, text):
        made = pairs_of_list(listed(tmp_path, text), store)
        names, same = WANTED
        assert made.images == [people[name] for pair in names for name in pair]
        assert made.same.tolist() == same

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            (
                "6",
                "line 2: '6' is not an image of .*which has 0 to 5, or by name 'Ann/Ann_0001.jpg'",
            ),
            ("Ann/none.jpg", "line 2: 'Ann/none.jpg' is not an image"),
            ("key:99", "line 2: 'key:99' is not an image"),
            ("-1", "line 2: '-1' is not an image"),
            ("²", "line 2: '²' is not an image"),
        ],
    )
    def test_unknown_images_are_named_with_their_line(self, tmp_path, store, word, said):
        with pytest.raises(UserError, match=said):
            pairs_of_list(listed(tmp_path, f"0,1,1\n0,{word},0\n"), store)

    def test_numbers_are_those_of_the_view(self, tmp_path, people, store):
        view = write_long_tail_cut(tmp_path / "few.view", store, 2)
        made = pairs_of_list(listed(tmp_path, "3 4 1\n"), view)
        assert made.images == [people["b1"], people["b2"]]
        with pytest.raises(UserError, match=r"'5' is not an image of .*few.view, which has 0 to 4"):
            pairs_of_list(listed(tmp_path, "3 5 0\n"), view)
