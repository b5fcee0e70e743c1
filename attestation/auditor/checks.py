"""The checks of an audit, in the order in which they are made (docs/spec/audit.md U4).

Each row names a check, the rule that it enforces, what it says when it holds, how it is judged and what it rests on.
The table of docs/spec/audit.md says the same, and a test holds the two together.
"""

from __future__ import annotations

from typing import Final

from attestation.auditor import answer_checks, evidence_checks, log_checks, order_checks, receipt_checks, release_checks
from attestation.auditor.audit_bundle import Part
from attestation.auditor.findings import Stage
from attestation.auditor.rows import BUNDLE, CELL, FILE, TERMS, Check, Scope, StageWords

STAGES: Final = {
    Stage.FORM: StageWords("", "the bundle"),
    Stage.CONFIG: StageWords("what the cell was measured to believe", "the measured configuration"),
    Stage.EVIDENCE: StageWords("that silicon vouches for the cell and its keys", "the cell's evidence"),
    Stage.POLICY: StageWords("that this is a machine and an image you accept", "your policy"),
    Stage.RELEASE: StageWords("that the broker released the model to this cell", "the release"),
    Stage.ORDER: StageWords("that a subnet ordered these requests", "the order"),
    Stage.RECEIPTS: StageWords("that every request has its receipt", "the receipts"),
    Stage.LOG: StageWords("that the receipts stand in the cell's one log", "the log"),
    Stage.ANSWERS: StageWords("that these are the answers", "the answers"),
    Stage.METERING: StageWords("that the cost is right", "the cost"),
}


def _whole(part: Part, code: str, after: str, scope: Scope) -> Check:
    """U3, of one part."""
    return Check(
        code,
        "audit.md U3",
        f"the part “{part.value}” is the one the bundle was made with",
        lambda bundle, cell=None: order_checks.whole(bundle, part, cell),
        needs=(BUNDLE, CELL) if scope is Scope.CELL else (BUNDLE,),
        after=(after,),
        scope=scope,
    )


_OF_BUNDLE: Final = (
    Check(
        BUNDLE,
        "audit.md U1, U2",
        "this is a bundle, and nothing beside one",
        order_checks.bundle_form,
        needs=(FILE,),
        scope=Scope.BUNDLE,
    ),
    _whole(Part.CONFIG, "configuration.whole", BUNDLE, Scope.BUNDLE),
    Check(
        "configuration.read",
        "audit.md U5",
        "the measured configuration can be read",
        order_checks.configuration,
        needs=("configuration.whole",),
        scope=Scope.BUNDLE,
    ),
    Check(
        "configuration.subnet",
        "audit.md U6",
        "the cell was measured to believe the network that you believe",
        order_checks.subnet,
        needs=(TERMS, "configuration.read"),
        scope=Scope.BUNDLE,
    ),
    Check(
        "configuration.gateway",
        "audit.md U6",
        "the gateway is the one you asked about",
        order_checks.gateway,
        needs=(TERMS, "configuration.read"),
        scope=Scope.BUNDLE,
    ),
    _whole(Part.ORDER, "order.whole", "configuration.read", Scope.BUNDLE),
    _whole(Part.ASKED, "order.asked-whole", "configuration.read", Scope.BUNDLE),
    Check(
        "order.certificate",
        "order.md O14 to O18",
        "the subnet certified these blocks, in this order, with none between them",
        order_checks.certificate,
        needs=(TERMS, "configuration.read", "order.whole"),
        after=("order.asked-whole",),
        scope=Scope.BUNDLE,
        called="the certificate",
    ),
    Check(
        "order.requests",
        "audit.md U8",
        "the requests shown are the ones in those blocks, each of them",
        order_checks.requests,
        needs=("order.certificate", "order.asked-whole"),
        scope=Scope.BUNDLE,
    ),
)

