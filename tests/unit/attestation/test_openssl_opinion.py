"""Bent chains, each judged by us and by OpenSSL; what we alone refuse is the table of docs/spec/evidence.md E186."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import NotGenuine
from attestation.evidence.snp_report import KeyKind
from attestation.verify.ec_chain import parse_crl
from attestation.verify.evidence_chains import snp_chains
from attestation.verify.openssl_opinion import require_openssl
from attestation.verify.snp import SnpCollateral, SnpEvidence
from tests.keys import rsa_key
from tests.unit.attestation import forge_tdx
from tests.unit.attestation.chain_judging import SECOND, Verdicts, judge_amd, judge_ec
from tests.unit.attestation.forge import NOW, Case, make_once, of_amds_own_critical, usage
from tests.unit.attestation.forge_gpu import Device, certify
from tests.unit.attestation.forge_tdx import Identity, World, revocations
from tests.unit.attestation.snp_cases import GENOA

SPEC: Final = Path(__file__).resolve().parents[3] / "docs" / "spec" / "evidence.md"
FRACTION: Final = timedelta(milliseconds=500)
DAY: Final = timedelta(days=1)
OTHER: Final = "other"
UNKNOWN: Final = "1.2.3.4"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"
FOR_SERVERS: Final = bytes.fromhex("300a06082b06010505070301")

Bent = Callable[[], Verdicts]


def table() -> dict[str, tuple[str, str]]:
    """What we alone refuse: our code and the rule, from the specification."""
    rows = re.findall(r"^\| ((?:AMD|Intel)[^|]*) \| `([a-z_.-]+)` \| (E\d+) \|$", SPEC.read_text("utf-8"), re.MULTILINE)
    return {what: (code, rule) for what, code, rule in rows}


# --- AMD ----------------------------------------------------------------------------------------------------


def part(what: str) -> x509.Certificate:
    return make_once(GENOA, what, KeyKind.VCEK)


def amd(
    *lists: x509.CertificateRevocationList,
    vek: Mapping[str, Any] | None = None,
    intermediate: Mapping[str, Any] | None = None,
    ark: Mapping[str, Any] | None = None,
    after: timedelta = timedelta(0),
) -> Verdicts:
    """A sound chain in which the parts named are made otherwise."""
    chain = [
        part(name) if changes is None else make(**changes)
        for name, changes, make in (
            ("vek", vek, GENOA.make_vek),
            ("intermediate", intermediate, GENOA.make_intermediate),
            ("ark", ark, GENOA.make_ark),
        )
    ]
    return judge_amd(chain[0], chain[1:], lists, NOW + after, GENOA.roots)


def pss(algorithm: hashes.HashAlgorithm, salt: int) -> padding.PSS:
    return padding.PSS(padding.MGF1(algorithm), salt)


AMD_ALONE: Final[Mapping[str, Bent]] = {
    "AMD: another salt": lambda: amd(vek={"rsa_padding": pss(hashes.SHA384(), 32)}),
    "AMD: another hash": lambda: amd(vek={"rsa_padding": pss(hashes.SHA256(), 32), "algorithm": hashes.SHA256()}),
    "AMD: another padding": lambda: amd(vek={"rsa_padding": padding.PKCS1v15()}),
    "AMD: a shorter key": lambda: amd(
        vek={"signer": rsa_key("short", 3072)}, intermediate={"key": rsa_key("short", 3072)}
    ),
    "AMD: an issuer whose basicConstraints are not critical": lambda: amd(intermediate={"constraints_critical": False}),
    "AMD: a root that is no authority": lambda: amd(ark={"authority": None}),
    "AMD: an intermediate without path length": lambda: amd(
        intermediate={"authority": x509.BasicConstraints(True, None)}
    ),
    "AMD: an issuer without keyUsage": lambda: amd(intermediate={"usage": None}),
    "AMD: a root that may not sign lists, and no list": lambda: amd(ark={"usage": usage(crl=False)}),
    "AMD: an issuer with a critical extendedKeyUsage": lambda: amd(
        intermediate={"critical_oid": EXTENDED_KEY_USAGE, "critical_value": FOR_SERVERS}
    ),
    "AMD: a VEK that is an authority": lambda: amd(vek={"authority": x509.BasicConstraints(True, None)}),
    "AMD: a fraction of a second behind the end": lambda: amd(vek={"end": NOW}, after=FRACTION),
    "AMD: a forged list beside a sound one": lambda: amd(
        GENOA.crl(signer=rsa_key(OTHER), start=NOW - 9 * DAY), GENOA.crl()
    ),
    "AMD: a partial list beside a whole one": lambda: amd(GENOA.crl(delta=True), GENOA.crl()),
    "AMD: a VEK on its root's list": lambda: amd(GENOA.crl(revoked=(7,))),
    "AMD: a list that has run out names the intermediate, one in force does not": lambda: amd(
        GENOA.crl(start=NOW - 9 * DAY, end=NOW - DAY, revoked=(0x20002,)), GENOA.crl()
    ),
    "AMD: the last moment of a list": lambda: amd(GENOA.crl(end=NOW)),
}
AMD_BOTH: Final[Mapping[str, tuple[Bent, str, str]]] = {
    "another signer": (lambda: amd(vek={"signer": rsa_key(OTHER)}), "chain.signature", "certificate signature failure"),
    "another signer of the intermediate": (
        lambda: amd(intermediate={"signer": rsa_key(OTHER)}),
        "chain.signature",
        "certificate signature failure",
    ),
    "another key of that name": (
        lambda: amd(ark={"key": rsa_key(OTHER), "signer": rsa_key(OTHER)}),
        "chain.root",
        "self-signed certificate in certificate chain",
    ),
    "a root that another signed": (
        lambda: amd(ark={"signer": rsa_key(OTHER)}),
        "chain.root.self-signature",
        "certificate signature failure",
    ),
    "a VLEK under the VCEKs' issuer": (
        lambda: judge_amd(GENOA.make_vek(KeyKind.VLEK), [part("intermediate"), part("ark")], (), NOW, GENOA.roots),
        "chain.missing",
        "unable to get local issuer certificate",
    ),
    "no root": (
        lambda: judge_amd(part("vek"), [part("intermediate")], (), NOW, GENOA.roots),
        "chain.missing",
        "unable to get local issuer certificate",
    ),
    "too late": (lambda: amd(vek={"end": NOW - SECOND}), "chain.validity", "certificate has expired"),
    "too early": (lambda: amd(ark={"start": NOW + SECOND}), "chain.validity", "certificate is not yet valid"),
    "no authority": (lambda: amd(intermediate={"authority": None}), "chain.authority", "invalid CA certificate"),
    "an unknown critical extension": (
        lambda: amd(vek={"critical_oid": UNKNOWN}),
        "vek.extensions",
        "unhandled critical extension",
    ),
    "an unknown critical extension of the intermediate": (
        lambda: amd(intermediate={"critical_oid": UNKNOWN}),
        "chain.extension",
        "unhandled critical extension",
    ),
    "an unknown critical extension of the root": (
        lambda: amd(ark={"critical_oid": UNKNOWN}),
        "chain.extension",
        "unhandled critical extension",
    ),
    "a revoked intermediate": (lambda: amd(GENOA.crl(revoked=(0x20002,))), "crl.revoked", "certificate revoked"),
    "a list that has run out": (lambda: amd(GENOA.crl(end=NOW - SECOND)), "crl.stale", "CRL has expired"),
    "a list from later": (lambda: amd(GENOA.crl(start=NOW + SECOND)), "crl.stale", "CRL is not yet valid"),
    "a forged list": (lambda: amd(GENOA.crl(signer=rsa_key(OTHER))), "crl.signature", "CRL signature failure"),
    "a partial list": (lambda: amd(GENOA.crl(delta=True)), "crl.scope", "unable to get certificate CRL"),
}
AMD_SOUND: Final[Mapping[str, Bent]] = {
    "as it is": amd,
    "at its first second": lambda: amd(vek={"start": NOW}),
    "at its last second": lambda: amd(vek={"end": NOW}),
    "a list that names others": lambda: amd(GENOA.crl(revoked=(1, 2))),
    "a list in force beside one that has run out": lambda: amd(GENOA.crl(end=NOW - SECOND), GENOA.crl()),
    "another root's list": lambda: amd(GENOA.crl(issuer="ARK-Milan", signer=rsa_key(OTHER), revoked=(7, 0x20002))),
}


# --- Intel and NVIDIA ---------------------------------------------------------------------------------------


@functools.cache
def device() -> Device:
    return Device()


@functools.cache
def platform() -> World:
    return World()


def gpu(leaf: Identity | None = None, *, after: timedelta = timedelta(0), order: tuple[int, ...] = ()) -> Verdicts:
    """The simulated device's chain, with another leaf or in another order."""
    made = device()
    chain = [leaf or made.signer, made.identity, made.provisioner, made.family, made.root]
    certificates = [chain[place].certificate for place in order or range(len(chain))]
    return judge_ec(certificates, made.root.spki, (), forge_tdx.NOW + after)


