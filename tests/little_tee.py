"""Simulated platforms for tests, each made once: the RSA keys of an SNP platform take a second or two."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

from attestation.evidence.keyset import KeyAlgorithm, Keyset, KeyUse, PublicKey
from attestation.evidence.snp_report import Product
from devnet.pki import Validity
from devnet.sim_ccel import Measured
from devnet.sim_snp import SimulatedSnp
from devnet.sim_tdx import SimulatedTdx
from devnet.tee import SimulatedSnpTee, SimulatedTdxTee, simulated_snp, simulated_tdx

SEED = b"a devnet for tests"
VALIDITY = Validity(datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC))
AT = datetime(2026, 11, 20, tzinfo=UTC)
MEASUREMENT = b"\x4d" * 48
NONCE = bytes(range(32))
CONFIG = b"\xc0" * 32
KEYSET = Keyset(
    (
        PublicKey(KeyUse.RECEIPT, KeyAlgorithm.ED25519, b"\x01" * 32),
        PublicKey(KeyUse.RELEASE, KeyAlgorithm.X25519, b"\x02" * 32),
    )
)
MEASURED = (Measured(1, b"the kernel"), Measured(2, b"its command line"), Measured(2, b"the initrd"))


def snp_platform(product: Product = Product.GENOA) -> SimulatedSnp:
    return _snp_platform(product)


@functools.cache
def _snp_platform(product: Product) -> SimulatedSnp:
    return SimulatedSnp.create(SEED, VALIDITY, product)


@functools.cache
def tdx_platform() -> SimulatedTdx:
    return SimulatedTdx.create(SEED, VALIDITY)


def snp_tee(product: Product = Product.GENOA) -> SimulatedSnpTee:
    return simulated_snp(snp_platform(product), MEASUREMENT)


def tdx_tee() -> SimulatedTdxTee:
    return simulated_tdx(tdx_platform(), MEASUREMENT, MEASURED)
