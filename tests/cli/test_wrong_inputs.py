"""Every verb, given what it cannot use: one line that names the file, says what it has to be and what to do.

A row is a command with one place for a file; each is tried with a file that is not there, a folder, an empty file, a
file of another kind and the first half of a good one. No line has a traceback, a number of an error or a class's name.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from anchorhold.command import build_parser, main
from attestation.consensus.principal import to_text
from devnet import little_model
from devnet.chain import Chain
from devnet.model import TinyModel
from devnet.subnet import GATEWAY, Subnet
from devnet.tee import identity_bundle
from foundation.private_files import write_new
from measurements.governance.authority import encode_authority
from measurements.launch.launch_manifest import joined, measure_snp, measure_tdx
from tests.charters import AUTHORITY
from tests.cli.test_command import sub_parsers
from tests.firmware import LittleFirmware, LittleProgram
from tests.little_audit import good
from tests.little_tee import CONFIG, KEYSET, NONCE, snp_tee
from tests.releases import made_manifest
from tests.unit.appliance.orders import chat_payload

SUBNET = Subnet(b"wrong inputs", delegated=False)
ROOT_KEY, GATEWAY_ID = SUBNET.root_key.hex(), to_text(GATEWAY)
WORD = "30" * 32
NEVER = re.compile(
    r"Traceback|\[?Errno|\b[A-Z]\w*(Error|Exception|Refused|Malformed|Missing)\b|no file$|<class |\bexpected \['"
)
FILES = ("missing", "folder", "empty", "junk", "half")


@dataclass(frozen=True)
class Row:
    """A command; `{x}` is where the wrong file stands, and `good` what would be right there."""

    command: str
    good: str = "manifest.json"
    status: int = 1
    statuses: Mapping[str, int] = field(default_factory=dict)  # of the kinds that end in another
    kinds: tuple[str, ...] = FILES

    @property
    def verb(self) -> tuple[str, ...]:
        return verb_of(self.command)


def verb_of(command: str) -> tuple[str, ...]:
    """The verb that a command line begins with."""
    words = tuple(shlex.split(command))
    return max((verb for verb in VERBS if words[: len(verb)] == verb), key=len)


def last_verbs() -> Iterator[tuple[str, ...]]:
    """Those that do something, without those that only lead to them."""
    todo = [((), build_parser())]
    while todo:
        path, parser = todo.pop()
        below = list(sub_parsers(parser))
        todo += [((*path, name), each) for name, each in below]  # type: ignore[misc]
        if not below:
            yield path


VERBS = sorted(last_verbs())
ASK = (
    f"ask --offer {{x}} --broker {WORD} --gateway {GATEWAY_ID} --model-root {WORD} --expiry 9 --model m --keep kept "
    "--out made"
)
OWNER = f"owner init little --out made --gateway {GATEWAY_ID}"
OPEN = f"open --key {WORD} --caller {GATEWAY_ID}"
B = "--config b/broker.toml"
DRAFT = (
    "release draft --version 0.1.0 --first 7 --image image --cpu EPYC-v4 --vcpus 1 --model tiny --repository "
    f"https://example.invalid/a.git --commit {'0' * 40} --rebuild 'make image' --out made"
)
NOW = "--at 2026-11-20"
NO_BYTES = {"missing": 1, "folder": 1, "empty": 1}
UNREAD = {"missing": 1, "folder": 1}
HISTORY = {"junk": 5, "half": 5}

READS = (
    Row("audit {x}", "bundle"),
    Row("audit bundle --policy {x}", "policy.toml"),
    Row("audit bundle --references {x}", "references.toml", kinds=FILES[:4]),
    Row("audit bundle --devnet {x}", "policy.toml", kinds=FILES[:4]),
    Row("audit bundle --authority {x}", "authority.json"),
    Row("audit bundle --seen {x}", "receipt", kinds=FILES[:4]),
    Row("compare {x}", "bundle"),
    Row(ASK, "offer"),
    Row(f"{OPEN} --question {{x}} --receipt receipt --answer answer", "question", 5, NO_BYTES),
    Row(f"{OPEN} --question question --receipt {{x}} --answer answer", "manifest.json", 5, NO_BYTES),
    Row(f"{OPEN} --question question --receipt receipt --answer answer --manifest {{x}}"),
    Row(f"{OPEN} --question question --receipt receipt --answer answer --manifest manifest.json --successor {{x}}"),
    Row("host feed unix:/nowhere --proof {x}", "proof", kinds=("missing", "folder", "empty")),
    Row("host feed unix:/nowhere --proof proof --body {x}", "body"),
    Row(f"{OWNER} --policy {{x}}", "policy.toml"),
    Row(f"{OWNER} --references {{x}}", "references.toml", kinds=FILES[:4]),
    Row("policy explain {x}", "policy.toml"),
    Row("policy check {x}", "policy.toml"),
    Row("verify certificate {x}", "proof"),
    Row("verify evidence {x}", "evidence"),
    Row(f"verify evidence evidence {NOW} --policy {{x}}", "policy.toml"),
    Row(f"verify evidence evidence {NOW} --references {{x}}", "references.toml", kinds=FILES[:4]),
    Row(f"verify evidence evidence {NOW} --simulated-root {{x}}", "root.pem"),
    Row("verify snp --report {x} --vek vek.der", "report.bin"),
    Row("verify snp --report report.bin --vek {x}", "vek.der"),
    Row("verify tdx --quote {x}", "quote.bin"),
    Row("verify gpu --report {x} --chain root.pem", "manifest.json"),
    Row("release show {x}"),
    Row("release diff {x} manifest.json"),
    Row("release diff manifest.json {x}"),
    Row("release history {x} --authority authority.json", "history.cbor", 1, HISTORY),
    Row("release history history.cbor --authority {x}", "authority.json"),
    Row("release proposal {x} --authority authority.json", "payload.bin"),
    Row("release proposal payload.bin --authority {x}", "authority.json"),
    Row("release proposal payload.bin --authority authority.json --history {x}", "history.cbor", 1, HISTORY),
    Row("release sign {x} --authority authority.json --key member.key", "payload.bin"),
    Row("release sign payload.bin --authority {x} --key member.key", "authority.json"),
    Row("release sign payload.bin --authority authority.json --key {x}", "member.key"),
    Row(f"release decide {{x}} --signature {WORD}:{WORD * 2} --out made", "payload.bin"),
    Row(
        "release decide payload.bin --certificate {x} --authority authority.json --proposal 1 --expiry-ns 1 --out made",
        kinds=FILES[:3],
    ),
    Row("release propose --adopt {x} --authority authority.json --out made"),
    Row("release propose --adopt manifest.json --authority {x} --out made", "authority.json"),
    Row("release propose --amend-charter {x} --authority authority.json --out made", "authority.json"),
    Row(f"{DRAFT} --launch {{x}} --config cell.toml", "launch.json"),
    Row(f"{DRAFT} --launch launch.json --config {{x}}", "cell.toml"),
    Row(f"{DRAFT} --launch launch.json --config cell.toml --policy {{x}}", "policy.toml"),
    Row(f"{DRAFT} --launch launch.json --config cell.toml --supersedes {{x}}"),
    Row("pack inspect {x}", "m.pack", kinds=FILES[:4]),
    Row("pack verify {x}", "m.pack", 1, {"half": 5}),
    Row("pack open {x} made --key pack.key", "m.pack", 1, {"half": 5}),
    Row("pack open m.pack made --key {x}", "pack.key", 2, UNREAD),
    Row("pack seal model made --key {x}", "pack.key", 2, UNREAD),
    Row("pack seal model made --key pack.key --sign-key {x}", "pack.key", 2, UNREAD),
    Row("engine check {x} --key pack.key", "m.pack", 1, {"half": 5}, ("missing", "empty", "junk", "half")),
    Row("engine check m.pack --key {x}", "pack.key", 2, UNREAD),
    Row("engine profile {x} --out made --key pack.key", "m.pack", 1, {"half": 5}, ("missing", "empty", "junk", "half")),
    Row("measure snp --image image --snp-firmware {x}", "firmware.fd"),
    Row("measure tdx --image image --tdx-firmware {x}", "firmware.fd"),
    Row("measure both --image image --snp-firmware {x} --tdx-firmware firmware.fd", "firmware.fd"),
    Row(
        "measure part --image image --snp-firmware firmware.fd --tdx-firmware {x} --vcpu-type EPYC-v4 --vcpus 1",
        "firmware.fd",
    ),
    Row("image build --config {x}", "cell.toml"),
    Row("image boot image --print --firmware {x}", "firmware.fd"),
    Row("demo --prompts {x}", "prompts", kinds=FILES[:3]),
    *(
        Row(f"broker {job} --config {{x}}", "b/broker.toml")
        for job in (
            "key",
            "serve",
            "log show",
            "log verify",
            "height --proof proof --root-key 00 --gateway aaaaa-aa",
            "adopt --decision decision",
            "govern --authority authority.json",
            "history --out made",
            f"revoke chip {WORD}",
            f"release add 1.0 --measurement {WORD} --model-root {WORD} --measured-config {WORD} --on-my-word",
            "release approve 1.0",
            "release retire 1.0",
            "secret add a/b/c --from pack.key",
            "secret rotate a/b/c --from pack.key",
            "secret revoke a/b/c",
            "service make a/service-key/b --blocks 9 --overlap 1",
            "service rotate a/service-key/b",
            "service offers a/service-key/b",
        )
    ),
    Row(f"broker govern {B} --authority {{x}}", "authority.json"),
    Row(f"broker adopt {B} --decision {{x}}", "manifest.json"),
    Row(f"broker height {B} --proof {{x}} --root-key {ROOT_KEY} --gateway {GATEWAY_ID}", "proof"),
    Row(f"broker secret add a/b/c {B} --from {{x}}", kinds=FILES[:3]),
    Row(f"broker secret add a/model-key/c {B} --pack m.pack --from {{x}}", "pack.key"),
    Row(f"broker secret add a/model-key/c {B} --from pack.key --pack {{x}}", "m.pack", kinds=FILES[:4]),
    Row(f"broker secret rotate a/model-key/c {B} --from pack.key --pack {{x}}", "m.pack", kinds=FILES[:4]),
)

FOLDERS = ("missing", "junk", "folder")  # of a folder: none, a file in its place, one without what it has to hold
IN_FOLDERS = (
    "model show {x}",
    "model convert {x} made",
    "model quantize {x} made",
    "pack seal {x} made --key pack.key",
    f"owner init {{x}} --out made --gateway {GATEWAY_ID} --license MIT",
    "owner check {x}",
    "engine profile {x} --key pack.key --out made",
    "engine check {x} --key pack.key",
    "image check {x}",
    "image list {x}",
    "image compare {x} image",
    "image boot {x} --print --firmware firmware.fd",
    "measure snp --image {x} --snp-firmware firmware.fd",
    "measure tdx --image {x} --tdx-firmware firmware.fd",
    f"{DRAFT.replace('--image image', '--image {x}')} --launch launch.json --config cell.toml",
)

OUTS = ("there", "below-none", "below-a-file", "system")
WRITES = (
    "pack seal model {x} --key pack.key",
    "pack open m.pack {x} --key pack.key",
    "model convert little {x}",
    "model quantize little {x}",
    "release propose --adopt manifest.json --authority authority.json --out {x}",
    f"{DRAFT.replace('--out made', '--out {x}')} --launch launch.json --config cell.toml",
    f"broker history {B} --out {{x}}",
    "broker init {x}",
    f"owner init little --out {{x}} --gateway {GATEWAY_ID}",
)

MAKES_FOLDERS = ("broker init", "owner init", "pack open", "release propose")  # those above its own, too

VALUES = (
    "ask --unknown",
    "audit bundle --root-key zz",
    "audit bundle --at soon",
    "audit bundle --only x",
    "audit bundle --sample 3",
    f"audit bundle --decided {WORD}",
    f"audit bundle --devnet roots.toml --root-key {ROOT_KEY}",
    "broker init",
    "broker init b --policy",
    f"broker log verify {B} --seen x",
    f"broker revoke planet 00 {B}",
    f"broker revoke chip zz {B}",
    f"broker release add 1.0 {B} --measurement zz --model-root {WORD} --measured-config {WORD} --on-my-word",
    f"broker release add 1.0 {B} --measurement 00 --model-root {WORD} --measured-config {WORD} --on-my-word",
    f"broker release add 1.0 {B} --measurement {'4d' * 48} --model-root {WORD} --measured-config {WORD}",
    f"broker release add 1.0 {B} --measurement {'4d' * 48} --on-my-word",
    f"broker release approve 1.0 {B}",
    f"broker release approve 1.0 {B} --on-my-word",
    f"broker release retire 1.0 {B}",
    f"broker secret add a/b {B} --from pack.key",
    f"broker secret add a/model-key/c {B} --from pack.key",
    f"broker secret add a/model-key/c {B} --from pack.key --model-root 00",
    f"broker secret add a/b/c {B} --from pack.key --pack m.pack",
    f"broker secret rotate a/b/c {B} --from pack.key",
    f"broker secret revoke a/b/c {B}",
    f"broker service make a/b {B} --blocks 9 --overlap 1",
    f"broker service make a/service-key/b {B} --blocks 0 --overlap 1",
    f"broker service rotate a/service-key/b {B}",
    f"broker service offers a/service-key/b {B}",
    f"broker height {B} --proof proof --root-key zz --gateway {GATEWAY_ID}",
    f"broker height {B} --proof proof --root-key {ROOT_KEY} --gateway nobody",
    "compare",
    "demo --engine none",
    "devnet up --cells none",
    "devnet up --cells 0 --folder devnet",
    "devnet up --folder manifest.json",
    "engine check model --profile zz",
    "engine check m.pack",
    "engine profile m.pack --key pack.key",
    "engine profile model --engine none",
    "engine profile model --tokens 0",
    "host feed nowhere --proof proof",
    "host health unix:/nowhere",
    "host identity unix:/nowhere --nonce zz --out made",
    "host metrics nowhere",
    "host ping unix:/nowhere --count x",
    "host position vsock:x",
    "host relay unix:/nowhere --broker nowhere",
    "image boot image --print --vcpus 0 --firmware firmware.fd",
    "image boot image --print --vcpu-type none --firmware firmware.fd",
    "image build --profile none",
    "image build --config cell-without-profile.toml",
    "image kernel --unknown",
    "image lock --unknown",
    "measure part --image image --snp-firmware firmware.fd --tdx-firmware firmware.fd --vcpu-type none --vcpus 1",
    "measure snp --image image --snp-firmware firmware.fd --vcpus x",
    "measure snp --image image --snp-firmware firmware.fd --vcpu-type EPYC-v4",
    "model quantize model made --format int3",
    f"{OPEN} --question question --receipt receipt --answer answer --manifest manifest.json --release 1",
    "owner init little --out made",
    "owner init little --out made --gateway nobody",
    "owner init little --out made --devnet nowhere",
    "owner init little --gateway aaaaa-aa",
    f"{OWNER} --root-key zz",
    f"{OWNER} --devnet nowhere",
    f"{OWNER} --broker nowhere",
    f"{OWNER} --engine none",
    f"{OWNER} --first-block 0",
    f"{OWNER} --leave-out none.bin",
    f"{OWNER} --length none",
    f"{OWNER} --name other",
    f"{OWNER} --price 1 2",
    f"{OWNER} --price -1 2 3",
    "owner check",
    "pack inspect",
    "pack verify m.pack --signer zz",
    "pack seal model made --key pack.key --threads 0",
    "policy explain none such",
    "release decide payload.bin --signature x --out made",
    "release decide payload.bin --certificate proof --out made",
    "release diff manifest.json",
    "release propose --authority authority.json --out made",
    "release propose --withdraw 0.9.0 --reason none --authority authority.json --out made",
    "release propose --revoke-chip zz --reason none --authority authority.json --out made",
    "release show manifest.json more",
    "release sign payload.bin --authority authority.json --key open.key",
    "verify certificate proof --root-key zz",
    "verify certificate proof --canister nobody",
    "verify certificate proof --at noon",
    f"verify evidence evidence {NOW} --nonce zz",
    "verify snp --report report.bin --vek vek.der --measurement zz",
    "verify snp --report report.bin --vek vek.der --simulated-root x",
    "verify tdx --quote quote.bin --report-data zz",
    "verify gpu --report manifest.json --nonce zz",
    "unknown",
    "",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind, as it would be right; they are read, and nothing is written beside them."""
    folder = tmp_path_factory.mktemp("files")
    TinyModel().write(folder / "model")
    little_model.write(folder / "little")
    write_new(folder / "pack.key", ("07" * 32).encode())
    write_new(folder / "member.key", sha256(b"ada").hexdigest().encode())
    firmware, kernel, line = LittleFirmware().build(), LittleProgram().build(), "roothash=00 ro"
    (folder / "image").mkdir()
    for name, raw in (("vmlinuz", kernel), ("cmdline", line.encode()), ("root.img", b"root")):
        (folder / "image" / name).write_bytes(raw)
    launch = joined(measure_snp(firmware, kernel, b"", line), measure_tdx(firmware, kernel, b"", line))
    chain = Chain(SUBNET, GATEWAY, seed=b"wrong inputs")
    chain.seal([chat_payload("one", model="scripted-1")], 1_700_000_000_000_000_001)
    tee = snp_tee()
    bundle = identity_bundle(tee, NONCE, KEYSET, CONFIG)
    config = f'gateway = "{GATEWAY_ID}"\nroot_key = "{ROOT_KEY}"\nengine = "scripted-1"\n'
    release = f'[release]\nbroker_key = "{WORD}"\nresource = "a/model-key/c"\nmodel_root = "{WORD}"\n'
    for name, raw in {
        "answer": b"",
        "authority.json": encode_authority(AUTHORITY),
        "body": chain.body(1),
        "bundle": good(),
        "cell.toml": (config + release).encode(),
        "cell-without-profile.toml": (config.replace("scripted-1", "fixed-1") + release).encode(),
        "decision": b"no decision",
        "evidence": bundle.encode(),
        "firmware.fd": firmware,
        "launch.json": launch.encode() + b"\n",
        "manifest.json": made_manifest().encode(),
        "open.key": b"07" * 32,
        "policy.toml": b'name = "own"\nversion = 1\n[snp]\n',
        "prompts": b"one\ntwo\n",
        "proof": chain.proof(1, 1, 1_700_000_000_000_000_009),
        "quote.bin": bytes(1000),
        "receipt": b"no receipt",
        "references.toml": b"[snp]\nchip_id = []\n",
        "report.bin": bundle.report,
        "root.pem": tee.root.pem.encode(),
        "vek.der": bytes(40),
    }.items():
        (folder / name).write_bytes(raw)
    (folder / "open.key").chmod(0o644)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with redirect_stdout(io.StringIO()) as printed:
            assert main(["broker", "init", "b"]) == 0
        key = printed.getvalue().strip()
        with redirect_stdout(io.StringIO()) as printed:
            assert main(shlex.split(f"broker service make a/service-key/q {B} --blocks 100 --overlap 10")) == 0
        offer = json.loads(printed.getvalue().splitlines()[0])["offer"]
        (folder / "offer").write_text(offer)
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"words")))
        asked = ASK.format(x="offer").replace("--keep kept --out made", "--keep question --out payload")
        assert main(shlex.split(asked.replace(f"--broker {WORD}", f"--broker {key}"))) == 0
        assert main(["pack", "seal", "model", "m.pack", "--key", "pack.key"]) == 0
        assert main(shlex.split("release propose --adopt manifest.json --authority authority.json --out first")) == 0
        assert main(shlex.split(f"broker govern {B} --authority authority.json")) == 0
        assert main(shlex.split(f"broker history {B} --out history.cbor")) == 0
    (folder / "payload.bin").write_bytes((folder / "first" / "payload.bin").read_bytes())
    return folder