_OF_CELL: Final = (
    _whole(Part.EVIDENCE, "evidence.whole", "order.requests", Scope.CELL),
    Check(
        "evidence.genuine",
        "evidence-production.md E124",
        "the silicon signed this cell's evidence, under a root that you believe",
        evidence_checks.genuine,
        needs=(TERMS, "order.requests", "evidence.whole"),
    ),
    Check(
        "evidence.identity",
        "evidence-production.md E118",
        "it was made to say who the cell is, to anyone",
        evidence_checks.identity,
        needs=("evidence.genuine",),
    ),
    Check(
        "evidence.configuration",
        "evidence-production.md E118",
        "it binds the measured configuration of this bundle",
        evidence_checks.binds_configuration,
        needs=("evidence.genuine", "configuration.read"),
    ),
    Check(
        "evidence.receipt-key",
        "receipt.md T11",
        "it binds the key that signs receipts, and that is a sound one",
        evidence_checks.receipt_key,
        needs=("evidence.genuine",),
    ),
    Check(
        "evidence.once",
        "audit.md U13",
        "each cell is there once",
        evidence_checks.once,
        needs=(CELL,),
        after=("evidence.receipt-key",),
        across=("evidence.receipt-key",),
    ),
    Check(
        "policy.fresh",
        "audit.md U12",
        "the evidence is younger than a block of this order",
        evidence_checks.fresh,
        needs=(TERMS, "order.requests", "evidence.receipt-key"),
    ),
    Check(
        "policy.claims",
        "evidence.md E134",
        "every claim of your policy about the machine and its image is met",
        evidence_checks.claims,
        needs=(TERMS, "evidence.receipt-key", "policy.fresh"),
    ),
    _whole(Part.RELEASE, "release.whole", "evidence.receipt-key", Scope.CELL),
    Check(
        "release.logged",
        "key-release.md R19",
        "the broker signed these entries of its log",
        release_checks.logged,
        needs=("release.whole", "configuration.read"),
    ),
    Check(
        "release.granted",
        "audit.md U15",
        "the broker released the model to this very cell: this image, these keys",
        release_checks.granted,
        needs=("configuration.read", "evidence.receipt-key", "release.logged"),
    ),
    Check(
        "release.approved",
        "audit.md U16",
        "the release it was granted under is this image, configuration and model",
        release_checks.approved,
        needs=("configuration.read", "evidence.receipt-key", "release.logged"),
        uses=("release.granted",),
    ),
    Check(
        "release.granted-heights",
        "audit.md U19",
        "these blocks are among those that the cell was granted its keys for",
        release_checks.granted_heights,
        needs=("release.granted", "order.requests"),
    ),
    Check(
        "release.decision",
        "audit.md U17",
        "those who may decide it adopted this release",
        release_checks.decision,
        needs=(TERMS, "configuration.read", "evidence.receipt-key", "release.granted"),
    ),
    Check(
        "release.heights",
        "audit.md U19",
        "these blocks are this release's, by what was decided",
        release_checks.decided_heights,
        needs=("release.granted", "release.decision", "order.requests"),
    ),
    _whole(Part.RECEIPTS, "receipts.whole", "evidence.receipt-key", Scope.CELL),
    Check(
        "receipts.signed",
        "receipt.md T9 to T11",
        "every receipt is signed by the key in the evidence",
        receipt_checks.signed,
        needs=("receipts.whole", "evidence.receipt-key"),
    ),
    Check(
        "receipts.complete",
        "audit.md U20",
        "every ordered request has its receipt: none is missing, none is there twice",
        receipt_checks.complete,
        needs=("receipts.signed", "order.requests", "configuration.read"),
    ),
    Check(
        "receipts.executed",
        "receipt.md T4",
        "what was executed is what was ordered",
        receipt_checks.executed,
        needs=("receipts.complete", "order.requests"),
    ),
    Check(
        "receipts.chain",
        "receipt.md T7",
        "each receipt names the one before it, from its block on",
        receipt_checks.chained,
        needs=("receipts.complete", "order.requests"),
    ),
    Check(
        "receipts.seed",
        "receipt.md T15",
        "randomness came from the block's beacon, or was fixed by the client",
        receipt_checks.seeds,
        needs=("receipts.complete", "order.requests"),
    ),
    Check(
        "receipts.model",
        "audit.md U23",
        "a request for another model was refused for that, and no other was",
        receipt_checks.models,
        needs=("configuration.read", "order.asked-whole", "receipts.complete"),
    ),
    Check(
        "receipts.release",
        "receipt.md T2, T3",
        "each names the release, configuration and model that was released and measured",
        receipt_checks.served_by,
        needs=("configuration.read", "release.granted", "receipts.complete"),
    ),
    _whole(Part.LOG, "log.whole", "receipts.complete", Scope.CELL),
    Check(
        "log.checkpoint",
        "receipt.md T19, T20",
        "the cell vouches for its whole log",
        log_checks.checkpoint,
        needs=("log.whole", "evidence.receipt-key"),
    ),
    Check(
        "log.inclusion",
        "receipt.md T23",
        "these receipts stand in that log, one behind the other",
        log_checks.inclusion,
        needs=("log.checkpoint", "receipts.complete"),
    ),
    Check(
        "log.consistency",
        "receipt.md T22, T23",
        "every earlier checkpoint is the beginning of that log",
        log_checks.consistency,
        needs=("log.checkpoint", "evidence.receipt-key"),
    ),
    Check(
        "log.blocks",
        "receipt.md T22",
        "the cell vouched after whole blocks, and for the last one shown here",
        log_checks.blocks,
        needs=("log.checkpoint", "order.requests"),
        uses=("log.consistency",),
    ),
    Check(
        "log.seen",
        "audit.md U27",
        "a checkpoint seen elsewhere is of this same log",
        log_checks.seen,
        needs=(TERMS, "evidence.receipt-key", "receipts.complete", "log.checkpoint"),
        uses=("log.consistency",),
    ),
    Check(
        "metering.price",
        "receipt.md T16",
        "the price is the measured one",
        answer_checks.price,
        needs=("configuration.read", "receipts.complete"),
    ),
    Check(
        "metering.sum",
        "receipt.md T17",
        "every charge is what that price makes of the tokens",
        answer_checks.charges,
        needs=("configuration.read", "receipts.complete"),
    ),
)

