"""Who this boot of the cell is: its receipt key, the keyset a quote binds, and the machine that quotes.

The private half is made here, stays in this process's memory and signs nothing but receipts and checkpoints. The same
keyset is bound by the evidence for a broker and by the evidence for anyone who asks (docs/spec/evidence-production.md
E117 to E120), so a receipt leads to the machine that made it.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.key_release import Attester, Releaser, Wanted
from attestation.evidence.keyset import KeyAlgorithm, Keyset, KeyUse, PublicKey
from attestation.tee.produce import identity
from attestation.tee.tee import Tee
from measurements.digests import ConfigurationDigest


class Identity:
    """One boot. `tee` is None on a machine without one: then nobody can be shown who this is."""

    def __init__(self, measured_config: ConfigurationDigest, tee: Tee | None, *, event_log: bytes = b"") -> None:
        """`measured_config` is the digest of the configuration."""
        self.key: Final = Ed25519PrivateKey.generate()
        self.measured_config: Final = measured_config
        public = PublicKey(KeyUse.RECEIPT, KeyAlgorithm.ED25519, self.key.public_key().public_bytes_raw())
        self.keyset: Final = Keyset((public,))
        self._tee: Final = tee
        self._event_log: Final = event_log

    @property
    def can_be_shown(self) -> bool:
        return self._tee is not None

    def evidence(self, nonce: bytes) -> bytes:
        """A bundle over a caller's nonce. Raises `EvidenceRefused` for a nonce that is none or a TEE that will not."""
        if self._tee is None:
            raise AssertionError("there is no TEE to ask")
        return identity(self._tee, nonce, self.keyset, self.measured_config, event_log=self._event_log).encode()

    def releaser(self, wanted: Wanted) -> Releaser:
        """What asks a broker for this boot's keys."""
        if self._tee is None:
            raise AssertionError("there is no TEE to prove anything with")
        return Releaser(wanted, Attester(self._tee, self.keyset, self.measured_config, self._event_log))