def below(*made: Identity) -> Verdicts:
    chain = [*made, device().family, device().root]
    return judge_ec([each.certificate for each in chain], device().root.spki, (), forge_tdx.NOW)


def pck(
    root: Mapping[str, Any] | None = None, authority: Mapping[str, Any] | None = None, after: timedelta = timedelta(0)
) -> Verdicts:
    """The simulated platform's chain under lists of its root and of its authority."""
    made = platform()
    lists = parse_crl("c", revocations(made.root, **(root or {}))), _of_authority(authority or {})
    chain = [each.certificate for each in (made.leaf, made.authority, made.root)]
    return judge_ec(chain, made.root.spki, lists, forge_tdx.NOW + after)


def _of_authority(changes: Mapping[str, Any]) -> x509.CertificateRevocationList:
    return parse_crl("c", revocations(platform().authority, **changes))


def list_for_users() -> Verdicts:
    made = platform()
    scope = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    builder = x509.CertificateRevocationListBuilder().issuer_name(made.authority.certificate.subject)
    builder = builder.last_update(forge_tdx.START).next_update(forge_tdx.END).add_extension(scope, critical=True)
    chain = [each.certificate for each in (made.leaf, made.authority, made.root)]
    return judge_ec(chain, made.root.spki, (builder.sign(made.authority.key, hashes.SHA256()),), forge_tdx.NOW)


