"""A simulated NVIDIA device: certificate chain, reports and manifests, each with a knob to get it wrong."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.evidence.canonical_xml import canonical, parse_xml
from tests.unit.attestation.forge_tdx import Identity, issue, new_key, raw_signature

FWID = b"\xf1" * 48
NONCE = b"\x4e" * 32
SHA384 = hashes.SHA384()
MEASUREMENTS = tuple(bytes([n]) * 48 for n in range(1, 41))
OPAQUE: Mapping[int, bytes] = {
    3: b"550.1\0",
    6: bytes.fromhex("009f009602000000"),
    11: b"\xaa",
    14: b"\0\xc0\1\0",
    15: b"885\0",
    17: b"G520\0",
    18: b"0200\0",
    20: FWID,
    99: b"",
}
DICE = "2.23.133.5.4.1"


def certify(name: str, issuer: Identity | None, ca: int | None, **changes: Any) -> Identity:
    return issue(name, issuer, ca=ca, **{"key": new_key(ec.SECP384R1()), "algorithm": SHA384, **changes})


@dataclass(frozen=True)
class Device:
    """One device under a root of its own."""

    root: Identity = field(default_factory=lambda: certify("SIM Device CA", None, 3))

    @cached_property
    def family(self) -> Identity:
        return certify("SIM GH100 Identity", self.root, 2)

    @cached_property
    def provisioner(self) -> Identity:
        return certify("SIM Provisioner", self.family, 1)

    @cached_property
    def identity(self) -> Identity:
        return certify("GH100 A01 GSP BROM", self.provisioner, 0)

    def leaf(self, name: str = "GH100 A01 GSP FMC LF", **changes: Any) -> Identity:
        return certify(name, self.identity, None, **{"extra": [(DICE, b"\x30\x40" + FWID, False)], **changes})

    @cached_property
    def signer(self) -> Identity:
        return self.leaf()

    def chain(self, leaf: Identity | None = None) -> bytes:
        others = (self.identity, self.provisioner, self.family, self.root)
        return "".join(one.pem for one in (leaf or self.signer, *others)).encode()

    def report(
        self,
        leaf: Identity | None = None,
        *,
        nonce: bytes = NONCE,
        opaque: Mapping[int, bytes] | None = None,
        measurements: Sequence[bytes] = MEASUREMENTS,
    ) -> bytes:
        signed = unsigned(nonce, opaque, measurements)
        return signed + raw_signature((leaf or self.signer).key, signed, SHA384)


def block(index: int, value: bytes) -> bytes:
    size = len(value)
    return bytes([index, 1]) + (size + 3).to_bytes(2, "little") + b"\1" + size.to_bytes(2, "little") + value


def unsigned(
    nonce: bytes = NONCE, opaque: Mapping[int, bytes] | None = None, measurements: Sequence[bytes] = MEASUREMENTS
) -> bytes:
    record = b"".join(block(number, value) for number, value in enumerate(measurements, start=1))
    fields = b"".join(
        kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
        for kind, value in (OPAQUE if opaque is None else opaque).items()
    )
    response = b"\x11\x60\0\0" + bytes([len(measurements)]) + len(record).to_bytes(3, "little") + record
    return b"\x11\xe0\1\xff" + nonce + b"\0" + response + bytes(32) + len(fields).to_bytes(2, "little") + fields


_SIGNED_INFO = """<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"/>\
<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/><ds:Reference URI="">\
<ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>\
<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/></ds:Transforms>\
<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/>\
<ds:DigestValue>DIGEST</ds:DigestValue></ds:Reference></ds:SignedInfo>"""


@dataclass(frozen=True)
class RimMaker:
    """Whoever signs manifests, under a root of its own."""

    root: Identity = field(default_factory=lambda: certify("SIM RIM CA", None, 2))

    @cached_property
    def chain(self) -> tuple[Identity, ...]:
        second = certify("SIM RIM L2", self.root, 1)
        third = certify("SIM RIM L3", second, 0)
        return certify("SIM RIM L4", third, None), third, second, self.root

    def manifest(
        self,
        measurements: Mapping[int, Sequence[bytes]],
        *,
        version: str = "550.1",
        product: str = "GH100",
        idle: Sequence[int] = (),
        chain: Sequence[Identity] | None = None,
        edit: tuple[str, str] = ("", ""),
        signed_info: str = _SIGNED_INFO,
    ) -> bytes:
        """A signed manifest. `edit` replaces text in it before it is signed: the signature holds over it."""
        chain = chain or self.chain
        resources = "".join(
            f'<r:Resource type="Measurement" index="{index}" active="{index not in idle}" '
            f'alternatives="{len(digests)}" '
            + " ".join(f'h:Hash{n}="{digest.hex()}"' for n, digest in enumerate(digests))
            + "/>\n"
            for index, digests in measurements.items()
        )
        swid = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
        head = (
            f'<SoftwareIdentity xmlns="{swid}" xmlns:r="{swid}" '
            f'xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384" tagId="sim" name="GH100">'
            f'<r:Meta product="{product}" colloquialVersion="{version}"/>\n<r:Payload>{resources}</r:Payload>'
        ).replace(*edit)
        pems = "".join(
            f"<ds:X509Certificate>{base64.b64encode(one.der).decode()}</ds:X509Certificate>" for one in chain
        )

        def whole(info: str, value: str) -> bytes:
            signature = (
                f'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">{info}'
                f"<ds:SignatureValue>{value}</ds:SignatureValue>"
                f"<ds:KeyInfo><ds:X509Data>{pems}</ds:X509Data></ds:KeyInfo></ds:Signature>"
            )
            return f"{head}{signature}</SoftwareIdentity>".encode()

        digest = hashlib.sha384(canonical(parse_xml("test", f"{head}</SoftwareIdentity>".encode()))).digest()
        info = signed_info.replace("DIGEST", base64.b64encode(digest).decode())
        draft = parse_xml("test", whole(info, ""))
        signed = canonical(draft.children()[-1].children()[0])
        return whole(info, base64.b64encode(raw_signature(chain[0].key, signed, SHA384)).decode())
