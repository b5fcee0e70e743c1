"""The manifest of a release: everything a decision to run it rests on, in one document with one spelling.

    manifest = Manifest.parse(Path("measurements/values/0.2.0.json").read_bytes())
    manifest.digest                     what a proposal, a decision and an auditor name it by
    manifest.launch_measurements()      what evidence of a cell may show

    digest = SHA-256(tag anchorhold/release/manifest/v1, dCBOR of the document)

It says what should run. That the image behind it does what its source says is shown by building it again (`rebuild`),
and that anyone wants it by a decision (`measurements.governance`); this module establishes neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.document import Fields
from foundation.refusal import disorder, listed, shown
from measurements.digests import (
    ConfigurationDigest,
    ManifestDigest,
    ModelRoot,
    PriceDigest,
    ProfileDigest,
    TemplateDigest,
    TokenizerDigest,
)
from measurements.launch.measurement import REGISTER_BYTES, RTMR_COUNT, LaunchMeasurement, SnpLaunchDigest, TdxRegisters
from measurements.release.document import Document, parse, refuse_other_form, render
from measurements.release.errors import ReleaseDocumentRefused
from measurements.release.heights import HEIGHT_MAX, LEASE_MAX, Heights

SCHEMA: Final = "anchorhold/release/v2"
DIGEST_TAG: Final = "anchorhold/release/manifest/v1"
IMAGE_TAG: Final = "anchorhold/release/image/v1"
MANIFEST_BYTES_MAX: Final = 48 * 1024  # with its envelope it fits an SNS proposal (70,000 bytes)
LAUNCHES_MAX: Final = 256
PARTS_MAX: Final = 32
VERSION: Final = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
URL: Final = re.compile(r"https://[!-~]+")
SNP_MODEL: Final = re.compile(r"(?:Milan|Genoa|Turin) (?:\*|\d{1,3}/\d{1,3}/\d{1,3})")
TDX_STATUS: Final = re.compile(r"[A-Za-z]{1,48}")


@dataclass(frozen=True, slots=True)
class Named:
    """Another release, by name and by content."""

    version: str
    manifest: ManifestDigest


@dataclass(frozen=True, slots=True)
class Image:
    """The files a cell starts from: SHA-256 of each, and one digest over all of them."""

    parts: Mapping[str, bytes]

    @property
    def digest(self) -> bytes:
        return tagged_sha256(IMAGE_TAG, cbor.encode(dict(self.parts)))


@dataclass(frozen=True, slots=True)
class SnpLaunch:
    """What a chip reports for this image on that many processors of that kind."""

    cpu: str  # QEMU's name of the model: EPYC-v4
    vcpus: int
    guest_features: int  # SEV_FEATURES of the guest, 1 for plain SNP
    measurement: SnpLaunchDigest

    @property
    def place(self) -> tuple[str, int, int]:
        return self.cpu, self.vcpus, self.guest_features


@dataclass(frozen=True, slots=True)
class TdxLaunch:
    """What a TDX module reports on that machine. A register that is None is judged by its event log alone."""

    machine: str  # what the registers depend on, in words: qemu-10.0-q35-8G
    vcpus: int  # 0: any number, where no register that depends on it is stated
    mr_td: bytes
    rtmr: tuple[bytes | None, ...]

    @property
    def place(self) -> tuple[str, int]:
        return self.machine, self.vcpus

    @property
    def registers(self) -> TdxRegisters | None:
        """MRTD and RTMR0 to 3 as one, where all are stated."""
        match self.rtmr:
            case (bytes(rtmr0), bytes(rtmr1), bytes(rtmr2), bytes(rtmr3)):
                return TdxRegisters(self.mr_td, (rtmr0, rtmr1, rtmr2, rtmr3))
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Launch:
    """How the image is started, and every measurement that then comes out."""

    command_line: str
    snp: tuple[SnpLaunch, ...]
    tdx: tuple[TdxLaunch, ...]


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    root: ModelRoot
    tokenizer: TokenizerDigest | None
    template: TemplateDigest | None


@dataclass(frozen=True, slots=True)
class EngineProfile:
    id: str
    profile: ProfileDigest | None  # None: an engine without one (the scripted engine of a devnet)


@dataclass(frozen=True, slots=True)
class Price:
    """In cycles; `digest` is what receipts carry."""

    digest: PriceDigest
    request: int
    token_in: int
    token_out: int


@dataclass(frozen=True, slots=True)
class MinimumTcb:
    """Below these a machine gets no key for this release, whatever else a policy allows."""

    snp: Mapping[str, Mapping[str, int]]  # "Genoa 25/17/1" -> bootloader, tee, snp, microcode, ?fmc
    tdx: tuple[str, ...]  # TCB statuses that will do


@dataclass(frozen=True, slots=True)
class Rebuild:
    """How anyone makes the same bytes."""

    repository: str
    commit: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serves:
    """Which blocks cells of this release may answer, and how many of them one grant is for."""

    heights: Heights
    lease: int  # beyond the height that the broker was shown, or the first one


@dataclass(frozen=True, slots=True)
class Manifest:
    version: str
    supersedes: Named | None
    serves: Serves
    image: Image
    launch: Launch
    measured_config: ConfigurationDigest
    model: Model
    engine: EngineProfile
    price: Price
    minimum_tcb: MinimumTcb
    rebuild: Rebuild

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ReleaseDocumentRefused`, nothing else."""
        fields = parse(raw, "manifest", bytes_max=MANIFEST_BYTES_MAX)
        fields.text("schema", 32, re.compile(re.escape(SCHEMA)))
        manifest = cls(
            version=fields.text("version", 20, VERSION),
            supersedes=_named(fields.optional_fields("supersedes")),
            serves=_serves(fields.fields("serves")),
            image=_image(fields.fields("image")),
            launch=_launch(fields.fields("launch")),
            measured_config=ConfigurationDigest(fields.digest("measured_config")),
            model=_model(fields.fields("model")),
            engine=_engine(fields.fields("engine")),
            price=_price(fields.fields("price")),
            minimum_tcb=_minimum_tcb(fields.fields("minimum_tcb")),
            rebuild=_rebuild(fields.fields("rebuild")),
        )
        fields.done()
        refuse_other_form(raw, manifest.encode(), "manifest")
        _check_sense(manifest)
        return manifest

    def document(self) -> dict[str, Document]:
        return {
            "schema": SCHEMA,
            "version": self.version,
            "supersedes": None
            if self.supersedes is None
            else {"version": self.supersedes.version, "manifest": self.supersedes.manifest.hex()},
            "serves": {
                "first": self.serves.heights.first,
                "last": self.serves.heights.last,
                "lease": self.serves.lease,
            },
            "image": {
                "digest": self.image.digest.hex(),
                "parts": {name: digest.hex() for name, digest in self.image.parts.items()},
            },
            "launch": launch_document(self.launch),
            "measured_config": self.measured_config.hex(),
            "model": {
                "name": self.model.name,
                "root": self.model.root.hex(),
                "tokenizer": _hex(self.model.tokenizer),
                "template": _hex(self.model.template),
            },
            "engine": {"id": self.engine.id, "profile": _hex(self.engine.profile)},
            "price": {
                "digest": self.price.digest.hex(),
                "request": self.price.request,
                "token_in": self.price.token_in,
                "token_out": self.price.token_out,
            },
            "minimum_tcb": {
                "snp": {name: dict(levels) for name, levels in self.minimum_tcb.snp.items()},
                "tdx": list(self.minimum_tcb.tdx),
            },
            "rebuild": {
                "repository": self.rebuild.repository,
                "commit": self.rebuild.commit,
                "commands": list(self.rebuild.commands),
            },
        }

    def encode(self) -> bytes:
        """The file: the one spelling of it."""
        return render(self.document())

    @property
    def canonical(self) -> bytes:
        """What is hashed."""
        return cbor.encode(self.document())

    @property
    def digest(self) -> ManifestDigest:
        return ManifestDigest(tagged_sha256(DIGEST_TAG, self.canonical))

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split("."))

    def launch_measurements(self) -> tuple[LaunchMeasurement, ...]:
        """One for each SNP launch, and for each TDX launch whose registers are all stated."""
        tdx = [launch.registers for launch in self.launch.tdx]
        return (*(launch.measurement for launch in self.launch.snp), *(each for each in tdx if each is not None))


