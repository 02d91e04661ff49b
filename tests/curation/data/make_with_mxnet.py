"""How the RecordIO files here were made: by MXNet 1.9.1 itself, from a few drawings of ours.

Not run by the tests, which need no MXNet. In an environment with mxnet==1.9.1 and numpy==1.23.5:

    python make_with_mxnet.py DRAWINGS.rec

DRAWINGS.rec is any record file of JPEG images with scalar labels. All files are written into the
folder of this script; manifest.json says what each record holds.
"""

import hashlib
import json
import random
import struct
import sys
from pathlib import Path

import mxnet
import numpy as np

HERE = Path(__file__).parent
IMAGES_OF_EACH = [3, 1, 2]
MAGIC = struct.pack("<I", 0xCED7230A)


def drawings(path):
    """JPEG files, as many as are needed."""
    reader = mxnet.recordio.MXRecordIO(path, "r")
    found = []
    while len(found) < sum(IMAGES_OF_EACH):
        _, payload = mxnet.recordio.unpack(reader.read())
        if payload:
            found.append(payload)
    return found


def write(folder, images, array_labels=False, header=True):
    """A training set in insightface's layout; its manifest."""
    folder.mkdir(exist_ok=True)
    writer = mxnet.recordio.MXIndexedRecordIO(
        str(folder / "train.idx"), str(folder / "train.rec"), "w"
    )
    records = []

    def put(key, flag, label, payload):
        head = mxnet.recordio.IRHeader(flag, label, key, 0)
        offset = writer.tell()
        writer.write_idx(key, mxnet.recordio.pack(head, payload))
        records.append(
            {
                "key": key,
                "offset": offset,
                "label": label if flag == 0 else [float(value) for value in label],
                "size": len(payload),
                "sha256": hashlib.sha256(payload).hexdigest(),
            }
        )

    count = len(images)
    if header:
        put(0, 2, np.array([count + 1, count + 1 + len(IMAGES_OF_EACH)], np.float32), b"")
    ranges, key = [], 1
    for label, times in enumerate(IMAGES_OF_EACH):
        ranges.append((key, key + times))
        for _ in range(times):
            value = np.array([label, 0], np.float32) if array_labels else float(label)
            put(key, 2 if array_labels else 0, value, images[key - 1])
            key += 1
    if header:
        for number, bounds in enumerate(ranges):
            put(count + 1 + number, 2, np.array(bounds, np.float32), b"")
    writer.close()
    (folder / "property").write_text(f"{len(IMAGES_OF_EACH)},112,112\n")
    return records


def write_magic(path):
    """Records that hold the magic at every kind of place; MXNet splits them."""
    noise = random.Random(0).randbytes
    payloads = [b"", b"a", b"abc", b"abcd", MAGIC, MAGIC * 2, b"xxxx" + MAGIC, b"x" + MAGIC]
    payloads += [b"xxxx" + MAGIC + b"yyy", MAGIC + b"zzzz" + MAGIC + b"wwww" + MAGIC + b"00"]
    payloads += [noise(999) + MAGIC + noise(500), noise(1000) + MAGIC + noise(501) + MAGIC]
    writer = mxnet.recordio.MXRecordIO(str(path), "w")
    for payload in payloads:
        writer.write(payload)
    writer.close()
    return [payload.hex() for payload in payloads]


if __name__ == "__main__":
    images = drawings(sys.argv[1])
    manifest = {
        "mxnet": mxnet.__version__,
        "scalar": write(HERE / "scalar", images),
        "array": write(HERE / "array", images, array_labels=True),
        "bare": write(HERE / "bare", images, header=False),
        "magic": write_magic(HERE / "magic.rec"),
    }
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