def leaf_that_may_not_sign() -> Verdicts:
    issuer, leaf = device().identity, device().signer.certificate
    flags = x509.KeyUsage(False, False, False, False, True, False, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(leaf.public_key())
        .serial_number(1)
        .not_valid_before(forge_tdx.START)
        .not_valid_after(forge_tdx.END)
        .add_extension(flags, critical=True)
    )
    return gpu(Identity(device().signer.key, builder.sign(issuer.key, hashes.SHA384())))


def path_too_long() -> Verdicts:
    short = certify("P", device().family, 0)
    second = certify("I", short, 0)
    return below(certify("GH100 L", second, None), second, short)


def issued_by_a_leaf() -> Verdicts:
    made = certify("GH100 B", device().provisioner, None)
    return below(certify("GH100 C", made, None), made, device().provisioner)


EC_ALONE: Final[Mapping[str, Bent]] = {
    "Intel, NVIDIA: certificates in another order": lambda: gpu(order=(0, 2, 1, 3, 4)),
    "Intel, NVIDIA: a root that is not the last": lambda: gpu(order=(0, 1, 2, 4, 3)),
    "Intel, NVIDIA: a leaf that is an authority": lambda: gpu(certify("GH100 A", device().identity, 0)),
    "Intel, NVIDIA: a leaf that may not sign": leaf_that_may_not_sign,
    "Intel, NVIDIA: a critical extendedKeyUsage": lambda: gpu(
        device().leaf(extra=[(EXTENDED_KEY_USAGE, FOR_SERVERS, True)])
    ),
    "Intel, NVIDIA: a fraction of a second behind the end": lambda: gpu(
        device().leaf(end=forge_tdx.NOW), after=FRACTION
    ),
    "Intel: a list for user certificates alone": list_for_users,
    "Intel: a fraction of a second behind the end of a list": lambda: pck(
        authority={"end": forge_tdx.NOW}, after=FRACTION
    ),
}
EC_BOTH: Final[Mapping[str, tuple[Bent, str, str]]] = {
    "nobody's signature": (
        lambda: gpu(certify("GH100 X", device().identity, None, forged=True)),
        ".signature",
        "certificate signature failure",
    ),
    "one certificate left out": (
        lambda: gpu(order=(0, 2, 3, 4)),
        ".signature",
        "unable to get local issuer certificate",
    ),
    "no root": (lambda: gpu(order=(0, 1, 2, 3)), ".root", "unable to get local issuer certificate"),
    "another device's leaf": (lambda: gpu(Device().signer), ".signature", "unable to get local issuer certificate"),
    "too late": (lambda: gpu(device().leaf(end=forge_tdx.NOW - SECOND)), ".validity", "certificate has expired"),
    "too early": (
        lambda: gpu(device().leaf(start=forge_tdx.NOW + SECOND)),
        ".validity",
        "certificate is not yet valid",
    ),
    "an unknown critical extension": (
        lambda: gpu(device().leaf(extra=[(UNKNOWN, b"\5\0", True)])),
        ".extension",
        "unhandled critical extension",
    ),
    "issued by a leaf": (issued_by_a_leaf, ".role", "invalid CA certificate"),
    "a path too long": (path_too_long, ".path_length", "path length constraint exceeded"),
    "a revoked leaf": (lambda: pck(authority={"revoked": [platform().leaf]}), ".revoked", "certificate revoked"),
    "a revoked authority": (lambda: pck(root={"revoked": [platform().authority]}), ".revoked", "certificate revoked"),
    "a list that has run out": (
        lambda: pck(authority={"end": forge_tdx.NOW - SECOND}),
        ".crl.validity",
        "CRL has expired",
    ),
    "a list from later": (lambda: pck(root={"start": forge_tdx.NOW + SECOND}), ".crl.validity", "CRL is not yet valid"),
    "a forged list": (lambda: pck(authority={"key": platform().root.key}), ".crl.signature", "CRL signature failure"),
    "a partial list": (lambda: pck(authority={"partial": True}), ".crl.extension", "unable to get certificate CRL"),
}
EC_SOUND: Final[Mapping[str, Bent]] = {
    "as it is": gpu,
    "at its last second": lambda: gpu(device().leaf(end=forge_tdx.NOW)),
    "lists that name nobody": pck,
    "the last moment of a list": lambda: pck(authority={"end": forge_tdx.NOW}),
}


