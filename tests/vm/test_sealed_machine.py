"""The sealed image, booted: real firmware with its check of the kernel live, real virtio, the simulated chip alone not.

boot.md J1 to J12. One machine is shared by what leaves it as it was; every kind of tampering gets a machine of its own.
Needs `make vm-tools`. Without it these tests skip, or fail if ANCHORHOLD_REQUIRE_ALL=1.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Self, TypeVar

import pytest

from anchorhold.command import main
from anchorhold.host.broker_relay import relay
from appliance.key_release import State
from appliance.serving.services import ReleaseService
from devnet.broker import LocalSend
from devnet.chip import chip_file
from devnet.sealed_machine import PATIENT, PROMPTS, TIME_NS, Cell, World, built, chat, fed, world
from image_build.boot import progress, vm_tools
from image_build.boot.ending import Code, Ending, EndLine, How, Stage
from image_build.boot.plan import Image
from image_build.boot.progress import Watch, moved_bytes
from image_build.build import Order, build
from image_build.verity import BLOCK_BYTES, Verity
from tests.switches import sized
from tests.vm.changed_image import flip, flipped, told
from tests.vm.needs import need_tools
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

pytestmark = pytest.mark.vm
PROBE = Path(__file__).with_name("probe.py")
PORTS_SCANNED = sized("ANCHORHOLD_PORTS")
HOSTILE = sized("ANCHORHOLD_HOSTILE")
AT_ONCE = 50
T = TypeVar("T")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_tools()
    with world(tmp_path_factory.mktemp("sealed")) as found:
        yield found


@pytest.fixture(scope="module")
def cell(made: World) -> Iterator[Cell]:
    """The one that serves; the probe runs in it first."""
    with made.boot(payload=PROBE.read_text(encoding="utf-8")) as running:
        assert running.health() is not None, running.console
        standing, denials = made.carry(running)
        assert (standing.state, denials) == (State.NEEDS_KEY, ["snp.measurement"])  # nobody vouched for it yet
        made.approve()
        standing, denials = made.carry(running)
        assert (standing.state, standing.failure, denials) == (State.HAS_KEY, None, [])
        assert running.opens_its_model(), running.console
        yield running


# -- it serves


@pytest.fixture(scope="module")
def answered(made: World, cell: Cell) -> Mapping[tuple[int, int], tuple[bytes, bytes]]:
    """What it says to the chain's first blocks. A block is answered once: whoever asks again is told nothing."""
    found = made.answers(cell)
    assert len(found) == sum(map(len, PROMPTS)) == 10
    return found


def test_it_says_what_a_cell_process_on_the_host_says(
    made: World, cell: Cell, answered: Mapping[tuple[int, int], tuple[bytes, bytes]], tmp_path: Path
) -> None:
    with HostProcess(made, cell, tmp_path) as beside:
        assert beside.answers() == answered
    assert "canary" not in cell.console  # the console is the host's to read


