"""Every published chain, judged by us and by OpenSSL at every moment at which a verdict may turn.

Chains of AMD, Intel and NVIDIA, of the conformance suites and of simulated platforms: as published, under published
lists, with certificates swapped between two chains, and with single bits turned. docs/spec/evidence.md E185, E186.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.verbs.verify.published_layouts import gpu_evidence, tdx_quote_bytes
from attestation.errors import EvidenceRefused
from attestation.evidence.auxblob import CertificateTable, TableEntry
from attestation.evidence.certificates import read_certificate, read_crl
from attestation.evidence.gpu_rim import GpuRim
from attestation.evidence.tdx_collateral import TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.verify.critical_extensions import PROCESSED
from attestation.verify.ec_chain import parse_certificate, parse_crl, parse_pem_chain, spki_digest
from attestation.verify.gpu import NVIDIA_DEVICE_ROOT_SPKI
from attestation.verify.gpu_rim import NVIDIA_RIM_ROOT_SPKI
from attestation.verify.tdx import INTEL_ROOT_SPKI
from tests.unit.attestation import published
from tests.unit.attestation.chain_judging import Verdicts, judge_amd, judge_ec, moments
from tests.unit.attestation.published import of_kind

pytestmark = published.NEEDED
QUOTES = ("tdx-quote", "tdx-quote-negative", "tdx-quote-simulated", "tinfoil-conformance-tdx", "azure-vtpm-evidence")

Certificates = tuple[x509.Certificate, ...]
Lists = tuple[x509.CertificateRevocationList, ...]


def files(folder: str, pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((published.FOLDER / folder).glob(pattern))]


def once(chains: Iterator[tuple[str, Certificates, bytes]]) -> list[Any]:
    """Each chain once, with the name of the first file it is in."""
    found = {(chain, root): name for name, chain, root in chains}
    return [pytest.param(chain, root, id=name) for (chain, root), name in found.items()]


# --- AMD ----------------------------------------------------------------------------------------------------


@cache
def amd_issuers() -> Certificates:
    return tuple(read_certificate(raw) for raw in files("endorsements/amd", "*/a*.der"))


@cache
def amd_lists() -> Lists:
    return tuple(read_crl(raw) for raw in files("endorsements/amd", "*/crl_*.der"))


def amd_chains() -> Iterator[tuple[str, x509.Certificate, Certificates]]:
    for entry in of_kind("snp-report", "snp-report-negative"):
        yield entry["vek"], read_certificate(published.read(entry["vek"])), amd_issuers()
    for entry in of_kind("tinfoil-conformance-sev"):
        case = json.loads(published.read(entry["file"]))
        given = tuple(read_certificate(case[key].encode()) for key in ("ask_pem", "amd_root_ca_pem") if key in case)
        yield entry["file"], read_certificate(base64.b64decode(case["vcek_der_b64"])), given or amd_issuers()
    for entry in of_kind("kbs-snp-evidence-json"):
        first = json.loads(published.read(entry["file"]))["cert_chain"][0]
        yield entry["file"], read_certificate(bytes(first["data"])), amd_issuers()
    for entry in of_kind("azure-vtpm-evidence"):
        if (vcek := json.loads(published.read(entry["file"])).get("vcek")) is not None:
            yield entry["file"], read_certificate(base64.urlsafe_b64decode(vcek + "==")), amd_issuers()
    for entry in of_kind("snp-auxblob"):
        table = CertificateTable.parse(published.read(entry["file"])).values
        vek, *issuers = (read_certificate(table[at]) for at in (TableEntry.VCEK, TableEntry.ASK, TableEntry.ARK))
        yield entry["file"], vek, tuple(issuers)


def each_amd_chain() -> list[Any]:
    found = {(vek, given): name for name, vek, given in amd_chains()} if published.index() else {}
    return [pytest.param(vek, given, id=name) for (vek, given), name in found.items()]


@pytest.mark.parametrize(("vek", "given"), each_amd_chain())
def test_amds_chains(vek: x509.Certificate, given: Certificates) -> None:  # evidence.md E186
    parted = []
    for lists in ((), *((each,) for each in amd_lists()), amd_lists()):
        ends = [each.next_update_utc for each in lists]
        issuers = [each for each in given if each.subject in (vek.issuer, *(one.subject for one in amd_roots()))]
        for at in moments([vek, *issuers], lists):
            verdicts = judge_amd(vek, given, lists, at)
            # evidence.md E34: a list's last moment, the one difference that published evidence shows
            if not verdicts.agree and not (verdicts.ours == "crl.stale" and at in ends):
                parted.append((at, verdicts))
    assert parted == []


def amd_roots() -> Certificates:
    return tuple(each for each in amd_issuers() if each.subject == each.issuer)


@pytest.mark.parametrize("entry", of_kind("snp-report"), ids=published.named)
def test_amds_sound_chains_are_accepted_by_both(entry: dict[str, Any]) -> None:  # evidence.md E184, E185
    vek = read_certificate(published.read(entry["vek"]))
    assert judge_amd(vek, amd_issuers(), (), published.moment(entry["vek_not_before"])) == Verdicts("", "")


# --- Intel and NVIDIA ---------------------------------------------------------------------------------------


def quotes() -> Iterator[tuple[str, TdxQuote, bytes]]:
    for entry in of_kind(*QUOTES):
        try:
            quote = TdxQuote.parse(_without_note(tdx_quote_bytes(published.read(entry["file"]))))
        except EvidenceRefused:  # malformed on purpose, or evidence of another kind
            continue
        yield entry["file"], quote, root_of(entry)


def root_of(entry: dict[str, Any]) -> bytes:
    """Intel's, unless the case brings one of its own."""
    if entry["kind"] == "tdx-quote-simulated":
        return spki_digest(read_certificate(published.read(entry["root"])))
    if entry["kind"] == "tinfoil-conformance-tdx":
        own = json.loads(published.read(entry["file"]))["collateral"].get("intel_root_ca_pem")
        return spki_digest(read_certificate(own.encode())) if own else INTEL_ROOT_SPKI
    return INTEL_ROOT_SPKI


