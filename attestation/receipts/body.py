"""A receipt's body: what every cell of a release says alike about one request (docs/spec/receipt.md T1 to T8).

    [1, [release, adoption], config, [model root, tokenizer, template], [profile, fingerprint],
     [gateway, height, index, id], [kind, request], [seed policy, seed commitment],
     [answer, outcome, finish / code], [tokens in, tokens out, price, cycles], previous]

Parsed and not believed: a body by itself is a claim without a claimant. Who signed it is `sealing`'s to say, that it
stands in a log `checkpoint`'s, that its request was ordered the auditor's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final, NewType, Self

from attestation.consensus.blocks import PRINCIPAL_BYTES_MAX, REQUESTS_MAX, UINT_MAX, Kind, Link, RequestDigest
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.outcome import (
    NO_ANSWER,
    AnswerDigest,
    Finish,
    Outcome,
    OutcomeCommitment,
    checked_count,
    checked_digest,
    checked_finish,
    finish_word,
    read_finish,
)
from attestation.receipts.seeds import SeedCommitment, SeedPolicy
from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.refusal import difference, outline, shown
from foundation.sized import Digest32
from measurements.digests import (
    ConfigurationDigest,
    DecisionDigest,
    ModelRoot,
    PriceDigest,
    ProfileDigest,
    TemplateDigest,
    TokenizerDigest,
)

ReceiptDigest = NewType("ReceiptDigest", Digest32)
"""What stands before a receipt in its block: the digest of a body, or of the block itself."""
EngineFingerprint = NewType("EngineFingerprint", Digest32)

BODY_TAG: Final = "anchorhold/receipt/body/v1"
BLOCK_TAG: Final = "anchorhold/receipt/block/v1"
BODY_BYTES_MAX: Final = 1024
RELEASE_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")
_LIMITS: Final = cbor.Limits(bytes_max=BODY_BYTES_MAX, depth_max=2, items_max=40)


def first_previous(link: Link) -> ReceiptDigest:
    """T7: what stands as `previous` in the receipt of a block's first request: the block itself."""
    return ReceiptDigest(tagged_sha256(BLOCK_TAG, link))


def body_digest(body: bytes) -> ReceiptDigest:
    """T7: what the next receipt of the block names as its `previous`."""
    return ReceiptDigest(tagged_sha256(BODY_TAG, body))


