"""A small network as a teacher, and views of some rows of a store."""

import numpy as np
import torch

from curation.view_writing import write_view
from curation.views import View
from distill.backbones import create
from teachers.embedder import TorchEmbedder, module_digest
from teachers.preprocessing import Preprocessing


def make_teacher(seed=0, size=(32, 32)):
    torch.manual_seed(seed)
    network = create("mobilefacenet", embedding=16, input_size=size, width=0.125)
    return TorchEmbedder(network, Preprocessing.ours(size), module_digest(network))


def some_rows(store, path, rows):
    write_view(path, store, np.array(rows), np.zeros(len(rows), np.int32), "test", {})
    return View(path)
