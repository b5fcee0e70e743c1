"""What the cell must not be told by its host: a file inside the measured image, parsed once, never overridden.

gateway = "rrkah-fqaaa-aaaaa-aaaaq-cai"     the canister whose blocks are believed
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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from appliance.key_release import Wanted
from attestation.consensus.chat import is_model_name
from attestation.consensus.principal import from_text
from attestation.consensus.roots import parse_root_key
from attestation.rcar.grant import GrantPurpose
from attestation.receipts.errors import PriceRefused
from attestation.receipts.price import FREE, PriceSchedule
from foundation.digests import tagged_sha256
from foundation.document import ANY_TEXT, SPACED_HEX, Fields, shown, toml_table
from foundation.refusal import Refused
from measurements.pack.identity import Expected

CONFIG_BYTES_MAX = 64 * 1024
ALIASES_MAX = 64
DIGEST_TAG = "anchorhold/measured-config/v1"
_FIELDS = ("gateway", "root_key", "engine")
_OPTIONAL = ("release", "price", "plaintext", "profile", "models")
_RELEASE = ("broker_key", "resource", "model_root")
_SERVICE = "service"


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
    profile: bytes | None = None  # of the engine, in that pack
    aliases: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """What a request may call the model by (answer.md A25)."""
        return self.aliases | {_called(self.engine, self.model)}

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        table = toml_table(raw, "config", _refuse, bytes_max=CONFIG_BYTES_MAX)
        fields = Fields(table, "config", _refuse, ANY_TEXT)
        fields.only(*_FIELDS, *(name for name in _OPTIONAL if name in fields), code="config.fields")
        engine, gateway = _text(fields, "engine"), from_text(_text(fields, "gateway"))
        root_key = parse_root_key(fields.blob("root_key", CONFIG_BYTES_MAX, SPACED_HEX))
        price = fields.optional("price", lambda name: fields.named(name, CONFIG_BYTES_MAX, ANY_TEXT))
        plaintext, profile = fields.optional("plaintext", fields.flag), _optional_digest(fields, "profile")
        release = fields.optional("release", fields.fields)
        wanted, expected = (None, None) if release is None else _release(release)
        return cls(
            gateway,
            root_key,
            engine,
            wanted,
            expected,
            # A cell that can be sealed to runs nothing else, unless its configuration says so.
            (wanted is None or wanted.service is None) if plaintext is None else plaintext,
            FREE if price is None else _price(price),
            profile,
            _aliases(fields, _called(engine, expected)),
        )


def config_digest(raw: bytes) -> bytes:
    """What a quote binds as the measured configuration: of the file as it stands in the image."""
    return tagged_sha256(DIGEST_TAG, raw)


def _refuse(code: str, /, *, expected: str, got: object) -> ConfigRefused:
    return ConfigRefused(code.removeprefix("config."), expected=expected, got=got)


def _release(fields: Fields) -> tuple[Wanted, Expected]:
    fields.only(*_RELEASE, *(name for name in (_SERVICE, "model") if name in fields))
    resource, service = _text(fields, "resource"), fields.optional(_SERVICE, lambda name: _text(fields, name))
    _check_path("release.resource", resource, GrantPurpose.MODEL)
    if service is not None:
        _check_path("release.service", service, GrantPurpose.SERVICE)
    root, broker = (fields.digest(name, form=SPACED_HEX) for name in ("model_root", "broker_key"))
    model = fields.optional("model", fields.fields)
    wanted = Wanted(broker, resource, GrantPurpose.MODEL, root, service)
    return wanted, Expected(model_root=root) if model is None else _expected(root, model)


def _check_path(name: str, path: str, purpose: GrantPurpose) -> None:
    if path.split("/")[1:2] != [purpose.value] or path.count("/") != 2:
        raise ConfigRefused(name, expected=f"repository/{purpose.value}/tag", got=shown(path))


def _called(engine: str, model: Expected | None) -> str:
    """The model's own name, where it is stated. What the card of a pack says is not measured, so it names nothing."""
    return engine if model is None or model.name is None else model.name


def _aliases(fields: Fields, served: str) -> frozenset[str]:
    stated = fields.optional("models", lambda name: fields.named(name, ALIASES_MAX, ANY_TEXT, least=1)) or {}
    for name, points_at in stated.items():
        if not is_model_name(name) or name == served:
            raise ConfigRefused("models", expected="other names, such as a request can have", got=shown(name))
        if points_at != served:
            raise ConfigRefused("models", expected=f"names of {served!r}", got=f"one of {shown(points_at)}")
    return frozenset(stated)


def _price(fields: Mapping[str, object]) -> PriceSchedule:
    try:
        return PriceSchedule.of(fields)
    except PriceRefused as refusal:
        raise ConfigRefused(refusal.code, expected=refusal.expected, got=refusal.got) from None


def _expected(model_root: bytes, fields: Fields) -> Expected:
    name, family, quantization = (
        fields.optional(name, lambda name: _text(fields, name)) for name in ("name", "family", "quantization")
    )
    tokenizer, template, config = (_optional_digest(fields, name) for name in ("tokenizer", "template", "config"))
    fields.done()
    return Expected(
        model_root=model_root,
        name=name,
        family=family,
        quantization=quantization,
        tokenizer=tokenizer,
        template=template,
        config=config,
    )


def _text(fields: Fields, name: str) -> str:
    return fields.text(name, CONFIG_BYTES_MAX, empty=True)


def _optional_digest(fields: Fields, name: str) -> bytes | None:
    return fields.optional(name, lambda name: fields.digest(name, form=SPACED_HEX))
