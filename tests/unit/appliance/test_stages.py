"""secrecy.md S15, pack.md P15: the stages of a boot, and that nothing is left of the key that opened the pack."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config import MeasuredConfig
from appliance.identity import Identity
from appliance.key_release import Held
from appliance.main import runtime_starter
from appliance.model_runtime import ByteScript, ModelRuntime
from appliance.stages import Booted, Keyed, LaidPack, opened, proven, proven_without_model
from attestation.rcar.grant import GrantContext, GrantHeights, GrantPurpose
from devnet.subnet import GATEWAY, Subnet
from foundation.secrecy import Secret
from measurements.launch.measurement import SnpLaunchDigest
from measurements.pack.errors import PackIdentityRefused, PackKeyRefused
from measurements.pack.identity import Expected
from measurements.pack.identity import Identity as PackIdentity
from measurements.pack.pack_writer import seal_pack
from tests.packs import write_folder
from tests.unit.appliance.orders import GatedEngine

CONFIG = MeasuredConfig(GATEWAY, Subnet(b"stages").root_key, "scripted-1")
HEIGHTS = GrantHeights(1, 2, 3)
ADOPTION = b"\x0a" * 32
CONTEXT = GrantContext(
    purpose=GrantPurpose.MODEL,
    resource="a/model-key/b",
    version=1,
    release="r-7",
    model_root=bytes(32),
    measurement=SnpLaunchDigest(bytes(48)),
    adoption=ADOPTION,
    decision=bytes(32),
    position=1,
    nonce=bytes(32),
    key=bytes(32),
    heights=HEIGHTS,
)
SEALED_WITH = b"\x5e" * 32
ZEROS = bytes(32)


@pytest.fixture
def laid(tmp_path: Path) -> LaidPack:
    path = tmp_path / "model.pack"
    signed = seal_pack(write_folder(tmp_path / "model"), path, Secret(SEALED_WITH), threads=1)
    return LaidPack(path, Expected(model_root=PackIdentity.of(signed).model_root))


def booted() -> Booted:
    runtime = ModelRuntime(GatedEngine(), ByteScript())
    return Booted.of(CONFIG, lambda _: runtime, Identity(b"\xc0" * 32, None))


def keyed(laid: LaidPack, key: bytes = SEALED_WITH) -> Keyed:
    return Keyed(booted(), laid, Held(CONTEXT, HEIGHTS), Secret(key))


def test_the_key_is_gone_once_the_pack_is_open(laid: LaidPack) -> None:
    before = keyed(laid)
    assert SEALED_WITH.hex() not in repr(before)
    with ExitStack() as kept:
        after = opened(before, kept)
        assert after.model.identity.model_root == laid.expected.model_root
        assert before.key.reveal() == ZEROS


@pytest.mark.parametrize(
    ("key", "model_root", "refusal"),
    [(b"\x5f" * 32, None, PackKeyRefused), (SEALED_WITH, b"\x01" * 32, PackIdentityRefused)],
)
def test_the_key_is_gone_where_the_pack_is_refused(
    laid: LaidPack, key: bytes, model_root: bytes | None, refusal: type[Exception]
) -> None:
    other = laid if model_root is None else replace(laid, expected=Expected(model_root=model_root))
    before = keyed(other, key)
    with ExitStack() as kept, pytest.raises(refusal):
        opened(before, kept)
    assert before.key.reveal() == ZEROS


def test_receipts_say_what_was_granted_measured_opened_and_observed(laid: LaidPack) -> None:
    with ExitStack() as kept:
        with_model = opened(keyed(laid), kept)
        found = proven(with_model)
    by, identity = found.by, with_model.model.identity
    assert (by.release, by.adoption, by.config) == ("r-7", ADOPTION, b"\xc0" * 32)
    assert (by.model_root, by.tokenizer, by.template) == (identity.model_root, identity.tokenizer, identity.template)
    assert (by.profile, by.fingerprint) == (found.runtime.profile, found.runtime.engine.fingerprint)
    without = proven_without_model(booted()).by
    assert (without.release, without.adoption, without.model_root, without.tokenizer) == ("", None, None, None)


def test_a_pack_beside_a_cell_that_asks_for_no_key_is_left_alone(tmp_path: Path) -> None:
    assert Booted.of(CONFIG, runtime_starter(CONFIG), Identity(ZEROS, None), tmp_path / "some.pack").pack is None
