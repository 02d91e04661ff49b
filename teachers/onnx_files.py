"""Reading untrusted ONNX files, including external weight files.

Reads nothing outside the file's own folder and runs nothing.
"""

import hashlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.files import read_whole
from curation.text_numbers import whole
from teachers.onnx_graphs import check_graph

MAXIMUM_BYTES = 2**31  # the limit of protocol buffers


def read_onnx(path: Path) -> tuple[Any, str]:
    """The model including all weights, and the SHA-256 of the file and its external weight files.

    Raises ``UserError`` if the file is missing, truncated or not ONNX, has weights outside its own
    folder, or a graph that `check_graph` refuses.
    """
    content = _read(path)
    model = _parse(path, content)
    digest = hashlib.sha256(content).hexdigest()
    if outside := _outside(model):
        files = _take_in(path, outside)
        digest = hashlib.sha256("|".join([digest, *files]).encode()).hexdigest()
    return model, digest


def size_of_weights(path: Path) -> int:
    """The total size of the file and its external weight files; raises errors as `read_onnx`."""
    names = {_location(tensor) for tensor in _outside(_parse(path, _read(path)))}
    return path.stat().st_size + sum(_beside(path, name).stat().st_size for name in names)


def _parse(path: Path, content: bytes) -> Any:
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except MemoryError:
        raise
    except Exception:
        # protobuf's DecodeError; protobuf is a dependency of onnx, not ours.
        raise UserError(
            f"{path}: not an ONNX file, or cut short; export or copy it again"
        ) from None
    del model.training_info[:]  # graphs used only in training
    check_graph(path, model)
    return model


def _outside(model: Any) -> list[Any]:
    """The tensors whose bytes are in other files."""
    import onnx

    return [each for each in _tensors(model) if each.data_location == onnx.TensorProto.EXTERNAL]


def _location(tensor: Any) -> str:
    return {entry.key: entry.value for entry in tensor.external_data}.get(
        "location", ""
    ).removeprefix("./")


def check_it_may_be_onnx(path: Path) -> None:
    """Raise ``UserError`` if the file is missing, or clearly another format by its first bytes."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of an .onnx file")
    if path.stat().st_size > MAXIMUM_BYTES:
        raise UserError(f"{path}: larger than 2 GiB, the limit of ONNX files")
    kind = detect_kind(path)
    if kind is not None and kind.name != "onnx":
        raise UserError(f"{path}: {kind.what}, not an ONNX file; {kind.network_advice}")


def _read(path: Path) -> bytes:
    check_it_may_be_onnx(path)
    return read_whole(path, MAXIMUM_BYTES)


def _take_in(path: Path, tensors: list[Any]) -> list[str]:
    """Load the bytes of external tensors; returns the SHA-256 of each file, in order."""
    contents: dict[str, bytes] = {}
    for tensor in tensors:
        location = {entry.key: entry.value for entry in tensor.external_data}
        name = _location(tensor)
        if name not in contents:
            contents[name] = read_whole(_beside(path, name), MAXIMUM_BYTES)
            if sum(map(len, contents.values())) > MAXIMUM_BYTES:
                raise UserError(f"{path}: more than 2 GiB of weights, which is not supported")
        first = _number(path, location.get("offset", "0"))
        length = _number(path, location.get("length", str(len(contents[name]) - first)))
        if length < 0 or first + length > len(contents[name]):
            raise UserError(f"{path}: {name!r} beside it is too short; copy both again")
        tensor.raw_data = contents[name][first : first + length]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return [hashlib.sha256(contents[name]).hexdigest() for name in sorted(contents)]


def _beside(path: Path, name: str) -> Path:
    odd = not name.isprintable() or len(name) > 200 or "\\" in name
    if odd or name in ("", ".", "..") or name != Path(name).name:
        raise UserError(
            f"{path}: its weights lie in other files outside its folder (external data in "
            f"{name[:80]!r}), which are not read; save it as one file with "
            "onnx.save(model, path, save_as_external_data=False)"
        )
    beside = path.parent / name
    if beside.is_symlink() or not beside.is_file() or beside.stat().st_size > MAXIMUM_BYTES:
        raise UserError(
            f"{path}: its weights lie in other files (external data), and {name!r} is not a file "
            "beside it; copy it there too"
        )
    return beside


def _number(path: Path, text: str) -> int:
    found = whole(text, 15)
    if found is None:
        raise UserError(f"{path}: external data at {text!r:.40}, which is not a position in a file")
    return found


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model without nested graphs, dense and sparse."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    for attribute in chain.from_iterable(node.attribute for node in chain.from_iterable(bodies)):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
