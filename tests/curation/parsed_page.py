"""An HTML page as a tree, by the standard library's parser."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "input"}


@dataclass
class Node:
    """An element with its attributes, texts and child elements."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    content: "list[Node | str]" = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        """All text in it, with blanks collapsed."""
        parts = (part if isinstance(part, str) else part.text for part in self.content)
        return " ".join(" ".join(parts).split())

    def walk(self) -> "Iterator[Node]":
        """All elements in it, in document order."""
        for part in self.content:
            if isinstance(part, Node):
                yield part
                yield from part.walk()

    def all(self, tag: str = "", css: str = "") -> "list[Node]":
        """The elements with this name and class."""
        return [
            node
            for node in self.walk()
            if (not tag or node.tag == tag) and (not css or css in node.classes)
        ]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("page")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(node)
        if tag not in _VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        closed = self.open.pop()
        assert closed.tag == tag, f"</{tag}> closes <{closed.tag}>"

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def parse_page(html: str) -> Node:
    """Parse a page; an assertion fails if its tags are not nested."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert len(builder.open) == 1, f"never closed: {[node.tag for node in builder.open[1:]]}"
    return builder.open[0]
