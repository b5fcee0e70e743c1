"""A small, strict reader of XML, and Canonical XML 1.1 of what it read.

Signed XML is only as good as the agreement on what was signed, so what is read here is what is hashed here:
one tree, from which the canonical bytes are written. Everything that makes that hard is refused: document
types, entities, comments, processing instructions, CDATA, `xml:` attributes. What is left is elements,
attributes, text and namespaces. docs/spec/evidence-gpu.md E102.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from attestation.errors import FormatRefused
from foundation.refusal import shown

XML_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
ELEMENTS_MAX = 16 * 1024


@dataclass(slots=True)
class Element:
    """One element: its names as written, its namespaces in scope, and its content in order."""

    tag: str
    attributes: Mapping[str, str]
    scope: Mapping[str, str]
    content: list[Element | str] = field(default_factory=list)

    def expanded(self, name: str, *, attribute: bool = False) -> tuple[str, str]:
        """(namespace, local name) of a name written in this element."""
        prefix, _, local = name.rpartition(":")
        if attribute and not prefix:
            return "", local
        return self.scope.get(prefix, ""), local

    @property
    def name(self) -> tuple[str, str]:
        return self.expanded(self.tag)

    def children(self, name: tuple[str, str] | None = None) -> list[Element]:
        found = [item for item in self.content if isinstance(item, Element)]
        return found if name is None else [item for item in found if item.name == name]

    def attribute(self, namespace: str, local: str) -> str | None:
        for name, value in self.attributes.items():
            if self.expanded(name, attribute=True) == (namespace, local):
                return value
        return None

    @property
    def text(self) -> str:
        return "".join(item for item in self.content if isinstance(item, str))


def parse_xml(code: str, data: bytes) -> Element:
    """The root element of `data`. Raises `FormatRefused` and nothing else."""
    if len(data) > XML_BYTES_MAX:
        raise FormatRefused(code, expected=f"at most {XML_BYTES_MAX} bytes", got=f"{len(data)} bytes")
    builder = _Builder(code)
    parser = expat.ParserCreate("utf-8")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    for handler in (
        "StartDoctypeDeclHandler",
        "CommentHandler",
        "ProcessingInstructionHandler",
        "StartCdataSectionHandler",
        "DefaultHandler",
    ):
        setattr(parser, handler, builder.refuse(handler))
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FormatRefused(code, expected="well-formed XML", got=expat.ErrorString(error.code)) from None
    if builder.root is None:
        raise FormatRefused(code, expected="an element", got="none")
    return builder.root


class _Builder:
    def __init__(self, code: str) -> None:
        self.code = code
        self.root: Element | None = None
        self.open: list[Element] = []
        self.count = 0

    def refuse(self, handler: str) -> object:
        what = handler.removesuffix("Handler")

        def refused(*arguments: object) -> None:
            # The default handler also sees the XML declaration and white space around the root: harmless.
            text = arguments[0] if arguments else ""
            if what == "Default" and isinstance(text, str) and (not text.strip() or text.startswith("<?xml ")):
                return
            self._refuse("elements and text alone", what)

        return refused

    def _refuse(self, expected: str, got: object) -> NoReturn:
        raise FormatRefused(self.code, expected=expected, got=got)

    def start(self, tag: str, pairs: Sequence[str]) -> None:
        self.count += 1
        if len(self.open) >= DEPTH_MAX or self.count > ELEMENTS_MAX:
            self._refuse(
                f"at most {DEPTH_MAX} levels and {ELEMENTS_MAX} elements",
                f"element {self.count} at level {len(self.open) + 1}",
            )
        scope = dict(self.open[-1].scope) if self.open else {}
        attributes = {}
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            if name == "xmlns" or name.startswith("xmlns:"):
                if name != "xmlns" and not value:
                    self._refuse("a prefix bound to a namespace", shown(name))
                scope[name[6:]] = value
            else:
                attributes[name] = value
        element = Element(tag, attributes, scope)
        self._check_names(element)
        if self.open:
            self.open[-1].content.append(element)
        else:
            self.root = element
        self.open.append(element)

    def _check_names(self, element: Element) -> None:
        for name in (element.tag, *element.attributes):
            prefix = name.rpartition(":")[0]
            if prefix and not element.scope.get(prefix):
                self._refuse("a prefix bound to a namespace, and not xml", ascii(prefix)[:64])
        expanded = {element.expanded(name, attribute=True) for name in element.attributes}
        if len(expanded) != len(element.attributes):
            self._refuse(
                "each attribute once", f"{len(element.attributes)} attributes, {len(expanded)} of them distinct"
            )

    def end(self, _: str) -> None:
        self.open.pop()

    def text(self, text: str) -> None:
        self.open[-1].content.append(text)


def canonical(element: Element, *, without: Element | None = None) -> bytes:
    """Canonical XML 1.1, without comments, of `element` as the apex; `without` leaves one element out."""
    parts: list[str] = []
    _write(element, {}, without, parts)
    return "".join(parts).encode()


def _write(element: Element, rendered: Mapping[str, str], without: Element | None, parts: list[str]) -> None:
    declared = {prefix: uri for prefix, uri in element.scope.items() if rendered.get(prefix, "") != uri}
    namespaces = "".join(
        f' xmlns{":" + prefix if prefix else ""}="{_attribute(uri)}"' for prefix, uri in sorted(declared.items())
    )
    ordered = sorted(element.attributes.items(), key=lambda pair: element.expanded(pair[0], attribute=True))
    attributes = "".join(f' {name}="{_attribute(value)}"' for name, value in ordered)
    parts.append(f"<{element.tag}{namespaces}{attributes}>")
    for item in element.content:
        if isinstance(item, str):
            parts.append(_text(item))
        elif item is not without:
            _write(item, element.scope, without, parts)
    parts.append(f"</{element.tag}>")


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")


def _attribute(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return escaped.replace("\t", "&#x9;").replace("\n", "&#xA;").replace("\r", "&#xD;")
