"""A platform comes back from its file as it was, and the file is its owner's alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from attestation.verify.evidence_bundle import verify_bundle
from devnet.sim_snp import SimulatedSnp
from devnet.sim_tdx import SimulatedTdx
from devnet.store import load, save
from devnet.tee import identity_bundle, simulated_snp, simulated_tdx
from tests.little_tee import AT, CONFIG, KEYSET, MEASUREMENT, NONCE, snp_platform, tdx_platform


def test_what_one_process_signs_another_believes(tmp_path: Path):
    for name, platform in (("snp", snp_platform()), ("tdx", tdx_platform())):
        save(platform, tmp_path / name)
        again = load(tmp_path / name)
        tee = (
            simulated_snp(again, MEASUREMENT)
            if isinstance(again, SimulatedSnp)
            else (simulated_tdx(again, MEASUREMENT))
        )
        root = platform.ark if isinstance(platform, SimulatedSnp) else platform.root
        bundle = identity_bundle(tee, NONCE, KEYSET, CONFIG)
        assert verify_bundle(bundle, at=AT, nonce=NONCE, simulated_root=root.der).keyset == KEYSET
        assert isinstance(again, type(platform))


def test_the_same_bytes_come_out(tmp_path: Path):
    save(tdx_platform(), tmp_path / "tdx")
    again = load(tmp_path / "tdx")
    assert isinstance(again, SimulatedTdx)
    assert again.collateral == tdx_platform().collateral


def test_the_file_is_its_owners_and_never_overwritten(tmp_path: Path):
    path = tmp_path / "platform"
    save(snp_platform(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        save(tdx_platform(), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": "another"}', "not json"])
def test_another_file_is_refused(tmp_path: Path, text: str):
    (tmp_path / "platform").write_text(text)
    with pytest.raises(ValueError, match=r"platform|Expecting"):
        load(tmp_path / "platform")
