"""Train with a loss of ours in a loop of your own.

python examples/python/own_loop.py workspace/datasets/sample/clean.view
"""

import sys

import torch
from read_store import Faces
from torch.utils.data import DataLoader

from curation.views import open_images
from distill.losses import ArcFace


def main(path: str, epochs: int = 1, embedding: int = 32) -> None:
    images = open_images(path)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(), torch.nn.Linear(256, embedding),
    )  # fmt: skip
    arcface = ArcFace(identities=images.identities, embedding=embedding, scale=16.0, margin=0.2)
    # The loss owns the class weights: the optimiser gets its parameters too.
    optimiser = torch.optim.AdamW([*network.parameters(), *arcface.parameters()], lr=1e-3)
    for epoch in range(epochs):
        for pixels, labels in DataLoader(Faces(images), batch_size=16, shuffle=True):
            loss = arcface(network(pixels), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
