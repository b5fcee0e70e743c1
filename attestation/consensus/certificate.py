"""A subnet's certificate: parsed, verified against a root key, and only then looked into.

    certificate = parse_certificate(data)                                     # a claim
    verified = verify_certificate(certificate, root_key=root, canister=id)    # the subnet's word
    verified.certified_data()

Verified means: the tree is signed by the root key, or by a key the root delegated, and if a canister is
named that this subnet speaks for it. NOT established: that the certificate is recent, or the newest there is
(a host may replay an older one; see `certified_time`), or that the canister's code is what one thinks.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from hashlib import sha224
from typing import Final

from attestation.consensus import bls, principal
from attestation.consensus.certified_time import parse_time
from attestation.consensus.delegation import (
    Delegation,
    DelegationCache,
    VerifiedDelegation,
    signed_bytes,
    verify_delegation,
)
from attestation.consensus.hashtree import (
    TREE_DEPTH_MAX,
    Absent,
    Found,
    HashTree,
    Lookup,
    Misplaced,
    Path,
    TreeLookup,
    Unknown,
    find,
    from_cbor,
    lookup,
)
from attestation.consensus.ranges import check_canister, check_canister_id
from attestation.consensus.refusals import DelegationRefused, EncodingRefused, LookupRefused, RangesRefused, TreeRefused
from foundation.cbor import SELF_DESCRIBED, CborRefused, Encodable, Limits, Tag, Value, decode_foreign
from foundation.refusal import shown

CERTIFICATE_LIMITS = Limits(bytes_max=4 << 20, depth_max=TREE_DEPTH_MAX + 4, items_max=1 << 17)

_VERIFIER: Final = object()


# --- parsed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Certificate:
    """Parsed, not believed."""

    tree: HashTree = field(repr=False)
    signature: bytes = field(repr=False)
    delegation: Delegation | None = None


def parse_certificate(data: bytes) -> Certificate:
    """Raises `EncodingRefused`, or `DelegationRefused` for a delegation inside a delegation."""
    fields = _fields(data, required={"tree", "signature"}, optional={"delegation"})
    delegation = _delegation(fields["delegation"]) if "delegation" in fields else None
    return Certificate(from_cbor(fields["tree"]), _signature(fields["signature"]), delegation)


def _delegation(value: Encodable) -> Delegation:
    fields = _named(value, required={"subnet_id", "certificate"}, optional=set())
    subnet, encoded = _bytes(fields, "subnet_id"), _bytes(fields, "certificate")
    if not 1 <= len(subnet) <= principal.PRINCIPAL_BYTES_MAX:
        raise _refused("subnet", "a subnet id of 1 to 29 bytes", f"{len(subnet)} bytes")
    inner = _fields(encoded, required={"tree", "signature"}, optional={"delegation"})
    if "delegation" in inner:
        raise DelegationRefused("delegation.nested", expected="one by the root", got="a delegation by a subnet")
    return Delegation(subnet, from_cbor(inner["tree"]), _signature(inner["signature"]), encoded)


def _fields(data: bytes, required: set[str], optional: set[str]) -> dict[str, Encodable]:
    try:
        value = decode_foreign(data, CERTIFICATE_LIMITS)
    except CborRefused as refusal:
        raise _undecodable(refusal) from refusal
    return _named(untagged(value), required, optional)


def _undecodable(refusal: CborRefused) -> EncodingRefused:
    return EncodingRefused(f"certificate.{refusal.code}", expected=refusal.expected, got=refusal.got)


def untagged(value: Value) -> Encodable:
    """Without the self-describing tag, which may stand before a value as a whole and nowhere else."""
    return value.value if isinstance(value, Tag) and value.number == SELF_DESCRIBED else value


def _named(value: Encodable, required: set[str], optional: set[str]) -> dict[str, Encodable]:
    if not isinstance(value, dict):
        raise _refused("shape", f"a map of {_words(required | optional)}", type(value).__name__)
    if not required <= value.keys() <= required | optional:
        raise _refused("fields", _words(required | optional), _words({str(key) for key in value}))
    return value


def _bytes(fields: dict[str, Encodable], name: str) -> bytes:
    value = fields[name]
    if not isinstance(value, bytes):
        raise _refused("shape", f"bytes in {name}", type(value).__name__)
    return value


def _signature(value: Encodable) -> bytes:
    if not isinstance(value, bytes) or len(value) != bls.SIGNATURE_BYTES:
        got = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        raise _refused("signature", f"a signature of {bls.SIGNATURE_BYTES} bytes", got)
    return value


def _words(names: set[str]) -> str:
    return ", ".join(sorted(names))[:200] or "nothing"


def _refused(code: str, expected: str, got: str) -> EncodingRefused:
    return EncodingRefused(f"certificate.{code}", expected=expected, got=got)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a certificate comes in: a read_state or call reply, or a canister signature with its tree."""

    certificate: bytes = field(repr=False)
    tree: HashTree | None = field(default=None, repr=False)


def open_envelope(data: bytes) -> Envelope:
    """The certificate in `data`, which is one itself or one of the maps the Internet Computer wraps it in.

    Those are {certificate}, {certificate, status} and {certificate, tree}. Raises `EncodingRefused`.
    """
    try:
        value = untagged(decode_foreign(data, CERTIFICATE_LIMITS))
    except CborRefused as refusal:
        raise _undecodable(refusal) from refusal
    if not isinstance(value, dict) or "certificate" not in value:
        return Envelope(data)
    fields = _named(value, required={"certificate"}, optional={"tree", "status"})
    return Envelope(_bytes(fields, "certificate"), from_cbor(fields["tree"]) if "tree" in fields else None)


