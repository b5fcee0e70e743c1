"""What a machine is started with, as text, and what is made of what it says at its end (boot.md J1 to J12)."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.evidence.snp_report import GuestPolicy
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.policy.claims import ClaimStanding
from image_build.boot.ending import MEANS, Code, Ending, EndLine, How, Stage, parse_line
from image_build.boot.plan import (
    SNP_POLICY_SMT,
    BootRefused,
    Disk,
    Image,
    Plan,
    Platform,
    Table,
    device_command,
    emulator_command,
)
from image_build.boot.text_disk import Handed, disk_of_text
from measurements.launch.errors import LaunchRefused
from measurements.launch.launch_manifest import measure_snp
from measurements.launch.snp import signature_of
from measurements.reference import ReferenceValues
from tests.firmware import HASHES_AT, LittleFirmware
from tests.unit.attestation.forge import Forge

IMAGE = Image(Path("/i/vmlinuz"), Path("/i/root.img"), "console=null a.b=c")
EMULATED = Plan(
    Platform.EMULATED,
    IMAGE,
    Path("/f/OVMF.amdsev.fd"),
    Path("/r"),
    (Disk("anchorhold-model", Path("/m,1.pack")),),
    table=Table(Path("/r/table"), 0x810C00),
)
SNP = replace(EMULATED, platform=Platform.SNP, table=None, vcpus=4)
TDX = replace(SNP, platform=Platform.TDX, firmware=Path("/f/OVMF.inteltdx.fd"))
PLANS = pytest.mark.parametrize("plan", [EMULATED, SNP, TDX], ids=lambda plan: plan.platform.value)


def after(plan: Plan, option: str) -> list[str]:
    return [value for word, value in pairwise(emulator_command(plan)) if word == option]


@PLANS
def test_nothing_is_there_that_was_not_asked_for(plan: Plan) -> None:
    words = set(emulator_command(plan))
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= words
    assert not {"-net", "-netdev", "-nic", "-fsdev", "-virtfs", "-serial", "-usb", "-vnc"} & words
    kinds = sorted(device.split(",")[0] for device in after(plan, "-device"))
    vsock = "vhost-user-vsock-pci" if plan.platform is Platform.EMULATED else "vhost-vsock-pci"
    loader = ["loader"] if plan.platform is Platform.EMULATED else []
    assert kinds == sorted([*loader, vsock, "virtio-blk-pci", "virtio-blk-pci"])
    handed = [after(plan, option) for option in ("-kernel", "-initrd", "-append")]
    assert handed == [["/i/vmlinuz"], [], [IMAGE.cmdline]]


@PLANS
def test_every_disk_is_read_only_and_has_its_name(plan: Plan) -> None:
    blocks = [json.loads(each) for each in after(plan, "-blockdev")]
    assert [block.get("filename") for block in blocks if block["driver"] == "file"] == ["/i/root.img", "/m,1.pack"]
    assert all(block["read-only"] is True for block in blocks)
    disks = [device for device in after(plan, "-device") if device.startswith("virtio-blk-pci")]
    assert ["serial=anchorhold-root" in disks[0], "serial=anchorhold-model" in disks[1]] == [True, True]
    assert all(("iommu_platform=on" in each) == (plan.platform is not Platform.EMULATED) for each in disks)


def test_each_platform_has_its_machine() -> None:
    assert after(EMULATED, "-accel") == ["tcg"]
    assert after(EMULATED, "-device")[0] == "loader,file=/r/table,addr=0x810c00,force-raw=on"
    assert after(SNP, "-object")[1] == (
        "sev-snp-guest,id=guest,cbitpos=51,reduced-phys-bits=1,policy=0x20000,kernel-hashes=on"
    )
    assert (after(SNP, "-accel"), after(SNP, "-smp"), after(SNP, "-cpu")) == (["kvm"], ["4"], ["EPYC-v4"])
    guest = json.loads(after(TDX, "-object")[1])
    assert (guest["qom-type"], guest["quote-generation-socket"]["type"]) == ("tdx-guest", "vsock")
    assert "kernel-irqchip=split" in after(TDX, "-machine")[0]
    for plan in (SNP, TDX):
        assert "memory-backend=memory,confidential-guest-support=guest" in after(plan, "-machine")[0]


def guest_policy(plan: Plan) -> int:
    """POLICY as the command line states it: what the processor will put into every report of this machine."""
    [guest] = [each for each in after(plan, "-object") if each.startswith("sev-snp-guest,")]
    return int(dict(part.partition("=")[::2] for part in guest.split(","))["policy"], 0)


def claims_of(policy: int) -> dict[str, ClaimStanding]:
    """Sound evidence but for this POLICY, judged by the built-in default: what it makes of the guest's bits."""
    forge = Forge()
    case = forge.case(policy=policy)
    case.lists = [forge.crl()]
    references = ReferenceValues.of(
        {"snp.measurement": [b"\x11" * 48], "snp.report_data": [b"\x22" * 64], "snp.chip_id": [forge.chip]}
    )
    appraisal = appraise(case.verify(), references, document.builtin("strict"))
    assert [claim.code for claim in appraisal.unmet if not claim.code.startswith("snp.policy.")] == ["snp.root"]
    return {claim.code: claim.standing for claim in appraisal.claims if claim.code.startswith("snp.policy.")}


def test_the_default_policy_takes_the_machine_that_the_default_command_starts() -> None:
    """J1: the forged root apart, a machine of this command line fails no claim of `strict`."""
    stated = guest_policy(SNP)
    assert not GuestPolicy(stated).debug
    assert ClaimStanding.NOT_MET not in claims_of(stated).values()


