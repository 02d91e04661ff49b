"""MegaFace: noise lists, and features of its tools."""

from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.given_features import GivenFeatures
from distill.evaluation.protocols.protocol import ProtocolSet, open_protocol
from tests.distill.evaluation.protocols.people_at_random import drawn
from tests.distill.evaluation.small_protocols import EACH, PEOPLE, write_matrix, write_megaface


def megaface_people(opened: ProtocolSet) -> np.ndarray:
    return np.array(
        [
            int(Path(path).name.split("_")[1]) if "facescrub" in str(path) else -1
            for path in opened.faces.paths
        ]
    )


def test_megaface_leaves_noise_out(tmp_path: Path):
    write_megaface(tmp_path)
    opened = open_protocol("megaface", tmp_path)
    assert len(opened.faces) == PEOPLE * EACH - 1 + 60 - 1
    people = megaface_people(opened)
    report = opened.score(drawn(len(people), people), True)
    assert report["among_distractors"]["distractors"]["10"]["1"]["rate"] > 0.9
    assert report["distractors"] == 59
    assert report["impostors"] > 47 * 59


@pytest.mark.parametrize("marked", [False, True], ids=["plain", "cleaned"])
def test_features_of_the_megaface_tools_are_scored(tmp_path: Path, marked: bool):
    write_megaface(tmp_path / "set")
    opened = open_protocol("megaface", tmp_path / "set")
    people, answers = megaface_people(opened), tmp_path / "answers"
    features = drawn(len(people), people).unit
    for path, feature in zip(opened.faces.paths, features, strict=True):
        where = str(Path(path).relative_to(tmp_path / "set")).replace("_images", "")
        noisy = "000/5/" in where
        whole = np.append(feature, 100.0 if noisy else 0.0) if marked else feature
        write_matrix(answers / f"{where}_net.bin", whole[:, None])
    report = evaluate(GivenFeatures(answers), [opened])["sets"]["megaface"]
    assert report["distractors"] == (58 if marked else 59)
    assert report["tar_at_far"]["1e-2"]["tar"] > 0.9
    write_matrix(answers / "facescrub/Person_0/Person_0_1.png_other.bin", features[:1].T)
    with pytest.raises(UserError, match="holds features of several networks"):
        evaluate(GivenFeatures(answers), [opened])


@pytest.mark.parametrize("path", [r"D:\faces\000\3\3_0.jpg", "/raid/megaface/000/3/3_0.jpg"])
def test_lists_may_have_paths_of_other_machines(tmp_path: Path, path: str):
    write_megaface(tmp_path)
    (tmp_path / "megaface_noises.txt").write_text(f"{path}\n")
    scrub = tmp_path / "facescrub_lst"
    scrub.write_text(scrub.read_text().replace("/", "\\"))
    assert len(open_protocol("megaface", tmp_path).faces) == PEOPLE * EACH - 1 + 60 - 1


@pytest.mark.parametrize("name", ["facescrub_noises.txt", "megaface_noises.txt"])
def test_noise_of_other_images_is_refused(tmp_path: Path, name: str):
    write_megaface(tmp_path)
    (tmp_path / name).write_text("9/9/nobody.png\nnone.png\n")
    with pytest.raises(UserError, match=rf"{name}: none of its 2 images, such as .*nobody\.png"):
        open_protocol("megaface", tmp_path)


def test_a_missing_list_says_what_the_folder_needs(tmp_path: Path):
    with pytest.raises(UserError, match="facescrub_lst is missing; give the folder that holds"):
        open_protocol("megaface", tmp_path)
