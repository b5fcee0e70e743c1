"""A release in words: what it is, what changed, and what each change asks a voter to trust.

    facts(manifest)                     what is shown of one release
    changes(before, after)              what differs; `before` is None for a first release

The same words go to the terminal, to the proposal's summary and to the voter's page. They say what a manifest says;
that it is true is what building again (`manifest.rebuild`) and reading the source are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from measurements.release.manifest import EngineProfile, Manifest, MinimumTcb, Price


@dataclass(frozen=True, slots=True)
class Fact:
    topic: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `asks` is what accepting it means trusting, empty where it asks for nothing new."""

    topic: str
    words: str
    asks: str = ""


def facts(manifest: Manifest) -> tuple[Fact, ...]:
    launch, build = manifest.launch, manifest.rebuild
    supersedes = manifest.supersedes
    return (
        Fact("version", manifest.version, "the name receipts carry"),
        Fact("manifest digest", manifest.digest.hex(), "names this document, and through it everything below"),
        Fact(
            "supersedes",
            f"{supersedes.version} ({supersedes.manifest.hex()})" if supersedes else "nothing",
            "the release whose blocks end where those of this one begin",
        ),
        Fact("serves", str(manifest.serves.heights), "it answers no other block, and no other release answers these"),
        Fact("lease", f"{manifest.serves.lease} blocks", "how far ahead of the chain one key grant reaches"),
        Fact("source", f"{build.repository} at {build.commit}", "what to read, and what to build again"),
        Fact("rebuild", "; ".join(build.commands), "gives the same bytes on any machine, or the claim is false"),
        Fact("image", manifest.image.digest.hex(), "one digest over its parts"),
        *(Fact(f"part {name}", digest.hex(), "SHA-256 of the file") for name, digest in manifest.image.parts.items()),
        Fact("command line", launch.command_line or "(empty)", "how the kernel is started; measured with it"),
        *(
            Fact(
                f"SNP launch, {each.cpu} x {each.vcpus}, features {each.guest_features:#x}",
                each.measurement.hex(),
                "what an AMD chip reports for this image",
            )
            for each in launch.snp
        ),
        *(
            Fact(
                f"TDX launch, {each.machine} x {each.vcpus or 'any'}",
                f"MRTD {each.mr_td.hex()}; {_registers(each.rtmr)}",
                "what an Intel module reports for this image",
            )
            for each in launch.tdx
        ),
        Fact(
            "measured configuration",
            manifest.measured_config.hex(),
            "the cell's own settings: which subnet, gateway, broker, model, engine and price",
        ),
        Fact("model", f"{manifest.model.name}, root {manifest.model.root.hex()}", "the weights that answer"),
        Fact(
            "tokenizer and template",
            f"{_digest(manifest.model.tokenizer)}, {_digest(manifest.model.template)}",
            "how words become the numbers a model sees",
        ),
        Fact("engine", _engine(manifest.engine), "what computes the answers, and every setting that can change a bit"),
        Fact("price", _price(manifest.price), "what receipts bill"),
        Fact("price schedule digest", manifest.price.digest.hex(), "what receipts name it by"),
        *(
            Fact(f"minimum TCB, {name}", _levels(levels), "older firmware gets no key")
            for name, levels in manifest.minimum_tcb.snp.items()
        ),
        *(
            (Fact("TCB statuses, TDX", ", ".join(manifest.minimum_tcb.tdx), "any other gets no key"),)
            if manifest.minimum_tcb.tdx
            else ()
        ),
    )


def changes(before: Manifest | None, after: Manifest) -> tuple[Change, ...]:
    if before is None:
        return (Change("first release", "nothing was adopted before it", "everything it says: read every line"),)
    return (
        *_serves(before, after),
        *_source(before, after),
        *_image(before, after),
        *_launch(before, after),
        *_inside(before, after),
        *_tcb(before.minimum_tcb, after.minimum_tcb),
    )


