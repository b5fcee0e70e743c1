"""The canonical form of XML, as its recommendation writes it."""

from __future__ import annotations

import pytest

from attestation.evidence.canonical_xml import canonical, parse_xml

# Left: what is written; right: its canonical form, worked out by hand from the recommendation.
CANONICAL = [
    ("<a/>", "<a></a>"),
    ("<?xml version=\"1.0\"?>\n<a  b = '1' ></a >\n", '<a b="1"></a>'),
    ('<a z="1" b="2" xmlns="u" xmlns:q="v" q:a="3"/>', '<a xmlns="u" xmlns:q="v" b="2" z="1" q:a="3"></a>'),
    ('<p:a xmlns:p="u"><p:b xmlns:p="u"/></p:a>', '<p:a xmlns:p="u"><p:b></p:b></p:a>'),
    ('<a xmlns="u"><b xmlns=""/></a>', '<a xmlns="u"><b xmlns=""></b></a>'),
    ('<a>x&amp;&lt;&gt;"&#13;\r\ny</a>', '<a>x&amp;&lt;&gt;"&#xD;\ny</a>'),
    ("<a b='&lt;&amp;&quot;&#9;&#10;&#13;x\ty>'/>", '<a b="&lt;&amp;&quot;&#x9;&#xA;&#xD;x y>"></a>'),
]


@pytest.mark.parametrize(("written", "expected"), CANONICAL)
def test_the_canonical_form_is_the_recommendations(written: str, expected: str) -> None:  # evidence-gpu.md E102
    assert canonical(parse_xml("test", written.encode())).decode() == expected


def test_a_part_keeps_the_namespaces_it_stood_in() -> None:
    tree = parse_xml("test", b'<a xmlns="u" xmlns:p="v"><b/><c/></a>')
    first, second = tree.children()
    assert canonical(first) == b'<b xmlns="u" xmlns:p="v"></b>'
    assert canonical(tree, without=second) == b'<a xmlns="u" xmlns:p="v"><b></b></a>'
