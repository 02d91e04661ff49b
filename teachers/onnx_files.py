"""ONNX files as bytes of others: read whole, with the weights that lie beside them.

Nothing outside the file's own folder is read, and nothing is run here.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.file_kinds import what_is_this
from curation.files import open_regular

MAXIMUM_BYTES = 2**31  # A protocol buffer cannot be larger.


def read_onnx(path: Path) -> tuple[Any, str]:
    """The model, with all weights inside, and the SHA-256 of the file and of what lies beside it.

    Raises ``UserError`` where the file is missing, is something else, is cut short, or has weights
    elsewhere than beside itself.
    """
    import onnx

    content = _read(path)
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:
        # protobuf's DecodeError; protobuf is onnx's dependency, not ours.
        raise UserError(
            f"{path}: not an ONNX file, or cut short; export or copy it again"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    bodies = chain.from_iterable(function.node for function in model.functions)
    outside = [
        tensor
        for tensor in chain(_tensors(model.graph), _constants(bodies))
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    if outside:
        files = _take_in(path, outside)
        digest = hashlib.sha256("|".join([digest, *files]).encode()).hexdigest()
    return model, digest


def check_it_may_be_onnx(path: Path) -> None:
    """Raise ``UserError`` where the file is missing, or by its first bytes something else."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of an .onnx file")
    if path.stat().st_size > MAXIMUM_BYTES:
        raise UserError(f"{path}: larger than 2 GiB, which no ONNX file can be")
    kind = what_is_this(path)
    if kind is not None and kind.name != "onnx":
        raise UserError(f"{path}: {kind.what}, not an ONNX file; {kind.advice}")


def _read(path: Path) -> bytes:
    check_it_may_be_onnx(path)
    with open_regular(path) as file:
        return file.read(MAXIMUM_BYTES)


def _take_in(path: Path, tensors: list[Any]) -> list[str]:
    """Put the bytes of external tensors into them; the SHA-256 of each file, in order."""
    contents: dict[str, bytes] = {}
    for tensor in tensors:
        told = {entry.key: entry.value for entry in tensor.external_data}
        name = told.get("location", "")
        if name not in contents:
            contents[name] = _read_beside(path, name)
            if sum(map(len, contents.values())) > MAXIMUM_BYTES:
                raise UserError(f"{path}: more than 2 GiB of weights, which is not supported")
        first = _number(path, told.get("offset", "0"))
        length = _number(path, told.get("length", str(len(contents[name]) - first)))
        if length < 0 or first + length > len(contents[name]):
            raise UserError(f"{path}: {name!r} beside it is too short; copy both again")
        tensor.raw_data = contents[name][first : first + length]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return [hashlib.sha256(contents[name]).hexdigest() for name in sorted(contents)]


def _read_beside(path: Path, name: str) -> bytes:
    if not name or name in (".", "..") or name != Path(name).name or "\\" in name:
        raise UserError(
            f"{path}: its weights lie in other files outside its folder (external data in "
            f"{name!r}), which are not read; save it as one file with "
            "onnx.save(model, path, save_as_external_data=False)"
        )
    beside = path.parent / name
    if beside.is_symlink() or not beside.is_file() or beside.stat().st_size > MAXIMUM_BYTES:
        raise UserError(
            f"{path}: its weights lie in other files (external data), and {name!r} is not a file "
            "beside it; copy it there too"
        )
    with open_regular(beside) as file:
        return file.read(MAXIMUM_BYTES)


def _number(path: Path, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise UserError(f"{path}: external data at {text!r:.40}, which is no position in a file")
    return int(text)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, dense and sparse, in its nested graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _constants(graph.node)


def _constants(nodes: Iterable[Any]) -> Iterator[Any]:
    """Every tensor that nodes hold as attributes."""
    for attribute in chain.from_iterable(node.attribute for node in nodes):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)