def _without_note(raw: bytes) -> bytes:
    return raw.removesuffix(b"\nextra bytes(only for testing purpose)\n")


def pck_chains() -> Iterator[tuple[str, Certificates, bytes]]:
    for name, quote, root in quotes():
        try:
            yield name, parse_pem_chain("c", quote.pck_chain_pem, count=3), root
        except EvidenceRefused:  # a certificate that nobody can read
            continue


def collaterals() -> Iterator[tuple[str, TdxCollateral, bytes]]:
    for path in sorted((published.FOLDER / "endorsements/intel/collateral").glob("*.json")):
        try:
            yield path.name, TdxCollateral.parse(path.read_bytes()), INTEL_ROOT_SPKI
        except EvidenceRefused:  # of another layout, which our parser refuses
            continue
    for entry in of_kind("tdx-quote-simulated"):
        yield entry["collateral"], TdxCollateral.parse(published.read(entry["collateral"])), root_of(entry)


def document_chains() -> Iterator[tuple[str, Certificates, bytes]]:
    for name, collateral, root in collaterals():
        for signed in (collateral.tcb_info_signed, collateral.qe_identity_signed):
            yield name, parse_pem_chain("c", signed.issuer_chain_pem.encode(), count=2), root


def nvidia_chains() -> Iterator[tuple[str, Certificates, bytes]]:
    for entry in of_kind("nvidia-report"):
        chain = parse_pem_chain("c", published.read(entry["chain"]), count=5)
        yield entry["chain"], chain, NVIDIA_DEVICE_ROOT_SPKI
    for entry in of_kind("nvidia-evidence-json"):
        _, pem = gpu_evidence(published.read(entry["file"]))
        yield entry["file"], parse_pem_chain("c", pem or b"", count=5), NVIDIA_DEVICE_ROOT_SPKI
    for raw in (*files("endorsements/nvidia/rim", "*"), *files("gpu-neg", "*.xml")):
        rim = GpuRim.parse(raw)
        chain = tuple(parse_certificate("c", der) for der in rim.certificates)
        yield f"manifest {rim.version} {rim.tag_id}", chain, NVIDIA_RIM_ROOT_SPKI


def every_list() -> list[tuple[x509.CertificateRevocationList, x509.CertificateRevocationList]]:
    """Lists of a root and a platform: each pair that came together, and each list with the newest of the other."""
    pairs = {(bytes(each.root_crl), bytes(each.pck_crl)) for _, each, _ in collaterals()}
    roots, platforms = (files("endorsements/intel/crl", pattern) for pattern in ("root_*.der", "pck_*.der"))
    pairs |= {(root, platforms[-1]) for root in roots} | {(roots[-1], platform) for platform in platforms}
    return [(parse_crl("c", root), parse_crl("c", platform)) for root, platform in sorted(pairs)]


INTELS = [*once(pck_chains()), *once(document_chains())]
NVIDIAS = once(nvidia_chains())


def parted(chain: Certificates, root: bytes, lists: Lists = ()) -> list[Any]:
    judged = ((at, judge_ec(chain, root, lists, at)) for at in moments(chain, lists))
    return [(at, verdicts) for at, verdicts in judged if not verdicts.agree]


@pytest.mark.parametrize(("chain", "root"), [*INTELS, *NVIDIAS])
def test_intels_and_nvidias_chains(chain: Certificates, root: bytes) -> None:  # evidence.md E186
    assert parted(chain, root) == []


@pytest.mark.parametrize(("chain", "root"), INTELS[:1] + INTELS[-1:])
def test_intels_lists(chain: Certificates, root: bytes) -> None:  # evidence.md E184, E186
    assert [found for lists in every_list() if (found := parted(chain, root, lists))] == []