# --- what is asserted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bent", [*AMD_SOUND.values(), *EC_SOUND.values()], ids=[*AMD_SOUND, *EC_SOUND])
def test_both_accept(bent: Bent) -> None:  # evidence.md E183, E184
    assert bent() == Verdicts("", "")


@pytest.mark.parametrize(("bent", "ours", "theirs"), [*AMD_BOTH.values(), *EC_BOTH.values()], ids=[*AMD_BOTH, *EC_BOTH])
def test_both_refuse(bent: Bent, ours: str, theirs: str) -> None:  # evidence.md E183, E184
    verdicts = bent()
    assert verdicts.ours == ours
    assert verdicts.theirs.startswith(theirs)


@pytest.mark.parametrize("what", [*AMD_ALONE, *EC_ALONE])
def test_we_alone_refuse_what_the_table_names(what: str) -> None:  # evidence.md E186
    code, _ = table()[what]
    assert {**AMD_ALONE, **EC_ALONE}[what]() == Verdicts(code, "")


def test_each_row_of_the_table_is_shown() -> None:  # evidence.md E186
    assert list(table()) == [*AMD_ALONE, *EC_ALONE]
    assert all(f"**{rule}**" in SPEC.read_text("utf-8") + _tdx_spec() for _, rule in table().values())


def _tdx_spec() -> str:
    return (SPEC.parent / "evidence-tdx.md").read_text("utf-8")


def misstated(certificate: x509.Certificate) -> x509.Certificate:
    """The same signed bytes and the same signature, said to be over another hash."""
    sha384, sha256 = bytes.fromhex("608648016503040202"), bytes.fromhex("608648016503040201")
    signed = certificate.tbs_certificate_bytes
    head, rest = certificate.public_bytes(Encoding.DER).split(signed)
    bent = x509.load_der_x509_certificate(head + signed + rest.replace(sha384, sha256))
    assert bent != certificate
    return bent


def misstating() -> Case:
    case = GENOA.case()
    case.vek = misstated(case.vek)
    return case


def extended() -> Case:
    """We read what AMD writes into a VEK, critical or not; OpenSSL does not know it."""
    case = GENOA.case()
    case.vek = GENOA.make_vek(**of_amds_own_critical())
    return case


@pytest.mark.parametrize(
    ("made", "reason"),
    [(misstating, "certificate signature failure, at depth 0"), (extended, "unhandled critical extension, at depth 0")],
)
def test_what_openssl_alone_refuses_is_refused_by_name(
    made: Callable[[], Case], reason: str
) -> None:  # evidence.md E185
    case = made()
    verified = case.verify()
    evidence = SnpEvidence.parse(case.report, case.vek.public_bytes(Encoding.DER))
    with pytest.raises(NotGenuine) as caught:
        require_openssl(snp_chains(evidence, SnpCollateral(tuple(case.chain), ()), verified), NOW)
    refusal = caught.value
    assert (refusal.code, refusal.got) == ("chain.second-opinion", reason)
    assert refusal.expected == "OpenSSL to accept this chain too: VCEK"
