"""Writing drawings to files, in the format of the file suffix."""

from pathlib import Path

from curation.errors import UserError
from curation.files import atomic_file, check_writable
from distill.charts.chart import Drawing
from distill.charts.png import png
from distill.charts.svg import svg_file

KINDS = (".svg", ".png")


def check_picture(path: Path) -> None:
    """Raise `UserError` if no drawing can be written there; call it before the work."""
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: a drawing must be an .svg or .png file; give it such a name")
    check_writable(path)


def write_drawing(path: Path, drawing: Drawing) -> None:
    """Write the file atomically; ``UserError`` if it cannot be written."""
    is_png = path.suffix.lower() == ".png"
    data = png(drawing) if is_png else svg_file(drawing).encode()
    try:
        with atomic_file(path) as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