@pytest.mark.parametrize(
    "entry", [*of_kind("tdx-quote-negative"), *of_kind("tdx-quote-simulated")], ids=published.named
)
def test_chains_under_the_lists_that_came_with_them(entry: dict[str, Any]) -> None:  # evidence.md E184, E186
    """One of them names its platform's key."""
    collateral = TdxCollateral.parse(published.collateral(entry["collateral"]))
    lists = parse_crl("c", collateral.root_crl), parse_crl("c", collateral.pck_crl)
    found = [(chain, root) for name, chain, root in pck_chains() if name == entry["file"]]
    for chain, root in found:
        assert parted(chain, root, lists) == []
        if "revoked-pck" in entry["file"]:
            verdicts = judge_ec(chain, root, lists, published.moment(entry["at"]))
            assert (verdicts.ours, verdicts.theirs.startswith("certificate revoked")) == (".revoked", True)


@pytest.mark.parametrize(("chain", "root"), NVIDIAS)
def test_nvidias_sound_chains_are_accepted_by_both(chain: Certificates, root: bytes) -> None:  # evidence.md E185
    at = max(each.not_valid_before_utc for each in chain)
    assert judge_ec(chain, root, (), at) == Verdicts("", "")


@pytest.mark.parametrize("chain", [chain.values[0] for chain in (*INTELS, *NVIDIAS)])
def test_two_extensions_are_critical_in_intels_and_nvidias_chains(chain: Certificates) -> None:  # evidence.md E187
    assert {oid for each in chain for oid in critical(each)} == PROCESSED


def test_the_same_two_are_critical_in_amds_authorities_and_none_is_in_a_vek() -> None:  # evidence.md E15, E187
    chains = list(amd_chains())
    authorities = {*amd_issuers(), *(each for _, _, given in chains for each in given)}
    assert {oid for each in authorities for oid in critical(each)} == PROCESSED
    assert {name: found for name, vek, _ in chains if (found := critical(vek))} == {}


def critical(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return {each.oid for each in certificate.extensions if each.critical}


# --- bent ---------------------------------------------------------------------------------------------------


def swapped(chains: Sequence[Certificates]) -> Iterator[Certificates]:
    """Each chain with one certificate of the next in its place."""
    for one, other in itertools.pairwise(chains):
        for place in range(len(one)):
            if one[place] != other[place]:
                yield (*one[:place], other[place], *one[place + 1 :])


@pytest.mark.parametrize("made", [pck_chains, document_chains, nvidia_chains], ids=lambda made: made.__name__)
def test_certificates_swapped_between_chains(made: Any) -> None:  # evidence.md E186
    by_root: dict[tuple[bytes, int], list[Certificates]] = {}
    for parameters in once(made()):
        chain, root = parameters.values
        by_root.setdefault((root, len(chain)), []).append(chain)
    found = [
        (chain, verdicts)
        for (root, _), chains in by_root.items()
        for chain in swapped(chains)
        for verdicts in [judge_ec(chain, root, (), max(each.not_valid_before_utc for each in chain))]
        if not verdicts.agree
    ]
    assert found == []


def turned(chain: Certificates, step: int) -> Iterator[Certificates]:
    """The chain with one bit of one certificate turned, wherever that leaves something to be read."""
    for place, certificate in enumerate(chain):
        der = certificate.public_bytes(Encoding.DER)
        for at in range(0, len(der) * 8, step):
            bent = bytearray(der)
            bent[at // 8] ^= 1 << at % 8
            try:
                other = parse_certificate("c", bytes(bent))
            except EvidenceRefused:
                continue
            yield (*chain[:place], other, *chain[place + 1 :])


@pytest.mark.parametrize(("chain", "root"), [*INTELS[:1], *NVIDIAS[:1], *NVIDIAS[-1:]])
def test_single_bits_turned(chain: Certificates, root: bytes) -> None:  # evidence.md E186
    at = max(each.not_valid_before_utc for each in chain)
    judged = [(bent, judge_ec(bent, root, (), at)) for bent in turned(chain, 29)]
    assert len(judged) > 100
    assert [(bent, verdicts) for bent, verdicts in judged if not verdicts.agree] == []


def test_single_bits_turned_of_amds() -> None:  # evidence.md E21, E185, E186
    """A certificate may misstate how it is signed: outside what is signed we do not look (E21), and OpenSSL does."""
    entry = of_kind("snp-report")[0]
    vek = read_certificate(published.read(entry["vek"]))
    at = published.moment(entry["vek_not_before"])
    issuer = next(each for each in amd_issuers() if each.subject == vek.issuer)
    root = next(each for each in amd_roots() if each.subject == issuer.issuer)
    whole = (vek, issuer, root)
    judged = [(bent, judge_amd(bent[0], bent[1:], (), at)) for bent in turned(whole, 29)]
    misstated = [(bent, verdicts) for bent, verdicts in judged if signed_parts(bent) == signed_parts(whole)]
    assert {verdicts.ours for _, verdicts in misstated} == {""}
    assert [verdicts for bent, verdicts in judged if not verdicts.agree and (bent, verdicts) not in misstated] == []
    assert len(judged) > 10 * len(misstated) > 0


def signed_parts(chain: Certificates) -> list[tuple[bytes, bytes]]:
    return [(each.tbs_certificate_bytes, each.signature) for each in chain]
