"""Small evaluations in the formats of the published ones, with images of noise."""

import struct
import zlib
from pathlib import Path

import numpy as np

from curation.images import encode_jpeg

PEOPLE, EACH = 8, 6


def write_faces(folder: Path, names: list[str], size: tuple[int, int] = (112, 112)) -> None:
    generator = np.random.default_rng(7)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(generator.integers(0, 255, (*size, 3), np.uint8)))


def write_ijb(folder: Path, name: str = "ijbc", galleries: tuple[str, str] = ("G1", "G2")) -> None:
    """8 subjects with 3 templates of two images each; the first two templates share a medium.

    Template 10 s + t is the t-th of subject s. Odd subjects are in the second gallery.
    """
    meta, crops = folder / "meta", folder / "loose_crop"
    meta.mkdir(parents=True)
    templates = [10 * subject + each for subject in range(PEOPLE) for each in range(3)]
    images = [(f"{template}_{i}.jpg", template) for template in templates for i in range(2)]
    write_faces(crops, [image for image, _ in images])
    media = [f"{image} {template} {template % 10}\n" for image, template in images]
    (meta / f"{name}_face_tid_mid.txt").write_text("".join(media))
    points = "38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2"
    faces = [f"{image} {points} {0.5 + 0.01 * i}\n" for i, (image, _) in enumerate(images)]
    (meta / f"{name}_name_5pts_score.txt").write_text("".join(faces))
    pairs = [
        f"{one} {other} {int(one // 10 == other // 10)}\n"
        for one in templates
        for other in templates
        if one < other
    ] * 5  # 1,260 impostor pairs: a FAR of 1e-2 allows twelve
    (meta / f"{name}_template_pair_label.txt").write_text("".join(pairs))
    head = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n"
    for place, each in enumerate(galleries):
        rows = [f"{10 * s},{s},x.jpg\n" * 2 for s in range(PEOPLE) if s % 2 == place]
        (meta / f"{name}_1N_gallery_{each}.csv").write_text(head + "".join(rows))
    probes = [f"{10 * s + t},{s},x.jpg\n" for s in range(PEOPLE) for t in (1, 2)]
    (meta / f"{name}_1N_probe_mixed.csv").write_text(head + "".join(probes))


def write_tinyface(folder: Path, with_lists: bool = False) -> None:
    """A probe and two mates of each of 8 people, and 20 distractors, 16 to 20 pixels wide."""
    write_faces(folder / "Probe", [f"{s}_1.jpg" for s in range(PEOPLE)], (20, 16))
    mates = [f"{s}_{i}.jpg" for s in range(PEOPLE) for i in (2, 3)]
    write_faces(folder / "Gallery_Match", mates, (18, 20))
    write_faces(folder / "Gallery_Distractor", [f"{i}.jpg" for i in range(20)], (20, 20))
    if with_lists:
        probes = [f"{s}_1.jpg" for s in range(PEOPLE)]
        for file, prefix, names in (
            ("probe_img_ID_pairs.mat", "probe", probes),
            ("gallery_match_img_ID_pairs.mat", "gallery", mates),
        ):
            people = [float(name.split("_")[0]) for name in names]
            variables = cells(f"{prefix}_set", names) + numbers(f"{prefix}_ids", people)
            (folder / file).write_bytes(mat_file(variables, packed=prefix == "probe"))


def write_lfr(folder: Path, videos: bool = False) -> None:
    """8 people with 6 entries each, and 100 distractors; ``videos`` have two frames each."""
    entries = [f"{i:04}" for i in range(PEOPLE * EACH + 100)]
    if videos:
        write_faces(folder, [f"{each}/{frame}.jpg" for each in entries for frame in (1, 2)], (8, 8))
        listed = [f"{each} 2\n" for each in entries]
    else:
        write_faces(folder, [f"{each}.jpg" for each in entries], (8, 8))
        listed = [f"{each}.jpg\n" for each in entries]
    (folder / "filelist.txt").write_text("".join(listed))
    labels = [i // EACH for i in range(PEOPLE * EACH)] + [-1] * 100
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))


def write_megaface(folder: Path) -> None:
    """8 people with 6 images each, and 60 distractors; one noisy image of each kind."""
    scrub = [f"Person_{s}/Person_{s}_{i}.png" for s in range(PEOPLE) for i in range(EACH)]
    others = [f"000/{i}/{i}_0.jpg" for i in range(60)]
    write_faces(folder / "facescrub_images", scrub, (8, 8))
    write_faces(folder / "megaface_images", others, (8, 8))
    (folder / "facescrub_lst").write_text("".join(f"/raid/facescrub/{each}\n" for each in scrub))
    (folder / "megaface_lst").write_text("".join(f"{each}\n" for each in others))
    (folder / "facescrub_noises.txt").write_text("# of others\nPerson_0_0.png\n")
    (folder / "megaface_noises.txt").write_text("Person_1\t000/3/3_0.jpg\n")


def write_matrix(path: Path, features: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = features.shape
    head = struct.pack("<4i", rows, columns, 4 * columns, 5)
    path.write_bytes(head + features.astype("<f4").tobytes())


def element(kind: int, content: bytes) -> bytes:
    if len(content) <= 4:
        return struct.pack("<HH", kind, len(content)) + content.ljust(4, b"\0")
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, name: str, shape: tuple[int, int], content: bytes) -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, np.array(shape, "<i4").tobytes())
    return element(14, head + element(1, name.encode()) + content)


def cells(name: str, texts: list[str]) -> bytes:
    inner = [matrix(4, "", (1, len(each)), element(16, each.encode())) for each in texts]
    return matrix(1, name, (len(texts), 1), b"".join(inner))


def numbers(name: str, values: list[float]) -> bytes:
    content = element(9, struct.pack(f"<{len(values)}d", *values))
    return matrix(6, name, (len(values), 1), content)


def mat_file(variables: bytes, packed: bool = False) -> bytes:
    if packed:  # each variable is a separate element
        parts, place = [], 0
        while place < len(variables):
            (size,) = struct.unpack_from("<I", variables, place + 4)
            data = zlib.compress(variables[place : place + 8 + size])
            parts.append(struct.pack("<II", 15, len(data)) + data)
            place += 8 + size
        variables = b"".join(parts)
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + variables
