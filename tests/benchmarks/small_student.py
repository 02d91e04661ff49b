"""The same small student trained from labels alone on several views of one store, and its scores.

    python tests/benchmarks/small_student.py --pairs lfw.bin cfp_ff.bin -- \\
        faces/noisy.view faces/noisy.view:filter_above=0.4 faces/clean.view

A plain network of four convolutions at 32x32 with ArcFace (scale 32, margin 0.2), the same number
of steps for each view, several seeds. It measures the value of labels and images in minutes on one
core.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curation.image_set import ImageSet
from curation.images import decode
from curation.pairs import read_pairs
from curation.views import open_images
from distill.losses import ArcFace

SIDE, BATCH, WIDTH, EMBEDDING = 32, 64, 16, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("views", nargs="+", help="VIEW or VIEW:filter_above=0.4")
    parser.add_argument("--pairs", nargs="+", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = [(path.stem, *pixels_of_pairs(path)) for path in options.pairs]
    pictures: dict[int, np.ndarray] = {}
    for seed in range(options.seeds):
        for view in options.views:
            began = time.process_time()
            scores = {
                name: accuracy(*given)
                for name, given in scored(view, options.steps, seed, sets, pictures)
            }
            told = {"view": view, "seed": seed, **scores, "cpu": time.process_time() - began}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()


def scored(
    named: str, steps: int, seed: int, sets: list, pictures: dict[int, np.ndarray]
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """The cosines of the pairs of each set, and which show one person."""
    path, _, setting = named.partition(":")
    given = {key: float(value) for key, value in [setting.split("=")] if key} if setting else {}
    images = open_images(Path(path))
    fill(pictures, images)
    pixels = torch.from_numpy(np.stack([pictures[row] for row in images.rows.tolist()]))
    labels = torch.from_numpy(images.labels.astype(np.int64))
    network = trained(pixels, labels, images.identities, steps, seed, given)
    for name, faces, same in sets:
        vectors = embedded(network, faces)
        yield name, ((vectors[::2] * vectors[1::2]).sum(1), same)


def trained(
    pixels: Tensor, labels: Tensor, identities: int, steps: int, seed: int, given: dict[str, float]
) -> nn.Module:
    torch.manual_seed(seed)
    network = student()
    loss = ArcFace(identities=identities, embedding=EMBEDDING, scale=32.0, margin=0.2, **given)
    parameters = [*network.parameters(), *loss.parameters()]
    optimiser = torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=steps)
    order = torch.randperm(len(labels))
    for step in range(steps):
        if (step + 1) * BATCH % len(labels) < BATCH:
            order = torch.randperm(len(labels))
        taken = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(labels)]
        batch = normalised(pixels[taken])
        batch = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, batch.flip(3), batch)
        optimiser.zero_grad()
        loss(network(batch), labels[taken]).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def student() -> nn.Module:
    widths = [3, WIDTH, 2 * WIDTH, 3 * WIDTH, 4 * WIDTH]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.PReLU(after)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 4, EMBEDDING))


def normalised(pixels: Tensor) -> Tensor:
    """uint8 ``[B, H, W, 3]`` as float32 ``[B, 3, H, W]`` in -1 to 1."""
    return (pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5


@torch.no_grad()
def embedded(network: nn.Module, faces: Tensor) -> np.ndarray:
    """Unit vectors float32 ``[P, D]``, of both views together."""
    parts = []
    for batch in faces.split(256):
        both = network(normalised(batch)) + network(normalised(batch).flip(3))
        parts.append(F.normalize(both).numpy())
    return np.concatenate(parts)


def accuracy(cosines: np.ndarray, same: np.ndarray) -> float:
    """With the best threshold of the other half of the pairs."""
    halves = np.arange(len(same)) % 2
    right = []
    for half in (0, 1):
        other = halves != half
        limits = np.unique(cosines[other])
        shares = [((cosines[other] > limit) == same[other]).mean() for limit in limits]
        best = limits[int(np.argmax(shares))]
        right.append(((cosines[halves == half] > best) == same[halves == half]).mean())
    return float(np.mean(right))


def pixels_of_pairs(path: Path) -> tuple[Tensor, np.ndarray]:
    pairs = read_pairs(path)
    faces = [small(decode(file)) for file in pairs.images]
    return torch.from_numpy(np.stack(faces)), np.asarray(pairs.same)


def fill(pictures: dict[int, np.ndarray], images: ImageSet) -> None:
    """Decode the images that are still missing."""
    missing = [i for i, row in enumerate(images.rows.tolist()) if row not in pictures]
    for number in missing:
        pictures[int(images.rows[number])] = small(decode(images.read(number)))


def small(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
