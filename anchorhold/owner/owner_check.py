"""Whether the parts of an owner's folder still fit one another: one line for each, in the order in which they are made.

    for held in check(folder): print(held)

It ends at the first part that does not fit, with an `OwnerMismatch` that names the file and what to do. Every part is
held to what will judge it later: the pack to its key, the profile to the engine that runs here, the configuration to
the cell's own reader, the broker to its own log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anchorhold.input_files import refused_file
from anchorhold.owner.broker_process import CONFIG_NAME, Opened, open_broker
from anchorhold.owner.errors import NoPart, OwnerRefused
from anchorhold.owner.owner_folder import BROKER, CONFIG, DIGEST, KEY, PACK
from appliance.config import CONFIG_BYTES_MAX, MeasuredConfig, config_digest
from appliance.engine.profile import FILE as PROFILE
from appliance.engine.profile import digest_of
from appliance.engine_start import close, start
from attestation.broker import service
from attestation.broker.log import audit
from foundation.document import hexadecimal
from foundation.refusal import Refused, difference, shown
from foundation.secrecy import Secret
from measurements.pack.card import CARD_BYTES_MAX, Claims
from measurements.pack.files import CARD
from measurements.pack.identity import check_expected
from measurements.pack.keys import check_key, read_key
from measurements.pack.pack_check import inspect_pack
from measurements.pack.pack_reader import OpenedPack, open_pack
from measurements.pack.parallel import Progress, default_threads, silent

BROKER_FILE: Final = f"{BROKER}/{CONFIG_NAME}"
_PROFILE_BYTES_MAX: Final = 1 << 20
_DIGEST_BYTES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Held:
    """A part that fits, and in which way."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file:<20} {self.what}"


class OwnerMismatch(OwnerRefused):
    """A part that does not fit. `reason` is what the judge of it said."""

    def __init__(self, file: str, reason: Refused, remedy: str) -> None:
        super().__init__(f"{file}: {reason.code}", expected=reason.expected, got=reason.got, hint=remedy)
        self.file = file
        self.reason = reason


_ANEW: Final = "or make all parts anew: anchorhold owner init"
_REMEDY: Final = {
    CARD: f"put back the card that was sealed: `anchorhold pack inspect --json` shows it; {_ANEW}",
    KEY: f"put back the key that the pack was sealed with; {_ANEW}",
    PACK: f"put back the pack that was sealed, from your copy of it; {_ANEW}",
    PROFILE: f"put back the profile in the pack; where the engine has changed, {_ANEW.removeprefix('or ')}",
    CONFIG: f"put back what was written here; {_ANEW}",
    BROKER_FILE: f"put back the broker's folder from your copy of it; {_ANEW}",
}


def check(folder: Path, progress: Progress = silent) -> Iterator[Held]:
    """Yields each part that fits. Raises `OwnerMismatch` at the first that does not, is none, or cannot be read."""
    with _judging(CARD):
        claims = Claims.parse(_read(folder / CARD, CARD_BYTES_MAX))
    yield Held(CARD, f"is the card of {claims.name}")
    with _judging(KEY):
        key = read_key(folder / KEY)
    with _judging(PACK):
        header = inspect_pack(folder / PACK).header
    yield Held(PACK, "is a pack with a signed header")
    with _judging(KEY):
        check_key(key, header.file_id, header.key_check)
    yield Held(KEY, f"opens {PACK}")
    with _opened(folder / PACK, key, progress) as pack:
        yield Held(PACK, f"is as it was sealed: model root {pack.identity.model_root.hex()}")
        with _judging(CARD):
            _same_card(claims, pack.card.claims)
        yield Held(CARD, f"is the card in {PACK}")
        config, raw = _configuration(folder)
        yield Held(CONFIG, "is a configuration that a cell starts with")
        yield from _profile(folder, pack, config)
        with _judging(CONFIG):
            _fits_pack(config, pack, digest_of(bytes(pack.file(PROFILE))))
        yield Held(CONFIG, f"names the model and the profile in {PACK}")
    digest = config_digest(raw)
    with _judging(DIGEST, f"if {CONFIG} is as you want it, write {digest.hex()} into {DIGEST} and {BROKER_FILE}"):
        stated = _read(folder / DIGEST, _DIGEST_BYTES_MAX).decode("ascii", "replace").removesuffix("\n")
        _same("digest", hexadecimal(stated, "digest.form", NoPart, len(digest)), digest)
    yield Held(DIGEST, f"is the digest of {CONFIG}: {digest.hex()}")
    yield from _broker(folder, key, config, digest)


