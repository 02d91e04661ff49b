"""Read a store or view in a PyTorch DataLoader.

python examples/python/read_store.py workspace/datasets/sample/clean.view
"""

import sys

import torch
from torch.utils.data import DataLoader, Dataset

from curation.image_set import ImageSet
from curation.images import decode
from curation.views import open_images


class Faces(Dataset):
    """Pixels in [-1, 1], float32 [3, H, W], and the label of each image."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images  # may be pickled: each worker of the loader opens the file itself

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = torch.from_numpy(decode(self.images.read(index)))  # uint8 RGB [H, W, 3]
        return pixels.permute(2, 0, 1) / 127.5 - 1, int(self.images.labels[index])


def main(path: str, batch_size: int = 8) -> None:
    images = open_images(path)
    print(f"{len(images):,} images of {images.identities:,} identities")
    loader = DataLoader(Faces(images), batch_size=batch_size, shuffle=True, num_workers=2)
    pixels, labels = next(iter(loader))
    print(f"a batch: {list(pixels.shape)}, labels {labels.tolist()}")


if __name__ == "__main__":
    main(sys.argv[1])