def _serves(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = before.serves, after.serves
    ended = (
        f"{before.version} ends with block {new.heights.first - 1}"
        if new.heights.first <= old.heights.end
        else (f"{before.version} has ended with block {old.heights.last}")
    )
    if old.lease != new.lease:
        yield Change(
            "lease",
            f"{old.lease} blocks become {new.lease}",
            "that a withdrawn cell may go on for so long" if new.lease > old.lease else "",
        )
    if old.heights == new.heights:
        return
    yield Change(
        "blocks",
        f"{after.version} answers {str(new.heights).removeprefix('blocks ')}; {ended}",
        "that the first block is far enough ahead: what the old release has keys for by then stays its own",
    )
    if new.heights.first > old.heights.end + 1:
        yield Change(
            "blocks",
            f"nobody answers blocks {old.heights.end + 1} to {new.heights.first - 1}",
            "that those blocks may stay without answers",
        )


def _source(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = before.rebuild, after.rebuild
    if old.repository != new.repository:
        yield Change(
            "source",
            f"the repository moves from {old.repository} to {new.repository}",
            "that whoever writes in the new place is who you think",
        )
    if old.commit != new.commit:
        yield Change(
            "source",
            f"commit {old.commit} becomes {new.commit}",
            "that what changed in the source between the two does no harm",
        )
    if old.commands != new.commands:
        yield Change(
            "rebuild",
            f"it is built with: {'; '.join(new.commands)}",
            "that these commands leave nothing out of what they compare",
        )


def _image(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = before.image.parts, after.image.parts
    for name in sorted(new.keys() - old.keys()):
        yield Change("image", f"a new part: {name}", f"what is in {name}")
    for name in sorted(old.keys() - new.keys()):
        yield Change("image", f"a part is gone: {name}", "that nothing needed it")
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    same = sorted(name for name in old.keys() & new.keys() if old[name] == new[name])
    if changed:
        kept = f"; the same bytes as before: {', '.join(same)}" if same else ""
        yield Change(
            "image",
            f"other bytes: {', '.join(changed)}{kept}",
            "nothing beyond the source, if you or somebody you believe built it again",
        )
    if before.launch.command_line != after.launch.command_line:
        yield Change(
            "command line",
            f"{before.launch.command_line or '(empty)'} becomes {after.launch.command_line or '(empty)'}",
            "that the new words switch no protection off",
        )


def _launch(before: Manifest, after: Manifest) -> Iterator[Change]:
    for name, old, new in (
        ("SNP", {each.place for each in before.launch.snp}, {each.place for each in after.launch.snp}),
        ("TDX", {each.place for each in before.launch.tdx}, {each.place for each in after.launch.tdx}),
    ):
        for place in sorted(new - old, key=str):
            yield Change(
                f"{name} launch", f"may now also run as {_place(place)}", "that kind of machine" if not old else ""
            )
        for place in sorted(old - new, key=str):
            yield Change(f"{name} launch", f"no longer runs as {_place(place)}")
        if old and not new:
            yield Change(f"{name} launch", f"{name} is given up altogether")
    if set(before.launch_measurements()) != set(after.launch_measurements()):
        yield Change("measurements", "chips will report other measurements, as they must for another image")


def _inside(before: Manifest, after: Manifest) -> Iterator[Change]:
    if before.measured_config != after.measured_config:
        yield Change(
            "measured configuration",
            f"{before.measured_config.hex()[:16]}… becomes {after.measured_config.hex()[:16]}…",
            "its file: it names the subnet, the gateway, the broker and the model the cell obeys",
        )
    if before.model.root != after.model.root:
        yield Change(
            "model",
            f"{before.model.name} ({before.model.root.hex()[:16]}…) becomes {after.model.name} "
            f"({after.model.root.hex()[:16]}…)",
            "another model: its answers, its licence, its makers",
        )
    elif before.model.name != after.model.name:
        yield Change("model", f"the same weights are called {after.model.name} instead of {before.model.name}")
    for name, old, new in (
        ("tokenizer", before.model.tokenizer, after.model.tokenizer),
        ("chat template", before.model.template, after.model.template),
    ):
        if old != new:
            yield Change(name, f"{_digest(old)} becomes {_digest(new)}", "that prompts reach the model as they should")
    if before.engine != after.engine:
        yield Change(
            "engine",
            f"{_engine(before.engine)} becomes {_engine(after.engine)}",
            "that the new engine computes the same model; audits need the new profile",
        )
    if before.price != after.price:
        words = f"{_price(before.price)} becomes {_price(after.price)}"
        yield Change("price", words, _dearer(before.price, after.price))


def _tcb(before: MinimumTcb, after: MinimumTcb) -> Iterator[Change]:
    for model in sorted(after.snp.keys() - before.snp.keys()):
        yield Change(
            "minimum TCB",
            f"{model} machines are let in from {_levels(after.snp[model])} on",
            f"{model} machines at that level",
        )
    for model in sorted(before.snp.keys() - after.snp.keys()):
        yield Change("minimum TCB", f"{model} machines are no longer let in")
    for model in sorted(before.snp.keys() & after.snp.keys()):
        old, new = before.snp[model], after.snp[model]
        lower = [name for name in new if new[name] < old.get(name, 0)]
        if old != new:
            yield Change(
                "minimum TCB",
                f"{model}: {_levels(old)} becomes {_levels(new)}",
                f"firmware that was too old before ({', '.join(lower)})" if lower else "",
            )
    if more := sorted(set(after.tdx) - set(before.tdx)):
        yield Change("TCB statuses", f"TDX machines that are {', '.join(more)} are let in", "machines in that state")
    if fewer := sorted(set(before.tdx) - set(after.tdx)):
        yield Change("TCB statuses", f"TDX machines that are {', '.join(fewer)} are no longer let in")


def _dearer(before: Price, after: Price) -> str:
    dearer = after.request > before.request or after.token_in > before.token_in or after.token_out > before.token_out
    return "a higher price" if dearer else ""


def _price(price: Price) -> str:
    return f"{price.request} cycles a request, {price.token_in} a token in, {price.token_out} a token out"


def _engine(engine: EngineProfile) -> str:
    return f"{engine.id}, profile {_digest(engine.profile)}"


def _levels(levels: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {level}" for name, level in levels.items())


def _place(place: tuple[object, ...]) -> str:
    return " x ".join(str(part) for part in place[:2])


def _digest(digest: bytes | None) -> str:
    return "none" if digest is None else digest.hex()


def _registers(registers: tuple[bytes | None, ...]) -> str:
    return ", ".join(f"RTMR{n} {'by event log' if each is None else each.hex()}" for n, each in enumerate(registers))
