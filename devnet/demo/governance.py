"""A release from proposal to key and back: `make demo-governance`, on the devnet's own roots.

    python -m devnet.demo.governance [--folder DIR]

A canister takes a proposal, neurons vote, it executes, the subnet certifies that, the broker believes it, a cell of
that image gets its keys, its receipts cite the decision, an auditor follows it back; then the release is withdrawn, and
the next start is denied. Exit status: 0 all held, 2 something did not.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from anchorhold.host.answer_reports import AnswerCollector
from anchorhold.host.slice_feed import evidence
from anchorhold.owner.release_documents import write_proposal
from appliance.config import config_digest
from appliance.key_release import State
from attestation.adoption import executed_reply
from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import audit_nonce
from attestation.auditor.bundle_builder import CellSource, assemble
from attestation.auditor.decision_history import HistoryReader
from attestation.auditor.findings import FindingStanding
from attestation.auditor.measured import Measured
from attestation.auditor.terms import AuditTerms
from attestation.broker.authority import adopt, govern, history_of
from attestation.consensus.principal import to_text
from attestation.consensus.slices import SliceProof
from attestation.decision_log.codec import Entry
from attestation.decision_log.events import Granted, ReleaseAdded
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.policy import document
from attestation.receipts.price import PriceSchedule
from devnet.broker import measurement_of
from devnet.demo.key_owner import MEASUREMENT, KeyOwner
from devnet.demo.run import PRICE, PROMPTS, Demo, DemoFailed, open_host, packed
from devnet.demo.screen import Screen
from devnet.governance import CANISTER, FUNCTION, Governance, subaccount
from devnet.sim_tdx import SimulatedTdx
from devnet.subnet import GATEWAY
from devnet.tee import SimulatedTdxTee, endorsed, policy_document, reference_values, simulated_tdx
from foundation import private_files
from foundation.refusal import Refused
from foundation.secrecy import Prompt
from measurements.governance.actions import Action, Adopt, Withdraw
from measurements.governance.authority import authority_digest, encode_authority
from measurements.governance.decision import Decision
from measurements.governance.history import Decided, Ledger
from measurements.governance.proposal import Proposal
from measurements.launch.measurement import LaunchMeasurement, TdxRegisters
from measurements.pack.identity import Identity
from measurements.release.changes import changes
from measurements.release.heights import LEASE, Heights
from measurements.release.manifest import (
    EngineProfile,
    Image,
    Launch,
    Manifest,
    MinimumTcb,
    Model,
    Named,
    Price,
    Rebuild,
    Serves,
    TdxLaunch,
)
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

VERSION: Final = "0.1.0"


class GovernedDemo(Demo):
    """The same players as in `anchorhold demo`, and those who decide."""

    def __init__(self, folder: Path, screen: Screen) -> None:
        super().__init__(folder, [Prompt(words.encode()) for words in PROMPTS], screen)
        self._governance = Governance.on_subnet(self._subnet, clock=time.time_ns)
        self._ledger = Ledger.begin(self._governance.chain)

    async def _serve(self, owner: KeyOwner) -> None:
        screen = self._screen
        screen.step("The owner of a model seals it into a pack and gives the key to a broker")
        screen.say(f"     {packed(owner)}")
        screen.step("The broker is put under the authority of a governance canister")
        authority = encode_authority(self._governance.chain)
        (self._folder / "authority.json").write_bytes(authority)
        govern(owner.broker.store, authority, time.time_ns())
        screen.say(f"     canister   {to_text(CANISTER)}, function {FUNCTION}; 3 neurons, 2 of them decide")
        screen.step("A cell starts before anybody decided anything")
        async with self._cell(owner) as cell, open_host(cell.address, screen) as host:
            await self._denied(owner, cell.address, "snp.measurement tdx.mr-td release.unapproved")
            screen.step("A release is proposed; voters read what it is")
            manifest = self._manifest(owner)
            proposal = self._propose(owner, Adopt(manifest), "1-adopt")
            for change in changes(None, manifest):
                screen.say(f"     {change.topic}: {change.words}; asks you to trust: {change.asks}")
            screen.step("One vote is not a decision, two are")
            self._decide(owner, proposal)
            screen.step("The cell gets its keys, and answers")
            standing, denials = await owner.carry(cell.address)
            if standing.state is not State.HAS_KEY:
                raise DemoFailed(f"the adopted cell stands at {standing.state.value}: {denials}")
            await cell.model_open()
            log = await self._meet(cell.address)
            self._ask(self._prompts, owner.service(GATEWAY), owner.identity.name)
            self._seal()
            await self._carry(host, 1, log, cut=False)
            screen.say(f"     answered   {self._answered()}")
            log.close()
            screen.step("Every receipt cites the decision; an auditor follows it back")
            await self._follow_back(owner, cell.address, manifest)
        screen.step("The release is withdrawn")
        self._decide(owner, self._propose(owner, Withdraw(VERSION, manifest.digest, "a demonstration"), "2-withdraw"))
        screen.step("The next start is denied")
        async with self._cell(owner) as cell:
            await self._denied(owner, cell.address, "release.withdrawn")
        screen.say(f"     broker     {owner.entries()} entries in its log, every decision in it proven again")
        screen.say("\ndemo-governance: ok (proposed, voted, executed, released, followed back, withdrawn, denied)")

    # -- deciding

    def _manifest(self, owner: KeyOwner) -> Manifest:
        config = (self._folder / "cell.toml").read_bytes()
        manifest = devnet_manifest(
            VERSION, None, config, owner.broker.measurement, identity=owner.identity, price=PRICE
        )
        path = self._folder / f"{VERSION}.json"
        path.write_bytes(manifest.encode())
        self._screen.say(f"     manifest   {path}, digest {manifest.digest.hex()[:32]}...")
        return manifest

    def _propose(self, owner: KeyOwner, action: Action, name: str) -> Proposal:
        proposal = Proposal.of(self._ledger, action)
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        before = history_of(owner.broker.store).encode() if self._ledger.digests else None
        write_proposal(proposal, folder, subaccount(0), before)
        self._screen.say(f"     {proposal.title}; for voters: {folder / 'proposal.html'}")
        return proposal

    def _decide(self, owner: KeyOwner, proposal: Proposal) -> None:
        governance, store = self._governance, owner.broker.store
        number = governance.propose(proposal)
        for voter, enough in ((0, False), (1, True)):
            governance.vote(voter, number, yes=True)
            decision = Decision(proposal.payload.encode(), governance.certified(number))
            try:
                decided = adopt(store, decision.encode(), time.time_ns())
            except Refused as refusal:
                if enough:
                    raise DemoFailed(f"the broker refused what was decided: {refusal}") from refusal
                self._screen.say(f"     neuron {voter} votes yes; the broker of the certified reply: {refusal.code}")
            else:
                if not enough:
                    raise DemoFailed("one vote of three was taken for a decision")
                self._tell(decided, voter)
        self._ledger, _ = history_of(store).verify(
            authority_digest(governance.chain), executed_reply, [proposal.digest]
        )

    def _tell(self, decided: Decided, voter: int) -> None:
        self._screen.say(f"     neuron {voter} votes yes: executed, certified, believed: decision {decided.position}")
        self._screen.say(f"     digest     {decided.digest.hex()}")

    # -- checking

    async def _denied(self, owner: KeyOwner, address: Address, codes: str) -> None:
        standing, denials = await owner.carry(address)
        if standing.state is not State.NEEDS_KEY or not denials or denials[-1] not in codes.split():
            raise DemoFailed(f"a cell that must be denied stands at {standing.state.value}: {denials}")
        self._screen.say(f"     denied, {denials[-1]}")

    def _expect(self, held: bool, what: str) -> None:
        if not held:
            raise DemoFailed(f"expected otherwise: {what}")
        self._screen.say(f"     {what}")

    async def _follow_back(self, owner: KeyOwner, address: Address, manifest: Manifest) -> None:
        adoption = self._ledger.releases[manifest.version].adoption
        cited = {told.signed.receipt.by.adoption for told in self._collector.answers.values()}
        self._expect(cited == {adoption}, f"{len(self._collector.answers)} receipts cite {adoption.hex()[:32]}...")
        found = self._gateway.proof_and_bodies(1)
        if found is None:
            raise DemoFailed("the gateway has no slice")
        tee = simulated_tdx(SimulatedTdx.create(owner.seed, owner.validity), MEASUREMENT)
        config = (self._folder / "cell.toml").read_bytes()
        bundle = await self._bundle(owner, address, tee, config, found=found, collector=self._collector)
        path = self._folder / "audit.bundle"
        private_files.replace(path, bundle)
        report = audit(bundle, self._terms(tee))
        for finding in report.findings:
            if finding.code == "release.decision":
                self._screen.say(f"     {finding.what}: {finding.got}")
        failed = [finding for finding in report.findings if finding.standing is FindingStanding.FAILS]
        self._expect(report.ok, f"audit of {path}: {len(report.findings)} checks, {len(failed)} failed")

    async def _bundle(
        self,
        owner: KeyOwner,
        address: Address,
        tee: SimulatedTdxTee,
        config: bytes,
        *,
        found: tuple[bytes, Sequence[bytes]],
        collector: AnswerCollector,
    ) -> bytes:
        """All that one cell did of one slice, with the decisions behind it."""
        proof, bodies = found
        async with Host(address, Port.OBSERVE) as host:
            raw = await evidence(host, audit_nonce(SliceProof.parse(proof).headers[0].link()))
        with owner.broker.store.change() as change:
            entries = [each for each in change.entries() if _about(Entry.parse(each[0]), measurement_of(tee))]
        source = CellSource(
            endorsed(EvidenceBundle.parse(raw), tee).encode(),
            [told.raw for _, told in sorted(collector.answers.items())],
            collector.notes,
            entries,
            history_of(owner.broker.store).encode(),
        )
        return assemble(config=config, proof=proof, bodies=bodies, cells=[source]).encode()

    def _terms(self, tee: SimulatedTdxTee) -> AuditTerms:
        return AuditTerms(
            document.parse(policy_document(tee)),
            reference_values(tee),
            root_key=self._subnet.root_key,
            gateway=GATEWAY,
            simulated_root=tee.root.der,
            decisions=HistoryReader(authority_digest(self._governance.chain)),
        )


def _about(entry: Entry, measurement: LaunchMeasurement) -> bool:
    """A decision may have approved a release on a hundred kinds of machine: an auditor needs the entry for this one."""
    match entry.event:
        case ReleaseAdded() as added:
            return added.measurement == measurement
        case Granted() as granted:
            return granted.cell.measurement == measurement
        case _:
            return False


def devnet_manifest(
    version: str,
    supersedes: Manifest | None,
    config: bytes,
    measured: LaunchMeasurement,
    *,
    identity: Identity,
    price: PriceSchedule,
    serves: Serves = Serves(Heights(1, None), LEASE),  # noqa: B008  # frozen
) -> Manifest:
    """Of the devnet's simulated machine: its parts are made up, since no image is booted here."""
    if not isinstance(measured, TdxRegisters):
        raise DemoFailed("the devnet's machine is no TDX machine")
    cell = Measured.parse(config)
    return Manifest(
        version=version,
        supersedes=None if supersedes is None else Named(supersedes.version, supersedes.digest),
        serves=serves,
        image=Image({"cell.toml": config_digest(config)}),
        launch=Launch("", (), (TdxLaunch("simulated", 1, measured.mr_td, measured.rtmrs),)),
        measured_config=config_digest(config),
        model=Model(identity.name, identity.model_root, identity.tokenizer, identity.template),
        engine=EngineProfile(cell.engine, cell.profile),
        price=Price(price.digest, price.request, price.token_in, price.token_out),
        minimum_tcb=MinimumTcb({}, ("UpToDate",)),
        rebuild=Rebuild("https://example.invalid/anchorhold.git", "0" * 40, ("make demo-governance",)),
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo_governance", description="A release from proposal to key and back.")
    parser.add_argument("--folder", type=Path, default=Path("build/demo-governance"))
    folder = parser.parse_args(argv).folder
    try:
        asyncio.run(GovernedDemo(folder, Screen(sys.stdout, words=True)).run())
    except (DemoFailed, Refused) as reason:
        print(f"demo-governance: failed: {reason}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
