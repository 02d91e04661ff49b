"""The options for using a model file that does not describe its own input."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from curation.noise.embedded import TeacherChoice


@dataclass(frozen=True)
class ModelFileOptions:
    """A network and its expected pixels; bundles and finished jobs need no such options."""

    backbone: Annotated[
        str | None,
        typer.Option(help="The network of a weight file, such as iresnet100.", show_default=False),
    ] = None
    part: Annotated[
        str | None,
        typer.Option(
            help="The output to use of an .onnx file with several, or the part to use of a "
            "weight file that holds several copies of the network.",
            show_default=False,
        ),
    ] = None
    mean: Annotated[
        float | None,
        typer.Option(
            help="The value that an .onnx or weight file expects to be subtracted from pixels of "
            "0 to 255.",
            show_default=False,
        ),
    ] = None
    std: Annotated[
        float | None,
        typer.Option(help="The value to divide by after --mean is subtracted.", show_default=False),
    ] = None
    colour: Annotated[
        str | None,
        typer.Option(
            help="The colour order that an .onnx or weight file expects: RGB or BGR.",
            show_default=False,
        ),
    ] = None
    size: Annotated[int, typer.Option(help="The side of the network's input, in pixels.")] = 112

    def choice(self, name: str) -> "TeacherChoice":
        """The model of this name; a ``UserError`` names the option with an invalid value."""
        from pydantic import ValidationError

        from curation.errors import UserError
        from curation.faults import requirement
        from curation.noise.embedded import TeacherChoice

        try:
            return TeacherChoice.model_validate({"name": name, **asdict(self)})
        except ValidationError as error:
            first = error.errors()[0]
            option = f"--{first['loc'][0]}".replace("_", "-")
            raise UserError(f"{option}: {requirement(first)}, got {first['input']!r}") from None


@dataclass(frozen=True)
class TeacherOptions(ModelFileOptions):
    """The teacher for curation, and its required accuracy."""

    least_accuracy: Annotated[
        float | None,
        typer.Option(
            help="Stop if the teacher's accuracy on a few hundred pairs is lower; 0: never.",
            show_default="0.65",
        ),
    ] = None
