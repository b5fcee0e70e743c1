"""Replays, one after the other or many at once: what to compute again, and on how many processes.

    source = Source(bundle, pack=..., model_key=..., service_keys=...)
    chosen = choose(source, sample=100, randomness=...)
    replayed = run(source, chosen)              # here
    replayed = run_on_ray(source, chosen, 8)    # in eight processes of this machine, or of a cluster

Every process opens the pack and starts the engine for itself, from the same files; what travels between them is
numbers and findings, never a key, a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from anchorhold.client.hand_over import HANDED_BYTES_MAX, HandedOver
from anchorhold.input_files import KEY, UsageRefused, key_file, read_file
from anchorhold.replay.replayer import Openings, Record, Replayed, Replayer, records
from appliance.config import MeasuredConfig
from appliance.main import runtime_starter
from appliance.model_runtime import ModelRuntime
from attestation.auditor.audit_bundle import AuditBundle
from attestation.sealed.ring import RING_BYTES_MAX, Ring
from foundation.secrecy import Secret
from measurements.pack.errors import PackKeyRefused
from measurements.pack.pack_reader import OpenedPack, open_pack
from measurements.pack.parallel import default_threads

WITHHELD: Final = "the bundle has its digest alone"


@dataclass(frozen=True, slots=True)
class Source:
    """Where everything is. Paths and not contents, so that it can be told to another process."""

    bundle: str
    pack: str | None = None
    model_key: str | None = None
    service_keys: str | None = None
    handed: tuple[str, ...] = ()

    def records(self) -> tuple[Record | None, ...]:
        return records(AuditBundle.parse(read_file(self.bundle)))

    @contextmanager
    def replayer(self, record: Record) -> Iterator[Replayer]:
        """Raises a `Refused`: the pack is not the measured model, or the engine not the measured engine."""
        config = MeasuredConfig.parse(AuditBundle.parse(read_file(self.bundle)).config)
        if self.pack is None:
            if config.profile is not None:
                model = "" if config.release is None else f" of root {config.release.model_root.hex()}"
                raise UsageRefused("usage.model", expected=f"--model PACK: the pack of the model{model}", got="none")
            yield self._checked(Replayer(runtime_of(config, None), config, record.receipt, self._openings()), record)
            return
        if self.model_key is None:
            raise UsageRefused("usage.model-key", expected="--model-key with --model", got="none")
        key = _key(self.model_key)
        with open_pack(Path(self.pack), key, threads=default_threads(), expected=config.model) as pack:
            yield self._checked(Replayer(runtime_of(config, pack), config, record.receipt, self._openings()), record)

    def _checked(self, replayer: Replayer, record: Record) -> Replayer:
        replayer.check_engine(record.receipt)
        return replayer

    def _openings(self) -> Openings:
        ring = None
        if self.service_keys is not None:
            ring = Ring.parse(Secret(read_file(self.service_keys)[: RING_BYTES_MAX + 1]))
        handed = (Secret(read_file(name)[: HANDED_BYTES_MAX + 1]) for name in self.handed)
        return Openings(ring, [HandedOver.parse(each) for each in handed])


def runtime_of(config: MeasuredConfig, pack: OpenedPack | None) -> ModelRuntime:
    """The engine that the configuration names, over the model it names: what a cell of it would answer with."""
    return runtime_starter(config)(pack)


def choose(
    source: Source, *, sample: int | None, only: Sequence[tuple[int, int]], draw: Callable[[int], int]
) -> list[int]:
    """Numbers of records: those named, or so many drawn at random, or all. `draw(n)` is below n, and unforeseeable."""
    there = source.records()
    if only:
        places = {record.receipt.place: number for number, record in enumerate(there) if record is not None}
        absent = [place for place in only if place not in places]
        if absent:
            raise UsageRefused("usage.only", expected="requests that the bundle shows", got=absent[0])
        return sorted({places[place] for place in only})
    numbers = list(range(len(there)))
    if sample is None or sample >= len(numbers):
        return numbers
    for at in range(sample):  # the first steps of a shuffle
        other = at + draw(len(numbers) - at)
        numbers[at], numbers[other] = numbers[other], numbers[at]
    return sorted(numbers[:sample])


def run(source: Source, chosen: Sequence[int]) -> list[Replayed]:
    """In this process, in order."""
    there = source.records()
    first = next((record for number in chosen if (record := there[number]) is not None), None)
    if first is None:
        return [Replayed((0, number), unread=WITHHELD) for number in chosen]
    with source.replayer(first) as replayer:
        return [_one(replayer, there[number], number) for number in chosen]


def _one(replayer: Replayer, record: Record | None, number: int) -> Replayed:
    return Replayed((0, number), unread=WITHHELD) if record is None else replayer.replay(record)


def run_on_ray(source: Source, chosen: Sequence[int], processes: int, *, address: str | None = None) -> list[Replayed]:
    """In so many processes of a Ray cluster, or of this machine. Raises `UsageRefused` where Ray is not installed."""
    try:
        import ray  # noqa: PLC0415  # the bulk extra
    except ImportError:
        raise UsageRefused("usage.bulk", expected="the bulk extra (ray)", got="none installed") from None
    shares = [list(chosen[number::processes]) for number in range(min(processes, len(chosen)))]
    options: dict[str, Any] = (
        {"address": address}
        if address
        else {"num_cpus": processes, "include_dashboard": False, "configure_logging": False}
    )
    ray.init(log_to_driver=False, **options)
    try:
        # A refusal has keyword arguments alone, which no pickle carries: it travels as what it says.
        task = ray.remote(max_retries=0)(_share)
        parts = ray.get([task.remote(source, share) for share in shares])
    finally:
        ray.shutdown()
    by_number: dict[int, Replayed] = {}
    for share, part in zip(shares, parts, strict=True):
        by_number |= dict(zip(share, part, strict=True))
    return [by_number[number] for number in chosen]


def _share(source: Source, share: list[int]) -> list[Replayed]:
    return run(source, share)


def _key(name: str) -> Secret:
    try:
        return key_file(Path(name))
    except PackKeyRefused as refusal:  # of the command line, not of the engine
        raise UsageRefused(
            "usage.model-key", expected=refusal.expected, got=refusal.got, hint=refusal.hint or KEY.remedy
        ) from None
