"""Where in the text of a spec a key stands, so that a message can say it."""

from curation.toml_text import MOST_PARTS

Location = tuple[int | str, ...]
"""``("stage", 0, "epochs")``: keys, and numbers of tables in arrays."""


def line_of(text: str, location: Location) -> int | None:
    """The line of the key, or else of the nearest table around it; ``None`` where none is.

    For the plain TOML that people write: what it does not understand, it passes over.
    """
    found, longest = None, 0
    for number, place in _places(text):
        if longest < len(place) <= len(location) and location[: len(place)] == place:
            found, longest = number, len(place)
    return found


def _places(text: str) -> list[tuple[int, Location]]:
    """Every line that begins a table or a value, with its place in the document."""
    places: list[tuple[int, Location]] = []
    counts: dict[tuple[str, ...], int] = {}
    table: Location = ()
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        key, equals, _ = content.partition("=")
        if content.startswith("[") and content.endswith("]"):
            keys = _keys(content.strip("[]"))
            if content.startswith("[["):
                counts[keys] = counts.get(keys, -1) + 1
            table = _numbered(keys, counts)
            places.append((number, table))
        elif equals:
            places.append((number, table + _keys(key)))
    return places


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip(" \t\"'") for part in dotted.split(".", MOST_PARTS))


def _numbered(keys: tuple[str, ...], counts: dict[tuple[str, ...], int]) -> Location:
    """Keys with the number of the newest table wherever one of an array is meant."""
    location: Location = ()
    for end, key in enumerate(keys, 1):
        location += (key,)
        if keys[:end] in counts:
            location += (counts[keys[:end]],)
    return location
