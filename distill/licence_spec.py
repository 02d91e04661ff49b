"""The ``[licence]`` table of a job: the terms of its data, its teacher and its network."""

from typing import Annotated, Any

from pydantic import Field, PlainValidator, TypeAdapter

from distill.export.config import LicenceText
from distill.training.config import Strict

_TEXT: TypeAdapter[str] = TypeAdapter(LicenceText, config=Strict.model_config)
_BY_NAME: TypeAdapter[dict[str, str]] = TypeAdapter(
    Annotated[dict[str, LicenceText], Field(min_length=1, max_length=100)],
    config=Strict.model_config,
)


def _text_or_texts(given: Any) -> str | dict[str, str]:
    """Validated by hand, for a single message if it is neither a text nor a table."""
    if isinstance(given, dict):
        return _BY_NAME.validate_python(given)
    if isinstance(given, str):
        return _TEXT.validate_python(given)
    raise ValueError(
        'must be a text, such as "research only", or a table of several by name, such as '
        '{ "ms1m/clean" = "research only" }'
    )


Texts = Annotated[str | dict[str, str], PlainValidator(_text_or_texts)]


class LicenceSpec(Strict):
    """The terms of the sets in ``data.train``, of the ``teacher``, of the network that the student
    starts from (``beginning``), and of the delivered ``weights``: a text for all of a kind, or one
    by name. Omitted terms are unknown, or those stated by a bundle that the job uses."""

    data: Texts | None = None
    teacher: Texts | None = None
    beginning: LicenceText | None = None
    weights: LicenceText | None = None

    def of_data(self, name: str) -> str | None:
        return _of(self.data, name)

    def of_teacher(self, name: str) -> str | None:
        return _of(self.teacher, name)


def _of(given: str | dict[str, str] | None, name: str) -> str | None:
    return given.get(name) if isinstance(given, dict) else given
