"""The measured configuration: a file inside the image, parsed once, which the host cannot override.

gateway = "rrkah-fqaaa-aaaaa-aaaaq-cai"     the canister whose blocks are accepted
root_key = "814c..."                        96 bytes: the root of the subnets' certificates
engine = "fixed-1"
profile = "77b0..."                         32 bytes: the engine profile in the model's pack; an engine without a
                                            model has none
plaintext = true                            optional: whether plain requests are run; if it is not said, they are
                                            where no service key is named

[models]                                    optional: what else a request may call the model by; each name points
"llama3.1:8b" = "tiny"                      at its own: the one in [release.model], or else the engine

[price]                                     optional: cycles; without it an answer costs none
request = 1000000
token_in = 2000
token_out = 10000

[release]                                   optional: a cell without it has no key to ask for
broker_key = "9f3c..."                      32 bytes, Ed25519: the one broker a key is taken from
resource = "default/model-key/little"       which key
service = "default/service-key/little"      optional: the service keys; without them no sealed request is run
model_root = "30a1..."                      32 bytes: the model it opens

[release.model]                             optional: what a wrong pack is told to differ in, besides its root
name = "tiny"                               any of name, family, quantization, tokenizer, template, config
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Self, TypeVar

from appliance.key_release import Wanted
from attestation.consensus.chat import is_model_name
from attestation.consensus.principal import from_text
from attestation.consensus.roots import parse_root_key
from attestation.rcar.grant import GrantPurpose
from attestation.receipts.errors import PriceRefused
from attestation.receipts.price import FREE, PriceSchedule
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.document import toml_table
from foundation.refusal import PARTS_MAX, Refused, listed, outline, shape, shown
from foundation.sized import Digest32
from measurements.digests import (
    ConfigurationDigest,
    ModelConfigDigest,
    ModelRoot,
    ProfileDigest,
    TemplateDigest,
    TokenizerDigest,
)
from measurements.pack.identity import Expected

CONFIG_BYTES_MAX = 64 * 1024
ALIASES_MAX = 64
DIGEST_TAG = "anchorhold/measured-config/v1"
WITH_MODEL = ("fixed-1", "torch-1", "vllm-1")
WITHOUT_MODEL = "scripted-1"
_FIELDS = ("gateway", "root_key", "engine")
_OPTIONAL = ("models", "plaintext", "price", "profile", "release")
_SERVICE = "service"
_RELEASE = ("broker_key", "resource", "model_root")
_RELEASE_OPTIONAL = ("model", _SERVICE)
_MODEL_TEXTS = frozenset({"name", "family", "quantization"})
_MODEL_DIGESTS = frozenset({"tokenizer", "template", "config"})

T = TypeVar("T")


class ConfigRefused(Refused):
    """The measured configuration is not one."""

    stage = "config"


@dataclass(frozen=True, slots=True)
class MeasuredConfig:
    """D2: subnet root, gateway and engine, all inside the measurement."""

    gateway: bytes
    root_key: bytes
    engine: str
    release: Wanted | None = None
    model: Expected | None = None  # of the pack that the released key opens
    plaintext: bool = True
    price: PriceSchedule = FREE
    profile: ProfileDigest | None = None  # of the engine, in that pack
    aliases: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """What a request may call the model by (answer.md A25)."""
        return self.aliases | {_called(self.engine, self.model)}

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """What a cell starts with. Build, `image check` and cell judge by this alone (image.md I22)."""
        fields = toml_table(raw, "", ConfigRefused, bytes_max=CONFIG_BYTES_MAX, called="a measured configuration")
        _check_names("fields", fields, _FIELDS, _OPTIONAL)
        models, plaintext, price, profile, release = (fields.pop(name, None) for name in _OPTIONAL)
        for name, value in fields.items():
            if not isinstance(value, str):
                raise ConfigRefused(name, expected="a text", got=type(value).__name__)
        wanted, expected = (None, None) if release is None else _release(release)
        texts = _texts("fields", fields)
        config = cls(
            from_text(texts["gateway"]),
            parse_root_key(_hex("root_key", texts["root_key"])),
            texts["engine"],
            wanted,
            expected,
            _plaintext(plaintext, wanted),
            _price(price),
            _profile(profile),
            _aliases(models, _called(texts["engine"], expected)),
        )
        config.check_engine()
        return config

    def check_engine(self) -> None:
        """profile.md F5: an engine that there is, with a profile and a release where it has a model."""
        if self.engine in WITH_MODEL:
            if self.profile is None or self.release is None:
                missing = "no profile" if self.profile is None else "no [release]"
                raise ConfigRefused("profile", expected=f"a profile and a [release] for {self.engine}", got=missing)
        elif self.engine != WITHOUT_MODEL:
            raise ConfigRefused("engine", expected=" or ".join((*WITH_MODEL, WITHOUT_MODEL)), got=shown(self.engine))
        elif self.profile is not None:
            raise ConfigRefused("profile", expected=f"none for {self.engine}", got="a profile")


def config_digest(raw: bytes) -> ConfigurationDigest:
    """What a quote binds as the measured configuration: of the file as it stands in the image."""
    return ConfigurationDigest(tagged_sha256(DIGEST_TAG, raw))


def _release(fields: object) -> tuple[Wanted, Expected]:
    if not isinstance(fields, dict):
        raise ConfigRefused("release", expected="a table", got=outline(fields))
    _check_names("release", fields, _RELEASE, _RELEASE_OPTIONAL)
    texts = _texts("release", {name: fields[name] for name in fields.keys() - {"model"}})
    _check_path("release.resource", texts["resource"], GrantPurpose.MODEL)
    if _SERVICE in texts:
        _check_path("release.service", texts[_SERVICE], GrantPurpose.SERVICE)
    root = ModelRoot(_digest("release.model_root", texts["model_root"]))
    broker = _digest("release.broker_key", texts["broker_key"])
    wanted = Wanted(broker, texts["resource"], GrantPurpose.MODEL, root, texts.get(_SERVICE))
    return wanted, _expected(root, fields.get("model", {}))


def _check_names(code: str, found: Collection[str], needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    missing = [f"no {name}" for name in needed if name not in found]
    unknown = [f"unknown {shown(name)}" for name in sorted({*found} - {*needed, *optional})]
    if missing or unknown:
        expected = f"{', '.join(needed)} (optional: {', '.join(optional)})"
        raise ConfigRefused(code, expected=expected, got=", ".join([*missing, *unknown][:PARTS_MAX]))


def _check_path(name: str, path: str, purpose: GrantPurpose) -> None:
    if path.split("/")[1:2] != [purpose.value] or path.count("/") != 2:
        raise ConfigRefused(name, expected=f"repository/{purpose.value}/tag", got=shown(path))


def _plaintext(stated: object, wanted: Wanted | None) -> bool:
    """A cell that can be sealed to runs nothing else, unless its configuration says so."""
    if stated is None:
        return wanted is None or wanted.service is None
    if not isinstance(stated, bool):
        raise ConfigRefused("plaintext", expected="true or false", got=type(stated).__name__)
    return stated


def _called(engine: str, model: Expected | None) -> str:
    """The model's own name, where it is stated. What the card of a pack says is not measured, so it names nothing."""
    return engine if model is None or model.name is None else model.name


