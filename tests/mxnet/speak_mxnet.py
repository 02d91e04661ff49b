"""Runs real MXNet on record files, in a Python interpreter separate from that of the tests.

``python speak_mxnet.py TASK`` reads a JSON object from stdin and prints one to stdout; bytes are
hex. A record is {"key", "flag", "labels", "id", "id2", "payload"}.
"""

import json
import sys

import mxnet
import numpy as np
from mxnet.recordio import IRHeader, MXIndexedRecordIO, MXRecordIO, pack, unpack


def read_raw(records):
    """The bytes of every record, in file order."""
    reader = MXRecordIO(records, "r")
    found = []
    while (record := reader.read()) is not None:
        found.append(record.hex())
    return found


def write_raw(records, contents):
    """Write records with arbitrary bytes."""
    writer = MXRecordIO(records, "w")
    for content in contents:
        writer.write(bytes.fromhex(content))
    writer.close()


def read(records, index):
    """Every record, by its key in the index."""
    reader = MXIndexedRecordIO(index, records, "r")
    return [_described(key, reader.read_idx(key)) for key in reader.keys]


def write(records, index, contents):
    """Write image records with their keys; a flag of 0 has one scalar label."""
    writer = MXIndexedRecordIO(index, records, "w")
    for content in contents:
        labels = np.array(content["labels"], np.float32)
        label = labels if content["flag"] else float(labels[0])
        header = IRHeader(content["flag"], label, content["id"], content["id2"])
        writer.write_idx(content["key"], pack(header, bytes.fromhex(content["payload"])))
    writer.close()


def load(records, index):
    """The images as insightface's loaders find them: through the header record, or by all keys."""
    reader = MXIndexedRecordIO(index, records, "r")
    header, _ = unpack(reader.read_idx(0))
    if header.flag == 0:
        return [_described(key, reader.read_idx(key)) for key in reader.keys]
    first_identity, end = (int(label) for label in header.label)
    ranges = [unpack(reader.read_idx(key))[0].label for key in range(first_identity, end)]
    return {
        "images": [_described(key, reader.read_idx(key)) for key in range(1, first_identity)],
        "ranges": [[int(bound) for bound in bounds] for bounds in ranges],
    }


def iterate(records, index, shape, batch_size):
    """Labels and pixels (RGB, H W 3) of every image, from MXNet's own image iterator."""
    iterator = mxnet.image.ImageIter(
        batch_size, (3, *shape), path_imgrec=records, path_imgidx=index, last_batch_handle="pad"
    )
    found = []
    for batch in iterator:
        count = batch_size - batch.pad
        pixels = batch.data[0].asnumpy()[:count].transpose(0, 2, 3, 1).astype(np.uint8)
        for label, image in zip(batch.label[0].asnumpy()[:count].tolist(), pixels, strict=True):
            found.append([label, image.tobytes().hex()])
    return found


def _described(key, record):
    header, payload = unpack(record)
    labels = np.atleast_1d(np.asarray(header.label, np.float32)).tolist()
    return {
        "key": key,
        "flag": header.flag,
        "labels": labels,
        "id": header.id,
        "id2": header.id2,
        "payload": payload.hex(),
    }


if __name__ == "__main__":
    tasks = {task.__name__: task for task in (read_raw, write_raw, read, write, load, iterate)}
    json.dump(tasks[sys.argv[1]](**json.load(sys.stdin)), sys.stdout)