class HostProcess:
    """The same cell as a process beside us: same configuration, chip, pack and broker."""

    def __init__(self, made: World, cell: Cell, folder: Path) -> None:
        (folder / "cell.toml").write_bytes(made.config)
        (folder / "chip").write_bytes(chip_file(made.platform, cell.measurement))
        self._made, self._folder = made, folder

    def __enter__(self) -> Self:
        socket = f"unix:{self._folder}/window"
        self._address = Address.parse(socket)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "devnet.cell",
                "--config",
                "cell.toml",
                "--listen",
                socket,
                "--chip",
                "chip",
                "--model",
                str(self._made.pack),
            ],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(vm_tools.ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self._until('"serving"')
        send = LocalSend(self._made.broker.broker)

        async def carried() -> State:
            async with Host(self._address, Port.RELEASE, patience=PATIENT) as host:
                return (await relay(host, send)).state

        assert (self._during("the relay", carried()), send.denials) == (State.HAS_KEY, [])
        self._until('"model open"')
        return self

    def answers(self) -> Any:
        return self._during("the answers", fed(self._address, self._made.chain))

    def _during(self, what: str, work: Coroutine[object, object, T]) -> T:
        pid = self._process.pid
        watch = Watch([pid], lambda: moved_bytes(pid))
        return asyncio.run(progress.during(what, work, watch, lambda: self._process.poll() is None))

    def _until(self, word: str) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if word in line:
                return
        raise AssertionError(f"the process beside us never said {word}")

    def __exit__(self, *reason: object) -> None:
        self._process.terminate()
        self._process.communicate()


# -- from inside


@pytest.fixture(scope="module")
def tried(cell: Cell) -> dict[str, Any]:
    """What the probe found."""
    cell.until("the probe's end", lambda: "probe over" in cell.console or not cell.running.is_running or None)
    said = [line.removeprefix("probe ") for line in cell.running.console if line.startswith("probe [")]
    assert "probe over" in cell.console, cell.console
    return dict(json.loads(line) for line in said)


def test_no_way_out_but_the_window(tried: dict[str, Any]) -> None:
    assert tried["interfaces"] == ["lo"]
    for trial in ("tcp out", "tcp6 out", "raw packets"):
        assert tried[trial] == "refused: EAFNOSUPPORT", trial
    assert tried["families"] == ["AF_UNIX", "AF_NETLINK", "AF_VSOCK"]


def test_nothing_can_be_written_or_brought_in_and_run(tried: dict[str, Any]) -> None:
    assert tried["writable folders"] == []
    assert set(tried["writable files"]) <= {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"}
    assert tried["set-id files"] == []
    assert tried["programs"] == ["python3.11"]
    for trial in ("sh", "busybox"):
        assert tried[trial] == "refused: exec", trial
    for trial in ("own program in /dev", "own program in /tmp", "write the model's disk"):
        assert str(tried[trial]).startswith("refused: "), trial


def test_the_kernel_does_nothing_for_the_cells_user(tried: dict[str, Any]) -> None:
    refused = (
        "trace the cell",
        "memory of the cell",
        "memory of process 1",
        "perf",
        "user namespace",
        "network namespace",
        "mount",
        "become root",
        "power off",
        "kernel log",
        "kmsg",
        "physical memory",
    )
    assert {trial: tried[trial] for trial in refused if not str(tried[trial]).startswith("refused: E")} == {}
    assert tried["see process 1"] is False
    assert tried["core dumps"] == [0, 0]
    assert tried["seeded"] is True
    absent = (
        "load a module",
        "load a module from memory",
        "another kernel",
        "bpf",
        "io_uring",
        "userfaultfd",
        "ports",
        "System V memory",
        "message queue",
        "asynchronous input and output",
        "another process's memory",
    )
    assert {trial: tried[trial] for trial in absent if tried[trial] != "refused: ENOSYS"} == {}
    assert tried["kernel files that are not there"] == []
    status = tried["status"]
    assert status["Uid"].split() == ["990"] * 4
    assert (status["Groups"], status["NoNewPrivs"]) == ("", "1")
    assert {int(status[each], 16) for each in ("CapEff", "CapPrm", "CapBnd")} == {0}


# -- from the host


async def _answers(address: Address, port: int) -> bool:
    reader, writer = await asyncio.open_unix_connection(address.place)
    try:
        writer.write(b"CONNECT %d\n" % port)
        return (await reader.readline()).startswith(b"OK ")
    except ConnectionError:
        return False
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def test_three_ports_answer_and_no_other(cell: Cell) -> None:
    ports = [*range(PORTS_SCANNED), 1 << 16, 1 << 31, (1 << 32) - 2]

    async def scan() -> set[int]:
        found: set[int] = set()
        for start in range(0, len(ports), AT_ONCE):
            some = ports[start : start + AT_ONCE]
            answered = await asyncio.gather(*(_answers(cell.address, port) for port in some))
            found |= {port for port, yes in zip(some, answered, strict=True) if yes}
        return found

    assert cell.during("the scan of ports", scan()) == set(Port)


def test_hostile_connections_do_not_stop_it(
    made: World, cell: Cell, answered: Mapping[tuple[int, int], tuple[bytes, bytes]]
) -> None:
    random = Random(2000)
    kinds = (b"", b"\x01\x00", b"GET / HTTP/1.1\r\n\r\n", bytes([3]) + b"\xff\xff\xff" + bytes(4), b"\0" * 4096)

    async def one(number: int) -> bool:
        words = kinds[number % len(kinds)] if number % 2 else random.randbytes(random.randrange(1, 4000))
        reader, writer = await asyncio.open_unix_connection(cell.address.place)
        try:
            # An answer is waited for: 0.3.0 of the device itself stops when many callers leave before it (boot.md).
            writer.write(b"CONNECT %d\n" % random.choice(list(Port)))
            came = (await reader.readline()).startswith(b"OK ")
            writer.write(words)
            await writer.drain()
        except ConnectionError:
            return False  # too many at once: the cell's own bound
        finally:
            writer.close()
        return came

    async def storm() -> int:
        came = 0
        while came < HOSTILE:
            came += sum(await asyncio.gather(*(one(came + number) for number in range(AT_ONCE))))
        return came

    came = cell.during("the storm", storm())
    assert cell.health() is not None  # after a moment: what is left of the storm is let go first
    metrics = json.loads(cell.ask(Port.OBSERVE, b"metrics"))
    assert sum(port["connections"] for port in metrics["ports"].values()) >= came
    made.chain.seal([chat("after the storm")], TIME_NS + 9)
    assert [place[0] for place in made.answers(cell)] == [len(PROMPTS) + 1]
    assert cell.running.is_running


# -- tampering that the firmware stops


@pytest.mark.parametrize("part", ["vmlinuz", "cmdline"])
def test_files_that_are_not_those_of_the_table_do_not_start(made: World, tmp_path: Path, part: str) -> None:
    """The host keeps the approved table, so the chip reports the approved digest: the firmware stops it."""
    size = (made.image / part).stat().st_size
    other = flipped(made.image, tmp_path / "other", part, size // 2 if part != "cmdline" else 20)
    with made.boot(other, table_of=made.image) as cell:
        assert cell.running.is_held(), cell.console


def test_an_initrd_that_the_host_adds_does_not_start(made: World, tmp_path: Path) -> None:  # boot.md J5
    """The table has the digest of no bytes for it."""
    (tmp_path / "initrd").write_bytes(b"the host's")
    with made.boot(host_words=["-initrd", str(tmp_path / "initrd")]) as cell:
        assert cell.running.is_held(), cell.console


# -- tampering that the broker denies


def _in_kernel(made: World, folder: Path) -> Path:
    """In its text that a boot without firmware would print, which nobody reads here."""
    at = (made.image / "vmlinuz").read_bytes().index(b"video mode number")
    return flipped(made.image, folder / "other", "vmlinuz", at)


def _in_cmdline(made: World, folder: Path) -> Path:
    """`loglevel=4` becomes `loglevel=5`."""
    at = (made.image / "cmdline").read_bytes().index(b"loglevel=") + len("loglevel=")
    return flipped(made.image, folder / "other", "cmdline", at)


def _in_config(made: World, folder: Path) -> Path:
    """A comment: the root differs, so its hash, so the command line."""
    return built(folder / "other", made.config + b"\n# changed\n")


@pytest.mark.parametrize("change", [_in_kernel, _in_cmdline], ids=["kernel", "cmdline"])
def test_a_table_of_other_files_is_another_measurement(made: World, tmp_path: Path, change: Any) -> None:
    made.approve()
    with made.boot(change(made, tmp_path)) as cell:
        _is_denied(made, cell, "snp.measurement")


def test_another_firmware_is_another_measurement(made: World, tmp_path: Path) -> None:
    made.approve()
    flip(vm_tools.FIRMWARE, tmp_path / "firmware", 0x1000)  # where variables are kept, none of which this firmware has
    with made.boot(firmware_file=tmp_path / "firmware") as cell:
        _is_denied(made, cell, "snp.measurement")


def test_another_configuration_is_denied_until_the_cell_gives_up(made: World, tmp_path: Path) -> None:
    made.approve()
    other = _in_config(made, tmp_path)
    with made.boot(other) as cell:
        _is_denied(made, cell, "snp.measurement")
        made.approve(other)  # its image, with the configuration of the other: a broker checks both
        for _ in range(ReleaseService.ATTEMPTS_MAX - 2):
            standing, _ = made.carry(cell)
            assert standing.state is State.NEEDS_KEY
        with suppress(Exception):  # the answer to the last failure may come, or the power go first
            made.carry(cell)
        assert cell.running.ending() == Ending(How.POWER_OFF, EndLine(Stage.CELL, Code.RELEASE_FAILED))


def _is_denied(made: World, cell: Cell, claim: str) -> None:
    said = cell.health()
    assert said is not None, cell.console  # it boots: what was changed is no code that runs
    assert said["state"] == "waiting for its model"
    standing, denials = made.carry(cell)
    assert (standing.state, denials) == (State.NEEDS_KEY, [claim])
    health = cell.health()
    assert health is not None
    assert health["state"] == "waiting for its model"


# -- tampering with what is read later


@pytest.mark.parametrize("where", ["root", "tree"])
def test_a_root_that_is_not_the_measured_one_ends_the_machine(made: World, tmp_path: Path, where: str) -> None:
    tree = Verity.read(Image.below(made.image).cmdline).blocks * BLOCK_BYTES
    other = flipped(made.image, tmp_path / "other", "root.img", {"root": 1024, "tree": tree}[where])
    with made.boot(other) as cell:
        assert cell.health() is None
        assert cell.running.ending() == Ending(How.RESTART, None)
    assert "dm-verity device corrupted" in cell.console


def test_a_root_that_is_too_short_restarts_the_machine(made: World, tmp_path: Path) -> None:
    other = flipped(made.image, tmp_path / "other", "root.img", 0)
    os.truncate(other / "root.img", 4096)
    with made.boot(other) as cell:
        assert cell.health() is None
        assert cell.running.ending() == Ending(How.RESTART, None)


def test_another_pack_ends_the_cell_with_its_code(made: World, tmp_path: Path) -> None:
    made.approve()
    flip(made.pack, tmp_path / "pack", made.pack.stat().st_size - 100)
    with made.boot(pack=tmp_path / "pack") as cell:
        assert cell.health() is not None, cell.console
        with suppress(Exception):  # the answer to the grant may come, or the power go first
            made.carry(cell)
        assert cell.running.ending() == Ending(How.POWER_OFF, EndLine(Stage.CELL, Code.MODEL_REFUSED))


# -- randomness and time


def test_the_cell_starts_when_the_kernel_is_seeded(made: World, cell: Cell, tmp_path: Path) -> None:  # image.md I29
    assert "random numbers: seeded before process 1" in cell.console
    words = ("random.trust_cpu=off", "ignore_loglevel")  # a slower seed, and the kernel's own word for it
    with made.boot(told(made, tmp_path, *words)) as slow:
        assert slow.health() is not None, slow.console
        console = slow.console
    seeded, looked, serving = map(console.find, ("random: crng init done", "anchorhold: random numbers", '"serving"'))
    assert -1 < seeded < looked < serving, console


def test_a_host_s_clock_changes_no_answer(
    made: World, answered: Mapping[tuple[int, int], tuple[bytes, bytes]]
) -> None:  # image.md I30
    with made.boot(host_words=["-rtc", "base=1999-12-31T23:59:58"]) as wrong:
        assert wrong.health() is not None, wrong.console
        assert made.carry(wrong)[1] == []
        assert wrong.opens_its_model()
        assert made.answers(wrong).items() >= answered.items()
        assert '"timestamp": "1999-12-31' in wrong.console or '"timestamp": "2000-01-01' in wrong.console


def test_eight_processors_start(tmp_path: Path) -> None:  # image.md I25: the MADT is read, and nothing else
    need_tools()
    payload = "import os\nprint('processors', len(os.sched_getaffinity(0)), flush=True)"
    with world(tmp_path) as eight:
        eight.approve(vcpus=8)
        with eight.boot(vcpus=8, payload=payload) as cell:
            assert cell.health() is not None, cell.console
            assert (eight.carry(cell)[1], cell.opens_its_model()) == ([], True)
            cell.until("the number of processors", lambda: "processors" in cell.console or None)
            assert "processors 8" in cell.console
            assert len(eight.answers(cell)) == 10


# -- ends


def test_a_killed_cell_ends_the_machine_with_its_signal(made: World) -> None:
    with made.boot(payload="import os, signal; os.kill(os.getppid(), signal.SIGKILL)") as cell:
        ending = cell.running.ending()
    assert ending == Ending(How.POWER_OFF, EndLine(Stage.CELL, 128 + 9))
    assert ending.means == "the cell was ended by signal 9"


def test_a_rule_that_does_not_take_ends_the_machine_before_the_cell(made: World, tmp_path: Path) -> None:
    """A kernel that was told to leave a security module out: the table and the measurement are its own."""
    other = told(made, tmp_path, "lsm=lockdown")
    with made.boot(other) as cell:
        assert cell.health() is None
        assert cell.running.ending() == Ending(How.POWER_OFF, EndLine(Stage.MACHINE, 1))


def test_a_release_image_believes_no_simulated_chip_and_says_nothing(
    made: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command itself, a console and a chip: its configuration asks for a key, and it finds no TEE to show."""
    build(Order("release", tmp_path / "release", vm_tools.CACHE, made.config))
    status = main(
        [
            "image",
            "boot",
            str(tmp_path / "release"),
            "--model",
            str(made.pack),
            "--devnet",
            str(tmp_path / "devnet"),
            "--console",
            "--tools",
            str(vm_tools.TOOLS),
        ]
    )
    first, *said, last = capsys.readouterr().out.splitlines()
    assert json.loads(first)["window"].startswith("unix:")
    assert (status, json.loads(last)) == (
        4,
        {"ended": "power-off", "stage": "cell", "code": 1, "means": "refused to start: configuration, engine or TEE"},
    )
    words = "".join(line for line in said if "EFI stub" not in line)
    assert not any(each.isalnum() for each in re.sub(r"\x1b\[[0-9;=]*[A-Za-z]", "", words)), said