def _aliases(stated: object, served: str) -> frozenset[str]:
    if stated is None:
        return frozenset()
    if not isinstance(stated, dict) or not 1 <= len(stated) <= ALIASES_MAX:
        raise ConfigRefused("models", expected=f"a table of 1 to {ALIASES_MAX} names", got=shape(stated))
    for name, points_at in stated.items():
        if not is_model_name(name) or name == served:
            raise ConfigRefused("models", expected="other names, such as a request can have", got=repr(name[:64]))
        if points_at != served:
            raise ConfigRefused("models", expected=f"names of {served!r}", got=f"one of {str(points_at)[:64]!r}")
    return frozenset(stated)


def _profile(stated: object) -> ProfileDigest | None:
    if stated is None:
        return None
    return ProfileDigest(_digest("profile", _texts("profile", {"profile": stated})["profile"]))


def _price(fields: object) -> PriceSchedule:
    if fields is None:
        return FREE
    if not isinstance(fields, dict):
        raise ConfigRefused("price", expected="a table", got=type(fields).__name__)
    try:
        return PriceSchedule.of(fields)
    except PriceRefused as refusal:
        raise ConfigRefused(refusal.code, expected=refusal.expected, got=refusal.got) from None


def _expected(model_root: ModelRoot, fields: object) -> Expected:
    if not isinstance(fields, dict) or not fields.keys() <= _MODEL_TEXTS | _MODEL_DIGESTS:
        raise ConfigRefused(
            "release.model", expected=f"some of {sorted(_MODEL_TEXTS | _MODEL_DIGESTS)}", got=outline(fields)
        )
    texts = _texts("release.model", fields)
    return Expected(
        model_root=model_root,
        name=texts.get("name"),
        family=texts.get("family"),
        quantization=texts.get("quantization"),
        tokenizer=_of_model(TokenizerDigest, texts, "tokenizer"),
        template=_of_model(TemplateDigest, texts, "template"),
        config=_of_model(ModelConfigDigest, texts, "config"),
    )


def _of_model(kind: Callable[[Digest32], T], texts: dict[str, str], name: str) -> T | None:
    return kind(_digest(f"release.model.{name}", texts[name])) if name in texts else None


def _texts(table: str, fields: dict[str, object]) -> dict[str, str]:
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    if len(texts) != len(fields):
        raise ConfigRefused(
            table, expected="texts", got=f"values of other types for {listed(fields.keys() - texts.keys())}"
        )
    return texts


def _digest(name: str, text: str) -> Digest32:
    raw = _hex(name, text)
    if len(raw) != DIGEST_BYTES:
        raise ConfigRefused(name, expected=f"{DIGEST_BYTES} bytes", got=len(raw))
    return Digest32(raw)


def _hex(name: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigRefused(name, expected="hexadecimal", got=shown(text)) from None