def launch_document(launch: Launch) -> dict[str, Document]:
    """The `launch` member by itself: what measuring an image gives."""
    return {
        "command_line": launch.command_line,
        "snp": [
            {
                "cpu": each.cpu,
                "vcpus": each.vcpus,
                "guest_features": each.guest_features,
                "measurement": each.measurement.hex(),
            }
            for each in launch.snp
        ],
        "tdx": [
            {
                "machine": each.machine,
                "vcpus": each.vcpus,
                "mr_td": each.mr_td.hex(),
                "rtmr": [_hex(register) for register in each.rtmr],
            }
            for each in launch.tdx
        ],
    }


def parse_launch(raw: bytes) -> Launch:
    """A `launch` member by itself, in its one spelling. Raises `ReleaseDocumentRefused`."""
    launch = _launch(parse(raw, "launch", bytes_max=MANIFEST_BYTES_MAX))
    refuse_other_form(raw, render(launch_document(launch)), "launch")
    return launch


def _named(fields: Fields | None) -> Named | None:
    if fields is None:
        return None
    named = Named(fields.text("version", 20, VERSION), ManifestDigest(fields.digest("manifest")))
    fields.done()
    return named


def _serves(fields: Fields) -> Serves:
    first, last = fields.uint("first", HEIGHT_MAX, 1), fields.optional_uint("last", HEIGHT_MAX, 1)
    serves = Serves(_heights(first, last), fields.uint("lease", LEASE_MAX, 1))
    fields.done()
    return serves