@dataclass(frozen=True, slots=True)
class ServedBy:
    """The half of a body that does not change while a cell serves.

    `release` is what the grant named and `adoption` the decision behind it: 32 zero bytes where the key's owner
    decided alone; "" and None in a cell that was measured to serve without a broker.
    """

    release: str
    adoption: DecisionDigest | None
    config: ConfigurationDigest
    model_root: ModelRoot | None
    tokenizer: TokenizerDigest | None
    template: TemplateDigest | None
    profile: ProfileDigest
    fingerprint: EngineFingerprint

    def __post_init__(self) -> None:
        if (self.release == "") is not (self.adoption is None):
            raise ReceiptRefused(
                "release",
                expected="a name and a decision, or neither",
                got=f"name {shown(self.release)}, {'no' if self.adoption is None else 'a'} decision",
            )
        if self.release and RELEASE_NAME.fullmatch(self.release) is None:
            raise ReceiptRefused("release", expected="1 to 128 printable ASCII characters", got=shown(self.release))
        for digest in (self.config, self.profile, self.fingerprint):
            checked_digest(digest)
        for optional in (self.adoption, self.model_root, self.tokenizer, self.template):
            if optional is not None:
                checked_digest(optional)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The body as a value. Raises `ReceiptRefused` for what cannot be one."""

    VERSION: ClassVar[int] = 1
    by: ServedBy
    gateway: bytes
    height: int
    index: int
    id: int
    kind: Kind
    request: RequestDigest
    seed_policy: SeedPolicy
    seed: SeedCommitment
    answer: AnswerDigest
    outcome: OutcomeCommitment
    finish: Finish | str
    tokens_in: int
    tokens_out: int
    price: PriceDigest
    cycles: int
    previous: ReceiptDigest

    def __post_init__(self) -> None:
        if not 1 <= len(self.gateway) <= PRINCIPAL_BYTES_MAX:
            raise ReceiptRefused("gateway", expected=f"1 to {PRINCIPAL_BYTES_MAX} bytes", got=len(self.gateway))
        _within("height", self.height, 1, UINT_MAX)
        _within("index", self.index, 0, REQUESTS_MAX - 1)
        _within("id", self.id, self.index, UINT_MAX)
        _within("cycles", self.cycles, 0, UINT_MAX)
        for digest in (self.request, self.seed, self.answer, self.outcome, self.price, self.previous):
            checked_digest(digest)
        checked_finish(self.finish)
        for count in (self.tokens_in, self.tokens_out):
            checked_count(count)
        self._check_agreement()

    def _check_agreement(self) -> None:
        """T5, T6: what one member says about another."""
        if isinstance(self.finish, str):
            if (self.tokens_in, self.tokens_out, self.answer) != (0, 0, NO_ANSWER):
                raise ReceiptRefused(
                    "refusal",
                    expected="no tokens and no answer",
                    got=f"{self.tokens_in} and {self.tokens_out} tokens, answer {shown(self.answer)}",
                )
            known = Outcome.refusal(self.finish).commitment()
            if (self.seed_policy, self.outcome) != (SeedPolicy.BEACON, known):
                raise ReceiptRefused(
                    "refusal",
                    expected="the outcome and seed that its code gives",
                    got=f"seed policy {self.seed_policy.name}, outcome {shown(self.outcome)}",
                )
        elif (self.finish is Finish.SEALED) is not (self.kind is Kind.SEALED):
            raise ReceiptRefused("finish", expected="255 for a sealed request and for no other", got=int(self.finish))

    @property
    def place(self) -> tuple[int, int]:
        return self.height, self.index

    @property
    def refused(self) -> bool:
        return isinstance(self.finish, str)

    def encode(self) -> bytes:
        by = self.by
        return cbor.encode(
            [
                self.VERSION,
                [by.release, by.adoption],
                by.config,
                [by.model_root, by.tokenizer, by.template],
                [by.profile, by.fingerprint],
                [self.gateway, self.height, self.index, self.id],
                [int(self.kind), self.request],
                [int(self.seed_policy), self.seed],
                [self.answer, self.outcome, finish_word(self.finish)],
                [self.tokens_in, self.tokens_out, self.price, self.cycles],
                self.previous,
            ]
        )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ReceiptRefused`, nothing else."""
        value = cbor.decode_or(ReceiptRefused, "body", raw, _LIMITS)
        match value:
            case [
                1,
                [str(release), bytes() | None as adoption],
                bytes(config),
                [bytes() | None as model_root, bytes() | None as tokenizer, bytes() | None as template],
                [bytes(profile), bytes(fingerprint)],
                [bytes(gateway), int(height), int(index), int(number)],
                [int(kind), bytes(request)],
                [int(policy), bytes(seed)],
                [bytes(answer), bytes(outcome), int() | str() as finish],
                [int(tokens_in), int(tokens_out), bytes(price), int(cycles)],
                bytes(previous),
            ]:
                by = ServedBy(
                    release=release,
                    adoption=None if adoption is None else DecisionDigest(checked_digest(adoption)),
                    config=ConfigurationDigest(checked_digest(config)),
                    model_root=None if model_root is None else ModelRoot(checked_digest(model_root)),
                    tokenizer=None if tokenizer is None else TokenizerDigest(checked_digest(tokenizer)),
                    template=None if template is None else TemplateDigest(checked_digest(template)),
                    profile=ProfileDigest(checked_digest(profile)),
                    fingerprint=EngineFingerprint(checked_digest(fingerprint)),
                )
                receipt = cls(
                    by=by,
                    gateway=gateway,
                    height=height,
                    index=index,
                    id=number,
                    kind=_kind(kind),
                    request=RequestDigest(checked_digest(request)),
                    seed_policy=_policy(policy),
                    seed=SeedCommitment(checked_digest(seed)),
                    answer=AnswerDigest(checked_digest(answer)),
                    outcome=OutcomeCommitment(checked_digest(outcome)),
                    finish=read_finish(finish),
                    tokens_in=tokens_in,
                    tokens_out=tokens_out,
                    price=PriceDigest(checked_digest(price)),
                    cycles=cycles,
                    previous=ReceiptDigest(checked_digest(previous)),
                )
            case _:
                raise ReceiptRefused("body", expected="a receipt of version 1", got=outline(value))
        if receipt.encode() != raw:  # true and false count as numbers to Python, not to the encoding
            raise ReceiptRefused("body", expected="numbers where they belong", got=difference(raw, receipt.encode()))
        return receipt


def _kind(number: int) -> Kind:
    try:
        return Kind(number)
    except ValueError:
        raise ReceiptRefused("kind", expected="a known kind of request", got=number) from None


def _policy(number: int) -> SeedPolicy:
    try:
        return SeedPolicy(number)
    except ValueError:
        raise ReceiptRefused("seed", expected="a known seed policy", got=number) from None


def _within(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ReceiptRefused(name, expected=f"{low} to {high}", got=str(value)[:40])
