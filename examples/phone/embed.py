"""Compare two faces with a bundle's ONNX file, without face-distill: NumPy, OpenCV, ONNX Runtime.

python embed.py BUNDLE left.jpg "x y x y x y x y x y" right.jpg "x y x y x y x y x y"

If the bundle has model.feature.onnx, this script only aligns and crops the face.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


def embed(session, face: dict, path: str, points: str) -> np.ndarray:
    """The unit feature of the face whose five points in the image are (x, y)."""
    w, z = (np.array(p, float).reshape(5, 2) @ (1, 1j)
            for p in (points.split(), face["alignment"]["points"]))  # fmt: skip
    a = np.vdot(w - w.mean(), z - z.mean()) / np.vdot(w - w.mean(), w - w.mean())
    b = z.mean() - a * w.mean()  # w -> a w + b is the similarity, of points as complex numbers
    fine = max(1, min(16, round(1 / abs(a))))  # average large faces instead of skipping pixels
    turn = fine * np.array([[a.real, -a.imag, b.real + 0.5], [a.imag, a.real, b.imag + 0.5]])
    image = cv2.warpAffine(cv2.imread(path), turn - [[0, 0, 0.5]], (112 * fine, 112 * fine))
    image = cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA)
    pixels = face["preprocessing"]
    framing = face.get("framing") or {  # older bundles have none
        "crop": {"top": 0, "left": 0, "height": 112, "width": 112},
        "scaling": "none" if pixels["size"] == [112, 112] else "area",
    }
    crop = framing["crop"]
    image = image[crop["top"] :, crop["left"] :][: crop["height"], : crop["width"]]
    if framing["scaling"] != "none":
        how = cv2.INTER_AREA if framing["scaling"] == "area" else cv2.INTER_LINEAR
        image = cv2.resize(image, pixels["size"][::-1], interpolation=how)
    if whole.exists():
        faces = np.ascontiguousarray(image[None, ..., ::-1])
        return session.run(["feature"], {"face": faces})[0][0]
    image = image if pixels["colour"] == "BGR" else image[..., ::-1]
    values = ((image - np.array(pixels["mean"])) / pixels["std"]).astype(np.float32)
    both = np.stack([values, values[:, ::-1]])[: 2 if face["mirror"] == "sum" else 1]
    batch = np.ascontiguousarray(both.transpose(0, 3, 1, 2))
    feature = session.run(["embedding"], {"image": batch})[0].sum(axis=0)
    return feature / np.linalg.norm(feature)


bundle = Path(sys.argv[1])
whole = bundle / "model.feature.onnx"
model = whole if whole.exists() else bundle / "model.onnx"
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
face = json.loads((bundle / "config.json").read_text())["face"]
left, right = (embed(session, face, *sys.argv[i : i + 2]) for i in (2, 4))
print(f"{left @ right:.6f}")  # noqa: T201 - same person above a threshold of thresholds.json
