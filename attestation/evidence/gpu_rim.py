"""A reference integrity manifest of NVIDIA's: a signed SWID tag with the measurements of one driver or VBIOS.

Parsed, not believed: `attestation.verify.gpu_rim` checks the signature over the same tree. The profile is
the one NVIDIA signs with and no other, so that there is one reading of it (docs/spec/evidence-gpu.md E102,
E103).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from attestation.errors import FormatRefused
from attestation.evidence.canonical_xml import Element, canonical, parse_xml

_SWID: Final = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_HASH: Final = "http://www.w3.org/2001/04/xmlenc#sha384"
_C14N11: Final = "http://www.w3.org/2006/12/xml-c14n11"
_ECDSA_SHA384: Final = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384: Final = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"

_ALTERNATIVES_MAX: Final = 64
_INDEX_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class GpuRim:
    """What a manifest says, and what its signature is over."""

    product: str
    version: str
    tag_id: str
    measurements: Mapping[int, frozenset[bytes]]
    document: bytes
    document_digest: bytes
    signed_info: bytes
    signature: bytes
    certificates: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> GpuRim:
        """Parse `data`, all of it. Raises `FormatRefused` and nothing else."""
        root = parse_xml("gpu.rim.xml", data)
        if root.name != (_SWID, "SoftwareIdentity"):
            raise _malformed("a SoftwareIdentity", root.name)
        meta = _one(root, (_SWID, "Meta"))
        # The signature has to be a child of the root: there is one document and one place for its signature.
        signature = _one(root, (_DSIG, "Signature"))
        signed_info = _one(signature, (_DSIG, "SignedInfo"))
        return cls(
            product=_required(meta, "product"),
            version=_required(meta, "colloquialVersion"),
            tag_id=_required(root, "tagId"),
            measurements=_measurements(_one(root, (_SWID, "Payload"))),
            document=canonical(root, without=signature),
            document_digest=_document_digest(signed_info),
            signed_info=canonical(signed_info),
            signature=_base64(_one(signature, (_DSIG, "SignatureValue")).text),
            certificates=_certificates(signature),
        )


def _malformed(expected: str, got: object) -> FormatRefused:
    return FormatRefused("gpu.rim", expected=expected, got=ascii(got)[:120])


def _one(parent: Element, name: tuple[str, str]) -> Element:
    found = parent.children(name)
    if len(found) != 1:
        raise _malformed(f"one {name[1]}", len(found))
    return found[0]


def _required(element: Element, local: str, namespace: str = "") -> str:
    value = element.attribute(namespace, local)
    if value is None or not 0 < len(value) <= 128:
        raise _malformed(f"{local} of 1 to 128 characters", value)
    return value


def _number(element: Element, local: str, most: int) -> int:
    text = _required(element, local)
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > most:
        raise _malformed(f"{local} from 0 to {most}", text)
    return int(text)


def _measurements(payload: Element) -> Mapping[int, frozenset[bytes]]:
    """The digests of the active resources, by index. An inactive one says nothing about its measurement."""
    found: dict[int, frozenset[bytes]] = {}
    seen = set()
    for resource in payload.children():
        if resource.name != (_SWID, "Resource") or _required(resource, "type") != "Measurement":
            raise _malformed("measurements alone", resource.name)
        index = _number(resource, "index", _INDEX_MAX)
        if index in seen:
            raise _malformed("each index once", index)
        seen.add(index)
        active = _required(resource, "active")
        if active not in ("True", "False"):
            raise _malformed('active="True" or "False"', active)
        count = _number(resource, "alternatives", _ALTERNATIVES_MAX)
        digests = frozenset(_digest(resource, number) for number in range(count))
        if active == "True":
            found[index] = digests
    return MappingProxyType(found)


def _digest(resource: Element, number: int) -> bytes:
    text = _required(resource, f"Hash{number}", _HASH)
    if not re.fullmatch(r"[0-9a-fA-F]{96}", text):
        raise _malformed("a SHA-384 in hexadecimal", text)
    return bytes.fromhex(text)


def _document_digest(signed_info: Element) -> bytes:
    """The digest in the one reference there may be: to the whole document, by one fixed set of algorithms."""
    _algorithm(_one(signed_info, (_DSIG, "CanonicalizationMethod")), _C14N11)
    _algorithm(_one(signed_info, (_DSIG, "SignatureMethod")), _ECDSA_SHA384)
    reference = _one(signed_info, (_DSIG, "Reference"))
    if reference.attribute("", "URI") != "":
        raise _malformed('a reference to the whole document, URI=""', reference.attribute("", "URI"))
    transforms = _one(reference, (_DSIG, "Transforms")).children()
    for transform, wanted in zip(transforms, (_ENVELOPED, _C14N11), strict=False):
        _algorithm(transform, wanted)
    if len(transforms) != 2:
        raise _malformed("two transforms", len(transforms))
    _algorithm(_one(reference, (_DSIG, "DigestMethod")), _SHA384)
    return _base64(_one(reference, (_DSIG, "DigestValue")).text)


def _algorithm(element: Element, wanted: str) -> None:
    got = element.attribute("", "Algorithm")
    if got != wanted or element.children():
        raise _malformed(wanted, got)


def _certificates(signature: Element) -> tuple[bytes, ...]:
    holder = _one(_one(signature, (_DSIG, "KeyInfo")), (_DSIG, "X509Data"))
    return tuple(_base64(child.text) for child in holder.children((_DSIG, "X509Certificate")))


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"[ \t\r\n]", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("base64", f"{len(text)} characters that are not base64") from None
