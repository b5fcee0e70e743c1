"""image.md I2, I6 to I19, I21 to I26: a small image breaks no rule, and each rule's check sees what is planted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from image_build import uki
from image_build.finished_image import Found, Image
from image_build.hardening import CHECKS, findings
from image_build.profile import CONFIG, MACHINE, Profile, profile_names
from image_build.staged import LIBRARIES
from image_build.verity import Verity
from tests.images import SITE, a_small_image, an_elf, byte_code, file, folder, link, listed, unified

Plant = Callable[[Image], Image]


def in_root(path: str, found: Found) -> Plant:
    return lambda image: listed(replace(image, root={**image.root, path: found}))


def said(path: str, old: str, new: str) -> Plant:
    """A text of the image with one place changed."""

    def plant(image: Image) -> Image:
        text = image.root[path].content.decode()
        assert old in text, f"{path} has no {old!r} to change"
        return in_root(path, replace(image.root[path], content=text.replace(old, new, 1).encode()))(image)

    return plant


def with_line(change: Callable[[str], str]) -> Plant:
    def plant(image: Image) -> Image:
        changed = change(image.line)
        assert changed != image.line
        return replace(image, files=unified({**image.files, "cmdline": changed.encode()}))

    return plant


def without(word: str) -> Plant:
    return with_line(lambda line: line.replace(f"{word} ", "", 1))


def adding(word: str) -> Plant:
    return with_line(lambda line: f"{word} {line}")


def built(option: str, value: str | None) -> Plant:
    """A kernel with another configuration."""

    def plant(image: Image) -> Image:
        kernel = {name: each for name, each in image.kernel.items() if name != f"CONFIG_{option}"}
        return replace(image, kernel=kernel if value is None else {**kernel, f"CONFIG_{option}": value})

    return plant


def with_an_initrd(image: Image) -> Image:
    return replace(
        image,
        files={
            **image.files,
            "image.efi": uki.with_sections(image.files["image.efi"], [(".initrd", b"initrd", 0x40000040)]),
        },
    )


def with_file(name: str, change: Callable[[bytes], bytes]) -> Plant:
    return lambda image: replace(image, files={**image.files, name: change(image.files[name])})


def unlisted(image: Image) -> Image:
    return replace(image, root={**image.root, "etc/extra": file(b"")})


def changed_after(image: Image) -> Image:
    return replace(image, root={**image.root, CONFIG: file(b"other")})


def of_a_stranger(image: Image) -> Image:
    image.manifest.contents["root"][CONFIG][0] = "stranger"
    return image


def another_configuration(image: Image) -> Image:
    changed = in_root(CONFIG, file(b"other"))(image)
    changed.manifest.image["config"] = image.manifest.image["config"]
    return changed


def another_root_hash(image: Image) -> Image:
    verity = Verity.read(image.line)
    other = replace(verity, root=bytes(32))
    return with_line(lambda line: line.replace(verity.words, other.words))(image)


PORTS = f"{SITE}/vsock_bridge/ports.py"
STARTER = "opt/anchorhold/process_one.py"
PLANTED: list[tuple[str, str, Plant]] = [
    ("I2", "a file nobody listed", unlisted),
    ("I2", "a file changed after it was listed", changed_after),
    ("I2", "a file of a stranger", of_a_stranger),
    ("I6", "the broker", in_root(f"{SITE}/attestation/broker/store.py", file(b""))),
    ("I6", "the command line", in_root(f"{SITE}/anchorhold/command.py", file(b""))),
    ("I7", "another root hash", another_root_hash),
    ("I7", "no dm-verity", with_line(lambda line: line.replace("verity", "linear", 1))),
    ("I7", "a second device", with_line(lambda line: line.replace("dm-mod", "dm-mod.waitfor=x dm-mod", 1))),
    ("I7", "a block of the root", with_file("root.img", lambda raw: b"\xff" + raw[1:])),
    ("I7", "a block of the tree", with_file("root.img", lambda raw: raw[:-1] + b"\xff")),
    ("I7", "something behind the tree", with_file("root.img", lambda raw: raw + bytes(4096))),
    (
        "I8",
        "a mount to write to and execute from",
        said(STARTER, 'CLOSED, "hidepid=2"', 'calls.MS_NOSUID, "hidepid=2"'),
    ),
    ("I8", "a root to write to", said(STARTER, "calls.MS_RDONLY | calls.MS_NOSUID", "calls.MS_NOSUID")),
    ("I8", "a mount whose flags cannot be told", said(STARTER, 'CLOSED, "hidepid=2"', 'flags(), "hidepid=2"')),
    ("I9", "a lesser lockdown", adding("lockdown=integrity")),
    ("I9", "another list of security modules", adding("lsm=yama")),
    ("I9", "a word for the first program", adding("-c")),
    ("I9", "a kernel without lockdown", built("LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY", None)),
    ("I9", "modules", built("MODULES", "y")),
    ("I9", "kexec", built("KEXEC", "y")),
    ("I9", "the log for all", said(MACHINE, '"kernel.dmesg_restrict" = "1"', '"kernel.dmesg_restrict" = "0"')),
    ("I9", "tracing", said(MACHINE, '"kernel.yama.ptrace_scope" = "3"', '"kernel.yama.ptrace_scope" = "1"')),
    ("I10", "hibernation", built("HIBERNATION", "y")),
    ("I10", "swap", built("SWAP", "y")),
    ("I10", "a tool for swapping", in_root("usr/lib/swapon.py", file(b""))),
    ("I11", "core dumps", built("COREDUMP", "y")),
    ("I11", "dumps of set-id programs", said(MACHINE, '"fs.suid_dumpable" = "0"', '"fs.suid_dumpable" = "1"')),
    ("I11", "no bound on dumps", said(STARTER, "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))", "pass")),
    ("I12", "a shell", in_root("usr/bin/sh", link("python3.11"))),
    ("I12", "a getty", in_root("usr/sbin/agetty", file(an_elf(), 0o755))),
    ("I12", "a secure shell", in_root("usr/sbin/sshd", file(b"", 0o644))),
    ("I12", "another program", in_root("usr/bin/tool", file(an_elf("libc.so.6", interpreter="/lib64/ld.so")))),
    ("I12", "a script", in_root("usr/bin/script", file(b"#!/usr/bin/python3.11\n", 0o755))),
    ("I13", "a set-id file", in_root("etc/set-id", file(b"", 0o4644))),
    ("I13", "a file for all to write", in_root("etc/open", file(b"", 0o666))),
    ("I13", "a folder for all to write", in_root("tmp", folder(0o1777))),
    ("I13", "a device", in_root("dev/mem", Found(0o020600, b""))),
    ("I13", "root", said(MACHINE, "user = 990", "user = 0")),
    ("I14", "a console", adding("console=ttyS0")),
    ("I14", "a console before the console", adding("earlyprintk=serial")),
    ("I14", "messages of the kernel", without("quiet")),
    ("I14", "a log to the console", said(MACHINE, '"/dev/null"', '"/dev/console"')),
    ("I15", "a log without end", said(MACHINE, "bytes_max = 0", "bytes_max = 1048577")),
    ("I16", "the devnet", in_root(f"{SITE}/devnet/tee.py", file(b""))),
    ("I16", "a disk for a simulated machine", said(MACHINE, 'model = "', 'machine = "x"\nmodel = "')),
    ("I17", "a fourth port", said(PORTS, "OBSERVE = 5002", "OBSERVE = 5002\n    DEBUG = 5003")),
    ("I17", "another port", said(PORTS, "OBSERVE = 5002", "OBSERVE = 5003")),
    ("I18", "network devices", built("NETDEVICES", "y")),
    ("I18", "the Internet protocol", built("INET", "y")),
    ("I18", "a module in the root", in_root("usr/lib/modules/x.ko.xz", file(b""))),
    ("I19", "a library that is not there", in_root(f"{SITE}/x.so", file(an_elf("libgone.so.1")))),
    ("I19", "a library for nobody", in_root(f"{LIBRARIES}/libidle.so.1", file(an_elf()))),
    ("I21", "another first program", with_line(lambda line: line.replace("init=/usr/bin/python3.11", "init=/bin/sh"))),
    ("I21", "a first program for the initrd", with_line(lambda line: line.replace(" init=", " rdinit=/x init="))),
    ("I21", "another program for the interpreter", with_line(lambda line: line.replace("process_one", "start"))),
    ("I21", "a kernel that reads an initrd", built("BLK_DEV_INITRD", "y")),
    ("I22", "another configuration", another_configuration),
    ("I23", "byte code without source", in_root(f"{SITE}/__pycache__/gone.cpython-311.pyc", file(byte_code(b"")))),
    (
        "I23",
        "byte code of another source",
        in_root(f"{SITE}/vsock_bridge/__pycache__/ports.cpython-311.pyc", file(byte_code(b"other"))),
    ),
    ("I24", "another kernel in the program", with_file("vmlinuz", lambda raw: raw + b"!")),
    ("I24", "an initrd in the program", with_an_initrd),
    ("I25", "byte code", built("ACPI_STATIC_TABLES", None)),
    ("I25", "tables in memory", built("ACPI_MEMORY_GUARD", None)),
    ("I25", "tables from elsewhere", built("ACPI_CUSTOM_DSDT", "y")),
    ("I26", "an option left out", built("SLAB_FREELIST_HARDENED", None)),
    ("I26", "an option of another value", built("NR_CPUS", "8192")),
]
ALONGSIDE = {
    "a file changed after it was listed": {"I22"},
    "a fourth port": {"I23"},
    "another port": {"I23"},
    "a second device": {"I9"},
}
"""What the same plant breaks as well, where it cannot but."""


def broken(image: Image) -> set[str]:
    return {finding.rule for finding in findings(image)}


@pytest.mark.parametrize("profile", profile_names())
def test_the_small_image_breaks_no_rule_but_the_waived(profile: str) -> None:  # image.md I5
    waived = Profile.read(profile).waived
    assert list(findings(a_small_image(profile), waived)) == []
    assert broken(a_small_image(profile)) >= {"I14", "I16"} & waived.keys(), "a waiver that is not needed"


@pytest.mark.parametrize(
    ("rule", "plant"),
    [(rule, plant) for rule, _, plant in PLANTED],
    ids=[f"{rule} {what}" for rule, what, _ in PLANTED],
)
def test_what_is_planted_is_seen_by_its_rule_and_by_no_other(rule: str, plant: Plant) -> None:
    what = next(what for _, what, each in PLANTED if each is plant)
    image = plant(a_small_image())
    alongside = {"I26"} if rule != "I26" and image.kernel != a_small_image().kernel else set()  # it names them all
    assert broken(image) - ALONGSIDE.get(what, set()) - alongside == {rule}


def test_no_rule_has_a_check_that_nothing_was_planted_for() -> None:
    assert {rule for rule, _, _ in PLANTED} == CHECKS.keys()


def test_a_release_is_held_to_all_rules() -> None:  # image.md I5
    assert Profile.read("release").waived == {}


def test_a_finding_names_the_rule_and_the_place() -> None:
    found = [str(each) for each in findings(in_root("usr/bin/sh", link("python3.11"))(a_small_image()))]
    assert found == ["I12: usr/bin/sh has the name of a shell, a login or a tool"]


def test_the_digest_in_a_listing_is_of_the_content() -> None:
    image = a_small_image()
    assert image.manifest.contents["root"][CONFIG][3] == hashlib.sha256(image.root[CONFIG].content).hexdigest()
