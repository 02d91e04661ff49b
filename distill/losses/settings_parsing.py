"""Settings of losses from what users give: a spec, or arguments."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import TypedDict

from curation.errors import UserError
from curation.faults import requirement
from curation.suggestions import hint, listed
from distill.losses.settings import (
    AnySettings,
    HeadSettings,
    LossSettings,
    known_settings,
    names,
    settings_of,
)
from distill.spec_errors import SpecError


def checked_settings(
    kind: type[AnySettings], settings: LossSettings | None, given: Mapping[str, Any], what: str
) -> AnySettings:
    """``settings``, or those ``given`` by name, as ``kind``; ``UserError`` if they do not fit."""
    if settings is not None:
        if not isinstance(settings, kind) or given:
            wrong = f"{', '.join(given)} beside settings" if given else type(settings).__name__
            raise UserError(f"{what} takes {kind.__name__}, or its settings by name; not {wrong}")
        return settings
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise UserError(f"{what}: {_fault(error, kind)}") from None


def _typed(given: Any) -> Any:
    """``{name: {setting: value}}`` as settings; errors point to the name and the setting."""
    if not isinstance(given, Mapping) or all(isinstance(e, LossSettings) for e in given.values()):
        if given == {}:
            raise ValueError(f"at least one loss is needed{listed(names())}")
        return given
    classes = {name: settings_of(name) for name in given}
    if unknown := [name for name, settings in classes.items() if settings is None]:
        raise ValidationError.from_exception_data("Losses", [_unknown(name) for name in unknown])
    typed: Any = TypedDict("Losses", classes)  # type: ignore[misc]
    return TypeAdapter(typed).validate_python(dict(given))


def _unknown(name: str) -> InitErrorDetails:
    message = f"no such loss{hint(name, names())}"
    return InitErrorDetails(
        type=PydanticCustomError("unknown_loss", message), loc=(name,), input=None
    )


Losses = Annotated[dict[str, SerializeAsAny[LossSettings]], BeforeValidator(_typed)]
"""In a job spec: the losses of a stage with their settings, by name."""


def parse_losses(given: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, LossSettings]:
    """``{name: {setting: value}}`` as settings; ``UserError`` names the key."""
    try:
        parsed: dict[str, LossSettings] = TypeAdapter(Losses).validate_python(given)
    except ValidationError as error:
        raise UserError(_refusal(where, error)) from None
    return parsed


def _refusal(where: str, error: ValidationError) -> str:
    """The error message for the settings of several losses."""
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"])])
    message = requirement(first)
    if len(first["loc"]) < 2:
        return f"{key}: {message}"
    name, setting = str(first["loc"][0]), str(first["loc"][-1])
    settings = known_settings(name).model_fields
    if first["type"] == "extra_forbidden":
        return f"{key}: {name} has no such setting{hint(setting, settings)}"
    return f"{key}: {message} (settings are {', '.join(settings)})"


def _fault(error: ValidationError, kind: type[LossSettings]) -> str:
    """The error message for settings given by name."""
    first = error.errors()[0]
    message = requirement(first)
    if not first["loc"]:
        return message
    argument = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"no such argument {argument!r}{hint(argument, kind.model_fields)}"
    return f"{argument} = {first['input']!r:.80}: {message}"


def check_shardable(losses: Mapping[str, LossSettings]) -> None:
    """Raise ``SpecError`` if a loss needs class weights of other ranks."""
    for name, settings in losses.items():
        if settings.needs_centres and not isinstance(settings, HeadSettings):
            raise SpecError(
                (name,),
                f"needs the class weights of all identities on every rank, but "
                f"centres.sharded is true; allowed with it: {', '.join(_heads())} and losses "
                "without class weights; or set sharded = false",
            )


def _heads() -> Iterable[str]:
    return [name for name in names() if issubclass(known_settings(name), HeadSettings)]