_OF_CELLS: Final = (
    Check(
        "policy.nonce",
        "audit.md U12",
        "a cell's evidence answers every nonce that you named",
        evidence_checks.nonces,
        needs=(TERMS,),
        after=("order.requests",),
        across=("evidence.genuine",),
        scope=Scope.CELLS,
    ),
    Check(
        "log.named",
        "audit.md U27",
        "every checkpoint that you brought is of a log shown here",
        log_checks.named,
        needs=(TERMS,),
        after=("order.requests",),
        across=("evidence.receipt-key",),
        scope=Scope.CELLS,
    ),
    Check(
        "receipts.same",
        "audit.md U21",
        "every cell says the same about every request",
        receipt_checks.same,
        after=("order.requests",),
        across=("receipts.complete",),
        scope=Scope.CELLS,
    ),
    _whole(Part.ANSWERS, "answers.whole", "receipts.complete", Scope.CELLS),
    Check(
        "answers.said",
        "receipt.md T12",
        "the answers shown are the bytes that the receipts name",
        answer_checks.said,
        needs=("answers.whole", "receipts.complete"),
        scope=Scope.CELLS,
        called="the answers",
    ),
    Check(
        "answers.outcome",
        "receipt.md T13",
        "what was committed to about how an answer ended is what is shown of it",
        answer_checks.outcomes,
        needs=("answers.said", "receipts.complete"),
        scope=Scope.CELLS,
    ),
)

CHECKS: Final[tuple[Check, ...]] = (*_OF_BUNDLE, *_OF_CELL, *_OF_CELLS)