def test_a_machine_that_may_share_its_cores_is_asked_for_by_name_and_refused_by_the_default_policy() -> None:
    shared = guest_policy(replace(SNP, snp_policy=SNP_POLICY_SMT))
    claims = claims_of(shared)
    assert [code for code, standing in claims.items() if standing is ClaimStanding.NOT_MET] == ["snp.policy.smt"]
    assert shared ^ guest_policy(SNP) == 1 << 16


def test_the_device_is_a_process_where_the_kernel_has_none() -> None:
    command = device_command(EMULATED)
    assert command is not None
    assert command[-2:] == ("--tx-buffer-size", "32768")
    assert (device_command(SNP), SNP.window, EMULATED.window) == (None, "vsock:42", "unix:/r/vsock")
    assert EMULATED.end_socket == Path("/r/vsock_5009")


def test_a_console_is_there_if_it_was_asked_for() -> None:
    assert after(replace(EMULATED, console=True), "-serial") == ["chardev:console"]


def test_a_comma_in_a_path_stays_in_the_path() -> None:
    odd = replace(EMULATED, run=Path("/r,1"), table=Table(Path("/r,1/t"), 4096))
    assert "path=/r,,1/vhost" in " ".join(emulator_command(odd))
    assert "file=/r,,1/t," in after(odd, "-device")[0]


@pytest.mark.parametrize(
    "change",
    [
        {"memory_mib": 64},
        {"vcpus": 0},
        {"guest_cid": 2},
        {"table": None},
        {"platform": Platform.SNP},
        {"disks": (Disk("one", Path("/a")), Disk("one", Path("/b")))},
        {"disks": tuple(Disk(str(number), Path("/a")) for number in range(9))},
    ],
    ids=["memory", "vcpus", "cid", "no table", "table", "twice", "many"],
)
def test_what_cannot_be_started_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BootRefused):
        replace(EMULATED, **change)  # type: ignore[arg-type]  # its fields


# -- what is handed over


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"vmlinuz": b"kernel", "root.img": b"root", "cmdline": b"a=b"}
    for name, content in {**files, "firmware": LittleFirmware().build()}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_measurement_is_that_of_a_manifest(folder: Path) -> None:
    handed = Handed.of(folder / "firmware", Image.below(folder))
    manifest = measure_snp(LittleFirmware().build(), b"kernel", b"", "a=b")
    for vcpus in (1, 4):
        assert handed.measurement("EPYC-v4", vcpus) == manifest.find_snp(signature_of("EPYC-v4"), vcpus, 1)
    table = handed.write_table(folder / "table")
    assert (table.address, (folder / "table").read_bytes()) == (HASHES_AT, handed.hashes.table())


def test_a_root_is_in_the_measurement_by_its_command_line_alone(folder: Path) -> None:
    before = Handed.of(folder / "firmware", Image.below(folder))
    (folder / "root.img").write_bytes(b"another root")
    assert Handed.of(folder / "firmware", Image.below(folder)) == before
    (folder / "cmdline").write_bytes(b"a=c")
    assert Handed.of(folder / "firmware", Image.below(folder)) != before


def test_a_firmware_that_is_none_is_refused(folder: Path) -> None:
    (folder / "firmware").write_bytes(bytes(4096))
    with pytest.raises(LaunchRefused):
        Handed.of(folder / "firmware", Image.below(folder))


def test_a_text_becomes_whole_sectors() -> None:
    assert [len(disk_of_text(b"x" * size)) for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]
    with pytest.raises(BootRefused):
        disk_of_text(b"a\0b")


# -- the end


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"anchorhold end cell 71\n", EndLine(Stage.CELL, 71)),
        (b"anchorhold end machine 1\n", EndLine(Stage.MACHINE, 1)),
        (b"anchorhold end cell 0\n", EndLine(Stage.CELL, 0)),
        (b"anchorhold end cell 255\n", EndLine(Stage.CELL, 255)),
    ],
)
def test_a_line_is_read(line: bytes, told: EndLine) -> None:
    assert parse_line(line) == told


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"anchorhold end first 1\n",
        b"anchorhold end cell 71",
        b"anchorhold end cell 71\n\n",
        b"anchorhold end cell 071\n",
        b"anchorhold end cell 256\n",
        b"anchorhold end cell -1\n",
        b"anchorhold end host 1\n",
        b"anchorhold end cell\n",
        b"anchorhold end cell 1 secret\n",
        b"anchorhold  end cell 1\n",
        b"anchorhold end cell \xd9\xa1\n",
        b"x" * 100,
    ],
)
def test_other_bytes_are_no_line(line: bytes) -> None:
    assert parse_line(line) is None


@given(st.binary(max_size=80))
def test_no_bytes_do_harm(raw: bytes) -> None:
    told = parse_line(raw)
    assert told is None or raw == f"anchorhold end {told.stage.value} {told.code}\n".encode()


@given(st.sampled_from(How), st.none() | st.builds(EndLine, st.sampled_from(Stage), st.integers(0, 255)))
def test_every_end_has_its_words(how: How, told: EndLine | None) -> None:
    assert Ending(how, told).means


def test_every_code_has_its_words() -> None:
    assert set(MEANS) == set(Code)
    assert Ending(How.POWER_OFF, EndLine(Stage.CELL, 137)).means == "the cell was ended by signal 9"
    assert Ending(How.RESTART, None).means.startswith("the kernel gave up")
