"""Makes, opens and serves a broker, for the broker's verbs. A broker's clock and randomness are read here."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from anchorhold.input_files import BROKER_CONFIG, PACK, SECRET, UsageRefused, key_file, reason_of
from attestation.broker.broker import Broker, Keys, load_keys, new_keys
from attestation.broker.config import Config
from attestation.broker.log import audit
from attestation.broker.server import BrokerServer, tls_context
from attestation.broker.store import Store
from attestation.broker.wrapping import KEY_BYTES, Wrapping, open_wrapping
from attestation.rcar.grant import GrantPurpose
from foundation import logs, private_files
from foundation.refusal import shown
from foundation.secrecy import Secret
from measurements.digests import ConfigurationDigest, ModelRoot
from measurements.pack.errors import PackKeyRefused
from measurements.pack.keys import check_key, parse_key
from measurements.pack.pack_check import inspect_pack

CONFIG_NAME: Final = "broker.toml"
TLS_DAYS: Final = 365
LOOPBACK: Final = ("localhost", "127.0.0.1")
PORT: Final = 8443
TEMPLATE: Final = """\
listen = "{listen}"
store = "{store}"
wrapping = "{wrapping}"
certificate = "tls.pem"
key = "tls.key"
policy = "{policy}"
references = "references.toml"
"""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """A broker's store and keys, ready to be changed or served."""

    config: Config
    store: Store
    wrapping: Wrapping
    keys: Keys


@dataclass(frozen=True, slots=True)
class Place:
    """Where hosts reach the broker: what its certificate is made out to, and where it listens."""

    host: str = "localhost"
    port: int = PORT

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def listen(self) -> str:
        return f"{'127.0.0.1' if self.host in LOOPBACK else '0.0.0.0'}:{self.port}"  # noqa: S104  # hosts are elsewhere


HERE: Final = Place()


def initialise(folder: Path, *, store: str, wrapping: str, policy: str, place: Place = HERE) -> Keys:
    """A folder with a configuration, a TLS certificate of its own, a key-encryption key and an empty store."""
    private_files.folder(folder)
    path = folder / CONFIG_NAME  # the store's URL may hold a password
    text = TEMPLATE.format(listen=place.listen, store=store, wrapping=wrapping, policy=policy)
    private_files.write_new(path, text.encode())
    if wrapping == "file:kek":
        private_files.write_new(folder / "kek", secrets.token_bytes(KEY_BYTES))
    write_certificate(folder, place.host)
    if not (folder / "references.toml").exists():
        (folder / "references.toml").write_text('# [snp]\n# chip_id = ["..."]      the machines of the fleet\n')
    config = Config.read(path)
    opened = Store.open(config.store, create=True)
    try:
        return new_keys(opened, open_wrapping(config.wrapping, os.environ), time.time_ns())
    finally:
        opened.close()


def open_broker(path: Path) -> Opened:
    """Raises `Refused` for a store that is not there or does not agree with its log."""
    with BROKER_CONFIG.at(path):
        config = Config.read(path)
    wrapping = open_wrapping(config.wrapping, os.environ)
    store = Store.open(config.store)
    try:
        keys = load_keys(store, wrapping)
        store.signer = keys.signing
    except BaseException:
        store.close()
        raise
    return Opened(config, store, wrapping, keys)


def intended(
    config: Config, model_root: ModelRoot | None, measured_config: ConfigurationDigest | None
) -> tuple[ModelRoot, ConfigurationDigest]:
    """Model root and configuration of a release that is added by hand: those that are given, or else those that the
    broker's file names. Raises `UsageRefused`."""
    named = config.intended
    if model_root is None and named is not None:
        model_root = named.model_root
    if measured_config is None and named is not None:
        measured_config = named.measured_config
    if model_root is None or measured_config is None:
        raise UsageRefused(
            "usage.release",
            expected="--model-root and --measured-config, or [release] in the broker's file",
            got="no such option and no such table",
        )
    return model_root, measured_config


async def serve(opened: Opened) -> int:
    """Until a signal: 0. The store is held against its log first."""
    head = audit(opened.store, opened.keys.public)
    broker = Broker(
        opened.store,
        opened.keys,
        opened.wrapping,
        opened.config.judging,
        clock_ns=time.time_ns,
        randomness=secrets.token_bytes,
    )
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.on_loop_exception)
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    context = tls_context(opened.config.certificate, opened.config.key)
    async with BrokerServer(broker, context, opened.config.limits) as server:
        try:
            port = await server.start(opened.config.host, opened.config.port)
        except OSError as error:
            address = f"{opened.config.host}:{opened.config.port}"
            raise UsageRefused(
                "usage.listen", expected=f"to listen at {address}, as the configuration says", got=reason_of(error)
            ) from None
        _log.info("serving", port=port, log_entries=head.position, policy=opened.config.judging.policy.id)
        await told_to_stop.wait()
    _log.info("stopped")
    return 0


def write_certificate(folder: Path, host: str = LOOPBACK[0]) -> None:
    """Made out to this machine and to `host`. For TLS alone, which protects metadata: what a cell believes is signed by
    the broker's key, not by this one."""
    if (folder / "tls.pem").exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anchorhold broker")])
    now = datetime.now(UTC)
    names = [_subject(each) for each in dict.fromkeys((*LOOPBACK, host))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=TLS_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private_files.write_new(folder / "tls.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "tls.pem").write_bytes(certificate.public_bytes(Encoding.PEM))


def _subject(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def read_secret(
    source: str, purpose: GrantPurpose, pack: Path | None, model_root: bytes | None
) -> tuple[Secret, bytes]:
    """A secret and the model it is for, out of a file, or of standard input for `-`. Never an argument: a process list
    shows those. A model key comes in a key file, and opens the header of `pack` where one is named (R12)."""
    if purpose is not GrantPurpose.MODEL:
        if pack is not None:
            raise UsageRefused("usage.pack", expected="--pack with a model key alone", got=f"a {purpose.value} key")
        raw = sys.stdin.buffer.read() if source == "-" else SECRET.read(source)
        return Secret(raw), model_root or b""
    key = parse_key(sys.stdin.buffer.read(), "standard input") if source == "-" else key_file(Path(source))
    if pack is None:
        if model_root is None:
            raise UsageRefused(
                "usage.model-root",
                expected="--pack with the pack, or --model-root of its model",
                got="no --pack and no --model-root",
            )
        return key, model_root
    with PACK.at(pack):
        header = inspect_pack(pack).header
    try:
        check_key(key, header.file_id, header.key_check)
    except PackKeyRefused as refusal:
        refusal.add_note(f"the key in {source} does not open {pack}")
        raise
    if model_root not in (None, header.model_root):
        raise UsageRefused("usage.model-root", expected=f"{header.model_root.hex()}, of {pack}", got=shown(model_root))
    return key, header.model_root
