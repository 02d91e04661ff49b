"""Describes in words how an aligned face becomes a network's input."""

from distill.export.config import FaceConfig, Framing

_SCALING = {"area": "area averaging", "bilinear": "bilinear"}


def framing_words(face: FaceConfig) -> str:
    """The framing of an image with the size of the training images."""
    height, width = face.preprocessing.size
    framing = face.framing or Framing.of(face.image_size, face.preprocessing.size)
    crop, (image_height, image_width) = framing.crop, framing.image_size
    text = f"as an image of {image_height}x{image_width} pixels"
    if (crop.height, crop.width) != framing.image_size:
        text += (
            f", of which the middle {crop.height}x{crop.width} is taken, from row {crop.top} and "
            f"column {crop.left} on (cropped, never squeezed)"
        )
    return (
        text
        if framing.scaling == "none"
        else f"{text}, scaled to {height}x{width} ({_SCALING[framing.scaling]})"
    )