def _profile(folder: Path, pack: OpenedPack, config: MeasuredConfig) -> Iterator[Held]:
    with _judging(PROFILE):
        raw, sealed = _read(folder / PROFILE, _PROFILE_BYTES_MAX), bytes(pack.file(PROFILE))
        if raw != sealed:
            raise OwnerRefused("profile.sealed", expected=f"the profile in {PACK}", got=difference(raw, sealed))
    yield Held(PROFILE, f"is the profile in {PACK}")
    with _judging(PROFILE):
        started = start(pack, sampling=pack.card.claims.sampling, profile=None)
        close(started.engine)
    settings = started.profile.settings
    yield Held(PROFILE, f"holds for {settings.engine} as it runs here: {len(started.profile.golden)} golden prompts")
    with _judging(CONFIG):
        _same("engine", config.engine, settings.engine)


def _broker(folder: Path, key: Secret, config: MeasuredConfig, digest: bytes) -> Iterator[Held]:
    wanted = config.release
    if wanted is None or wanted.service is None:
        with _judging(CONFIG):
            raise OwnerRefused("config.release", expected="a broker and a service key in [release]", got="none")
    with _judging(BROKER_FILE):
        opened = open_broker(folder / BROKER_FILE)
    try:
        with _judging(BROKER_FILE):
            entries = audit(opened.store, opened.keys.public).position
        yield Held(BROKER_FILE, f"opens a broker whose log holds: {entries} entries")
        with _judging(CONFIG):
            _same("broker-key", wanted.broker, opened.keys.public)
        yield Held(CONFIG, "names this broker's key")
        with _judging(BROKER_FILE):
            _holds_key(opened, wanted.resource, key, wanted.model_root)
            row, ring = service.held(opened.store, opened.wrapping, wanted.service)
            _same("service.model-root", row.model_root, wanted.model_root)
        yield Held(BROKER_FILE, f"holds {wanted.resource}, and {wanted.service} from block {ring.first} on")
        remedy = f'write measured_config = "{digest.hex()}" and model_root = "{wanted.model_root.hex()}" into [release]'
        with _judging(BROKER_FILE, remedy):
            intended = opened.config.intended
            if intended is None:
                raise OwnerRefused("broker.release", expected="a table [release]", got="none")
            _same("measured-config", intended.measured_config, digest)
            _same("model-root", intended.model_root, wanted.model_root)
        yield Held(BROKER_FILE, f"names the digest of {CONFIG}")
    finally:
        opened.store.close()


# ---- one part against another: pure


def _same_card(stated: Claims, sealed: Claims) -> None:
    for name in ("name", "family", "license", "quantization"):
        _same(f"card.{name}", getattr(stated, name), getattr(sealed, name))
    _same("card.sampling", dict(stated.sampling), dict(sealed.sampling))


def _fits_pack(config: MeasuredConfig, pack: OpenedPack, profile: bytes) -> None:
    _same("profile", config.profile, profile)
    if config.model is not None:  # a configuration with an engine of a model always has one
        check_expected(pack.identity, config.model)


def _holds_key(opened: Opened, resource: str, key: Secret, model_root: bytes) -> None:
    with opened.store.change() as change:
        row = change.secret(resource)
    if row is None or row.wrapped is None:
        raise OwnerRefused("broker.secret", expected=resource, got="no such secret, or a revoked one")
    _same("secret.model-root", row.model_root, model_root)
    if opened.wrapping.unwrap(row.wrapped, row.name) != key:
        raise OwnerRefused("broker.key", expected=f"{resource} to be the key in {KEY}", got=f"version {row.version}")


def _same(code: str, stated: object, wanted: object) -> None:
    if stated != wanted:
        raise OwnerRefused(code, expected=shown(wanted), got=shown(stated))


# ---- reading


def _configuration(folder: Path) -> tuple[MeasuredConfig, bytes]:
    with _judging(CONFIG):
        raw = _read(folder / CONFIG, CONFIG_BYTES_MAX)
        return MeasuredConfig.parse(raw), raw


@contextmanager
def _opened(path: Path, key: Secret, progress: Progress) -> Iterator[OpenedPack]:
    """The pack in memory, proven. What the block raises is its own."""
    with ExitStack() as stack:
        with _judging(PACK):
            pack = stack.enter_context(open_pack(path, key, threads=default_threads(), progress=progress))
        yield pack


def _read(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as file:
        raw = file.read(bytes_max + 1)
    if len(raw) > bytes_max:
        raise NoPart("owner.size", expected=f"at most {bytes_max} bytes", got=f"{len(raw)} bytes or more")
    return raw


@contextmanager
def _judging(file: str, remedy: str | None = None) -> Iterator[None]:
    """What is refused in the block is that file's fault."""
    try:
        yield
    except OSError as error:
        raise OwnerMismatch(file, refused_file(error), remedy or _REMEDY[file]) from None
    except Refused as reason:
        raise OwnerMismatch(file, reason, remedy or _REMEDY[file]) from None
