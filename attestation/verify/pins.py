"""The roots SNP evidence may end in, pinned by the SHA-256 of their public key (SubjectPublicKeyInfo).

A key, not a name and not a certificate: certificates called "ARK-Genoa" that AMD never made go round in
test suites, and a certificate can be reissued over the same key. Hardware roots are written here and nowhere
else; whatever a caller adds is marked simulated, and every built-in policy refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from attestation.evidence.snp_report import Product
from attestation.verify.verified import TrustAnchor


@dataclass(frozen=True, slots=True)
class SnpRoot:
    """One pinned root key and the product it speaks for."""

    product: Product
    anchor: TrustAnchor


SnpRoots = Mapping[bytes, SnpRoot]


def _amd(product: Product, spki_sha256: str) -> SnpRoot:
    return SnpRoot(product, TrustAnchor(f"ARK-{product.value}", bytes.fromhex(spki_sha256), simulated=False))


def _by_key(roots: Iterable[SnpRoot]) -> SnpRoots:
    return MappingProxyType({root.anchor.spki_sha256: root for root in roots})


AMD_ROOTS: Final[SnpRoots] = _by_key(
    (
        _amd(Product.MILAN, "9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
        _amd(Product.GENOA, "429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
        _amd(Product.TURIN, "4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
    )
)


def with_simulated(named: Iterable[tuple[str, Product, bytes]], base: SnpRoots = AMD_ROOTS) -> SnpRoots:
    """`base` and simulated roots, each (name, product, key digest). A hardware pin can't be replaced."""
    added = [SnpRoot(product, TrustAnchor(name, spki, simulated=True)) for name, product, spki in named]
    for root in added:
        if len(root.anchor.spki_sha256) != 32 or root.anchor.spki_sha256 in AMD_ROOTS:
            raise ValueError("a simulated root is named by the SHA-256 of a key that is not AMD's")
    return _by_key((*base.values(), *added))
