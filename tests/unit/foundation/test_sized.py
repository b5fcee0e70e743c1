"""Digests of a known length; and that one meaning in the place of another is an error of types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.sized import WrongSize, digest32, digest48

ROOT = Path(__file__).parents[3]
# What mypy must accept, and after `# error` what it must refuse: digests of one length that stand side by side.
SNIPPET = """
from dataclasses import replace
from attestation.auditor.terms import WantedDecision
from attestation.broker.session import Admission, Release
from attestation.consensus.blocks import Header
from attestation.rcar.grant import GrantContext
from attestation.receipts.body import Receipt, ServedBy, first_previous
from attestation.receipts.outcome import Opening, Outcome
from attestation.receipts.seeds import seed_commitment
from attestation.report_data import Statement
from attestation.verify.verified import VerifiedMachine
from attestation.verify.verified_tdx import VerifiedTdx
from attestation.verify.verified import VerifiedSnp
from foundation.sized import digest32
from measurements.digests import ModelRoot
from measurements.launch.measurement import SnpLaunchDigest
from measurements.release.manifest import Manifest


def receipts(receipt: Receipt, by: ServedBy, header: Header, opening: Opening) -> None:
    replace(receipt, request=receipt.request, answer=receipt.answer)
    replace(receipt, request=receipt.answer)  # error
    replace(receipt, answer=receipt.outcome)  # error
    replace(receipt, seed=receipt.price)  # error
    replace(receipt, previous=header.link())  # error
    replace(by, config=by.profile)  # error
    replace(by, model_root=by.tokenizer)  # error
    replace(by, tokenizer=by.template)  # error
    replace(by, adoption=by.config)  # error
    replace(by, fingerprint=by.profile)  # error
    replace(by, config=bytes(32))  # error
    first_previous(header.request_root)  # error
    opening.check(receipt.outcome)
    opening.check(receipt.answer)  # error


def outcomes(outcome: Outcome, opening: Opening) -> None:
    outcome.commitment(opening.salt)
    replace(outcome, output=outcome.trace)  # error
    seed_commitment(opening.salt)  # error


def order(header: Header) -> None:
    replace(header, parent=header.link())
    replace(header, parent=header.beacon)  # error
    replace(header, request_root=header.parent)  # error


def statements(statement: Statement) -> None:
    replace(statement, keyset=statement.measured_config)  # error
    replace(statement, measured_config=statement.devices)  # error


def releases(release: Release, admission: Admission, context: GrantContext, manifest: Manifest) -> None:
    replace(release, measured_config=manifest.measured_config, model_root=manifest.model.root)
    replace(release, measured_config=manifest.model.root)  # error
    replace(release, model_root=release.adoption)  # error
    replace(release, adoption=manifest.digest)  # error
    replace(admission, model_root=admission.keyset)  # error
    replace(context, adoption=context.decision)  # error
    replace(context, measurement=context.model_root)  # error
    WantedDecision(context.adoption, "", context.measurement, manifest.measured_config, manifest.model.root)
    WantedDecision(context.adoption, "", context.measurement, manifest.model.root, manifest.measured_config)  # error


def unchecked(raw: bytes) -> None:
    ModelRoot(digest32(raw))
    ModelRoot(raw)  # error


def machines(snp: VerifiedSnp, tdx: VerifiedTdx) -> tuple[VerifiedMachine, VerifiedMachine]:
    machine: SnpLaunchDigest = tdx.launch  # error
    return snp, tdx
"""


@pytest.mark.parametrize(("make", "size"), [(digest32, 32), (digest48, 48)])
def test_the_length_is_checked_and_the_bytes_stay_bytes(make: type[bytes], size: int) -> None:
    made = make(bytes(size))
    assert (type(made), cbor.encode(made)) == (bytes, cbor.encode(bytes(size)))
    for other in (0, size - 1, size + 1, 80 - size):
        with pytest.raises(WrongSize):
            make(bytes(other))


def test_a_digest_made_here_is_one() -> None:
    assert digest32(tagged_sha256("anchorhold/test", b"")) == tagged_sha256("anchorhold/test", b"")


def test_swapped_digests_do_not_type_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = tmp_path / "swapped.py"
    module.write_text(SNIPPET)
    said, complaints, _ = api.run(["--strict", "--follow-imports=silent", "--no-error-summary", str(module)])
    refused = {int(line) for line in re.findall(r"swapped\.py:(\d+): error: .*\[(?:arg-type|assignment)\]", said)}
    wanted = {number for number, line in enumerate(SNIPPET.split("\n"), start=1) if line.endswith("# error")}
    assert (refused, complaints) == (wanted, ""), said
    assert len(said.splitlines()) == len([line for line in said.splitlines() if "swapped.py" in line]), said