# --- verified -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """What a subnet signed. Made by `verify_certificate` alone.

    `canister` is the one the subnet was found to speak for; with None, nothing about a canister can be read.
    """

    tree: HashTree = field(repr=False)
    root_hash: bytes
    time_ns: int
    canister: bytes | None
    delegation: VerifiedDelegation | None
    verifier: InitVar[object]

    def __post_init__(self, verifier: object) -> None:
        if verifier is not _VERIFIER:
            raise TypeError("a VerifiedCertificate comes from verify_certificate")

    @property
    def subnet(self) -> bytes | None:
        """The subnet that signed; None is the root subnet, under its own key."""
        return None if self.delegation is None else self.delegation.subnet

    def lookup(self, path: Path) -> Lookup:
        """The leaf at `path`, by the tree's word; refuses paths of canisters that were not checked."""
        self._check_reach(path)
        return lookup(self.tree, path)

    def find(self, path: Path) -> TreeLookup:
        """The subtree at `path`, under the same condition."""
        self._check_reach(path)
        return find(self.tree, path)

    def demand(self, path: Path) -> bytes:
        """The leaf at `path`. Raises `LookupRefused` unless the certificate shows it."""
        return demanded(self.lookup(path), path)

    def certified_data(self) -> bytes:
        """The canister's certified data. Raises `LookupRefused` unless the certificate shows it."""
        if self.canister is None:
            raise _unchecked("a certificate verified for a canister", "none")
        return self.demand((b"canister", self.canister, b"certified_data"))

    def certified_tree(self, tree: HashTree) -> HashTree:
        """`tree` itself, if the canister's certified data is its digest. Raises `TreeRefused` if not."""
        certified = self.certified_data()
        if tree.digest != certified:
            raise TreeRefused("data-tree.digest", expected=certified.hex(), got=tree.digest.hex())
        return tree

    def _check_reach(self, path: Path) -> None:
        # A subnet's signature covers its whole tree; its authority only the canisters it was given.
        if path and path[0] == b"canister":
            if self.canister is None or tuple(path[1:2]) != (self.canister,):
                raise _unchecked(
                    "the canister this was verified for", shown(path[1]) if len(path) > 1 else "no canister"
                )
        elif path and path[0] == b"request_status" and self.canister is None:
            raise _unchecked("a certificate verified for a canister", "none")


def verify_certificate(
    certificate: Certificate,
    *,
    root_key: bytes,
    canister: bytes | None,
    subnet: bytes | None = None,
    cache: DelegationCache | None = None,
) -> VerifiedCertificate:
    """The certificate, believed as far as `root_key` reaches.

    With `canister`, the subnet must speak for it; with `subnet`, it must be that one. Raises
    `DelegationRefused`, `RangesRefused`, `SignatureRefused`, or for a time that is not shown or not a number
    `LookupRefused` or `TimeRefused`: at the first that fails.
    Does not establish that it is recent: certificates do not expire.
    """
    if canister is not None:
        check_canister_id(canister)
    delegation: VerifiedDelegation | None = None
    signing_key = root_key
    if certificate.delegation is not None:
        delegation = verify_delegation(certificate.delegation, root_key, cache)
        signing_key = delegation.public_key
        if canister is not None:
            check_canister(delegation.tree, delegation.subnet, canister)
    if subnet is not None:
        _check_subnet(delegation, root_key, subnet)
    bls.verify(signing_key, certificate.signature, signed_bytes(certificate.tree))
    path = (b"time",)
    return VerifiedCertificate(
        tree=certificate.tree,
        root_hash=certificate.tree.digest,
        time_ns=parse_time(demanded(lookup(certificate.tree, path), path)),
        canister=canister,
        delegation=delegation,
        verifier=_VERIFIER,
    )


def _unchecked(expected: str, got: str) -> RangesRefused:
    return RangesRefused("ranges.unchecked", expected=expected, got=got)


def _check_subnet(delegation: VerifiedDelegation | None, root_key: bytes, subnet: bytes) -> None:
    # The root subnet signs with the root key itself, and its id is that key's.
    signer = _root_subnet(root_key) if delegation is None else delegation.subnet
    if signer != subnet:
        raise DelegationRefused("delegation.subnet", expected=principal.to_text(subnet), got=principal.to_text(signer))


def _root_subnet(root_key: bytes) -> bytes:
    return sha224(bls.public_key_to_der(root_key)).digest() + b"\x02"


def demanded(found: Lookup, path: Path) -> bytes:
    """The value that was found. Raises `LookupRefused`, saying how it was not."""
    match found:
        case Found(value=value):
            return value
        case Absent():
            raise _not_shown("absent", path, "proof that it is absent")
        case Unknown():
            raise _not_shown("unknown", path, "a pruned tree, which does not say")
        case Misplaced():
            raise _not_shown("misplaced", path, "a leaf above it or a tree in its place")


def _not_shown(code: str, path: Path, got: str) -> LookupRefused:
    return LookupRefused(f"lookup.{code}", expected=f"a value at {describe_path(path)}", got=got)


def describe_path(path: Path) -> str:
    """A path for people: text where the label is text, hex where it is not."""
    return "/" + "/".join(_describe_label(label) for label in path)


def _describe_label(label: bytes) -> str:
    text = label.decode("ascii", errors="replace")
    plain = text.isascii() and text.isprintable() and "/" not in text and bool(text)
    return text if plain and not text.startswith("0x") else f"0x{label.hex()}"