@pytest.fixture
def desk(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command is given. What one would make must not be there afterwards."""
    monkeypatch.chdir(made)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"words")))
    return made


def wrong(desk: Path, kind: str, good: str) -> str:
    """The name of a file of this kind of wrong, beside the good ones; private, since keys have to be."""
    name = Path("wrong") / f"{kind}-{Path(good).name}"
    name.parent.mkdir(exist_ok=True)
    if kind == "folder":
        name.mkdir(exist_ok=True)
    elif kind != "missing" and not name.exists():
        whole = Path(good).read_bytes()
        write_new(name, {"empty": b"", "junk": b"\xffnot such a file\n\x00", "half": whole[: len(whole) // 2]}[kind])
    return str(name)


def unwritable(kind: str) -> str:
    Path("wrong").mkdir(exist_ok=True)
    Path("wrong/there").mkdir(exist_ok=True)
    Path("wrong/there/broker.toml").touch()
    return {
        "there": "wrong/there",
        "below-none": "wrong/none/made",
        "below-a-file": "manifest.json/made",
        "system": "/proc/anchorhold-made",
    }[kind]


def said(capsys: pytest.CaptureFixture[str], command: str) -> tuple[int, str]:
    """How the command ended, and the line that says why."""
    capsys.readouterr()
    status = main(shlex.split(command))
    streams = capsys.readouterr()
    lines = streams.err.splitlines() or streams.out.splitlines()
    assert lines, "it says nothing"
    if lines[0].startswith("usage: "):
        lines = [line for line in lines[1:] if not line.startswith(" ")]
        assert ": usage: " in lines[0]
    assert len(lines) == 1, streams.err
    assert streams.out == "" or streams.err == ""
    assert not NEVER.search(streams.err + streams.out), lines[0]
    assert not Path("made").exists()
    return status, lines[0]


def names(line: str, path: str) -> bool:
    return path in line or Path(path).name in line


@pytest.mark.parametrize(
    ("row", "kind"), [pytest.param(row, kind, id=f"{row.command[:60]}-{kind}") for row in READS for kind in row.kinds]
)
def test_a_file_that_is_not_what_it_has_to_be(
    desk: Path, capsys: pytest.CaptureFixture[str], row: Row, kind: str
) -> None:
    path = wrong(desk, kind, row.good)
    status, line = said(capsys, row.command.replace("{x}", path))
    assert status == row.statuses.get(kind, row.status), line
    assert names(line, path), line


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("command", IN_FOLDERS)
def test_a_folder_that_is_not_what_it_has_to_be(
    desk: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str
) -> None:
    path = wrong(desk, kind, "manifest.json")
    status, line = said(capsys, command.replace("{x}", path))
    assert status == 1, line
    assert names(line, path), line


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (command, kind)
        for command in WRITES
        for kind in OUTS
        if kind != "below-none" or not command.startswith(MAKES_FOLDERS)
    ],
)
def test_a_place_that_takes_no_file(desk: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str) -> None:
    path = unwritable(kind)
    status, line = said(capsys, command.replace("{x}", path))
    assert status == 1, line
    assert names(line, "manifest.json" if kind == "below-a-file" else path), line


@pytest.mark.parametrize("command", VALUES)
def test_a_value_that_cannot_be_used(desk: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, line = said(capsys, command)
    assert status == 1, line


def test_every_verb_is_tried_and_there_are_enough() -> None:
    tried = {row.verb for row in READS} | {verb_of(command) for command in (*IN_FOLDERS, *WRITES)}
    tried |= {verb_of(command) for command in VALUES if command not in ("", "unknown")}
    assert tried == set(VERBS)
    assert sum(len(row.kinds) for row in READS) + len(IN_FOLDERS) * len(FOLDERS) + len(VALUES) >= 150