def _heights(first: int, last: int | None) -> Heights:
    try:
        return Heights(first, last)
    except ValueError:
        raise ReleaseDocumentRefused(
            "manifest.serves.last", expected=f"{first} or a later height", got=str(last)
        ) from None


def _image(fields: Fields) -> Image:
    stated = fields.digest("digest")
    image = Image(MappingProxyType(dict(fields.digests("parts", PARTS_MAX, NAME))))
    fields.done()
    if image.digest != stated:
        raise ReleaseDocumentRefused("manifest.image.digest", expected=image.digest.hex(), got=stated.hex())
    return image


def _launch(fields: Fields) -> Launch:
    command_line = fields.text("command_line", 2048, empty=True)
    snp = tuple(_snp(row) for row in fields.rows("snp", LAUNCHES_MAX))
    tdx = tuple(_tdx(row) for row in fields.rows("tdx", LAUNCHES_MAX))
    fields.done()
    for name, places in (("snp", [each.place for each in snp]), ("tdx", [each.place for each in tdx])):
        if list(places) != sorted(set(places)):
            raise ReleaseDocumentRefused(f"launch.{name}", expected="each place once, in order", got=disorder(places))
    if not snp and not tdx:
        raise ReleaseDocumentRefused("launch", expected="at least one launch measurement", got="none")
    return Launch(command_line, snp, tdx)


def _snp(row: Fields) -> SnpLaunch:
    launch = SnpLaunch(
        row.text("cpu", 32, NAME),
        row.uint("vcpus", 512, 1),
        row.uint("guest_features"),
        SnpLaunchDigest(row.digest("measurement", REGISTER_BYTES)),
    )
    row.done()
    return launch


def _tdx(row: Fields) -> TdxLaunch:
    launch = TdxLaunch(
        row.text("machine", 64, NAME),
        row.uint("vcpus", 512),
        row.digest("mr_td", REGISTER_BYTES),
        row.optional_digests("rtmr", RTMR_COUNT, REGISTER_BYTES),
    )
    row.done()
    return launch


def _model(fields: Fields) -> Model:
    model = Model(
        fields.text("name", 64),
        ModelRoot(fields.digest("root")),
        None if (tokenizer := fields.optional_digest("tokenizer")) is None else TokenizerDigest(tokenizer),
        None if (template := fields.optional_digest("template")) is None else TemplateDigest(template),
    )
    fields.done()
    return model


def _engine(fields: Fields) -> EngineProfile:
    name, profile = fields.text("id", 64, NAME), fields.optional_digest("profile")
    engine = EngineProfile(name, None if profile is None else ProfileDigest(profile))
    fields.done()
    return engine


def _price(fields: Fields) -> Price:
    price = Price(
        PriceDigest(fields.digest("digest")), fields.uint("request"), fields.uint("token_in"), fields.uint("token_out")
    )
    fields.done()
    return price


def _minimum_tcb(fields: Fields) -> MinimumTcb:
    snp = {name: _levels(name, row) for name, row in fields.table("snp", LAUNCHES_MAX, SNP_MODEL).items()}
    tdx = fields.texts("tdx", 8, 48, least=0)
    fields.done()
    if list(tdx) != sorted(set(tdx)) or not all(TDX_STATUS.fullmatch(status) for status in tdx):
        raise ReleaseDocumentRefused(
            "manifest.minimum_tcb.tdx", expected="statuses, each once, in order", got=listed(tdx)
        )
    return MinimumTcb(MappingProxyType(snp), tdx)


def _levels(model: str, row: Fields) -> Mapping[str, int]:
    names = ("bootloader", "tee", "snp", "microcode", *(("fmc",) if model.startswith("Turin") else ()))
    levels = {name: row.uint(name, 255) for name in names}
    row.done()
    return MappingProxyType(levels)


def _rebuild(fields: Fields) -> Rebuild:
    rebuild = Rebuild(
        fields.text("repository", 256, URL), fields.text("commit", 64, COMMIT), fields.texts("commands", 16, 256)
    )
    fields.done()
    return rebuild


def _check_sense(manifest: Manifest) -> None:
    before = manifest.supersedes
    if before is not None and manifest.number <= tuple(int(part) for part in before.version.split(".")):
        raise ReleaseDocumentRefused(
            "manifest.supersedes", expected=f"a version below {manifest.version}", got=before.version
        )
    measurements = manifest.launch_measurements()
    if len(set(measurements)) != len(measurements):
        raise ReleaseDocumentRefused(
            "manifest.launch",
            expected="each measurement once",
            got=f"{shown(next(each for each in measurements if measurements.count(each) > 1).encode())} twice",
        )
    # A kind of machine without a floor would be one on which broken firmware gets keys.
    for tee, launches, floor in (
        ("snp", manifest.launch.snp, manifest.minimum_tcb.snp),
        ("tdx", manifest.launch.tdx, manifest.minimum_tcb.tdx),
    ):
        if launches and not floor:
            raise ReleaseDocumentRefused(f"manifest.minimum_tcb.{tee}", expected="a floor for this TEE", got="none")


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
