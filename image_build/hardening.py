"""What an image must not be, looked for in the image as it was written: one check for each rule of docs/spec/image.md.

    for rule, finding in findings(Image.read(folder, cache), waived=profile.waived):
        ...

A check sees bytes. What a rule comes to when the machine runs is tried from inside a booted one, by the tests.
"""

from __future__ import annotations

import _imp
import ast
import hashlib
import operator
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from image_build import elf, uki
from image_build.build import FIRST
from image_build.errors import ImageRefused
from image_build.finished_image import Found, Image
from image_build.kernel.configuration import Options
from image_build.kernel.inputs import CONFIGURATION
from image_build.profile import CONFIG
from image_build.staged import LIBRARIES, PYTHON
from image_build.tree import OURS
from image_build.verity import BLOCK_BYTES, Verity, tree_over

SITE: Final = "opt/anchorhold/site/"
LOG_BYTES_MAX: Final = 1 << 20
PORTS: Final = {"STREAM": 5000, "RELEASE": 5001, "OBSERVE": 5002}
SHELLS: Final = frozenset(
    {
        "ash",
        "bash",
        "busybox",
        "csh",
        "dash",
        "fish",
        "ksh",
        "rbash",
        "sh",
        "tcsh",
        "toybox",
        "zsh",
        "agetty",
        "getty",
        "login",
        "mingetty",
        "su",
        "sudo",
        "sulogin",
        "dropbear",
        "ssh",
        "sshd",
        "telnetd",
        "gdb",
        "gdbserver",
        "strace",
        "apt",
        "dpkg",
        "pip",
    }
)
TOLD: Final = frozenset(
    {
        "console=null",
        "console=ttyS0",
        "quiet",
        "loglevel=0",
        "loglevel=4",
        "random.trust_cpu=on",
        "random.trust_bootloader=off",
        "tsc=reliable",
    }
)
"""All that a command line may say besides the root and the first program: a word that the kernel does not know would
reach the first program."""
BUILT_WITH: Final[Mapping[str, Collection[str]]] = {
    "I9": (
        "SECURITY_LOCKDOWN_LSM_EARLY",
        "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
        "SECURITY_YAMA",
        "SECURITY_DMESG_RESTRICT",
        "STRICT_KERNEL_RWX",
        "RANDOMIZE_BASE",
        "PANIC_ON_OOPS",
        "INIT_ON_ALLOC_DEFAULT_ON",
        "INIT_ON_FREE_DEFAULT_ON",
    ),
    "I21": ("DM_INIT", "DM_VERITY", "EROFS_FS"),
    "I25": ("ACPI_STATIC_TABLES", "ACPI_MEMORY_GUARD"),
}
BUILT_WITHOUT: Final[Mapping[str, Collection[str]]] = {
    "I9": (
        "MODULES",
        "KEXEC",
        "KEXEC_FILE",
        "BPF_SYSCALL",
        "IO_URING",
        "USERFAULTFD",
        "NAMESPACES",
        "KPROBES",
        "FTRACE",
        "DEBUG_FS",
        "MAGIC_SYSRQ",
        "DEVMEM",
        "DEVPORT",
        "X86_MSR",
        "SYSVIPC",
        "BINFMT_MISC",
        "BINFMT_SCRIPT",
        "IA32_EMULATION",
    ),
    "I10": ("SWAP", "HIBERNATION", "SUSPEND", "ZRAM"),
    "I11": ("COREDUMP", "CRASH_DUMP", "PROC_VMCORE"),
    "I18": (
        "NETDEVICES",
        "INET",
        "PACKET",
        "WIRELESS",
        "USB_SUPPORT",
        "VT",
        "INPUT",
        "SERIO",
        "HW_RANDOM",
        "TCG_TPM",
        "VIRTIO_BALLOON",
        "VIRTIO_MMIO",
        "VIRTIO_PCI_LEGACY",
        "VSOCKETS_LOOPBACK",
        "SCSI",
        "ATA",
        "BLK_DEV_NVME",
        "DMI",
        "FW_CFG_SYSFS",
        "RTC_CLASS",
    ),
    "I21": ("BLK_DEV_INITRD",),
    "I25": ("ACPI_TABLE_UPGRADE", "ACPI_CUSTOM_DSDT", "ACPI_CONFIGFS", "PCI_MMCONFIG", "X86_MPPARSE"),
}
"""Of the configuration that the kernel itself carries. What a rule does not name, I26 holds to our own file."""
SILENT: Final = frozenset({"console=null", "quiet", "loglevel=0"})
SPEAKING: Final = ("console=", "earlycon", "earlyprintk", "netconsole", "debug", "ignore_loglevel")
SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "I9": {"kernel.yama.ptrace_scope": "3", "kernel.dmesg_restrict": "1", "kernel.perf_event_paranoid": "3"},
    "I11": {"fs.suid_dumpable": "0"},
}
STARTER: Final = "opt/anchorhold/process_one.py"

Check = Callable[[Image], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


def findings(image: Image, waived: Collection[str] = ()) -> Iterator[Finding]:
    """Everything that breaks a rule, by rule. What a profile waives is said in its declaration and nowhere else."""
    for rule, check in CHECKS.items():
        if rule not in waived:
            for what in check(image):
                yield Finding(rule, what)


def everything_has_an_owner(image: Image) -> Iterator[str]:
    """I2: of a listed package, byte for byte as listed."""
    known = {each["name"] for each in image.manifest.image["inputs"]} | {OURS}
    listed = image.manifest.contents["root"]
    there = {path for path, found in image.root.items() if not found.is_folder}
    for path in sorted(there - listed.keys()):
        yield f"{path} is nobody's"
    for path in sorted(listed.keys() - image.root.keys()):
        yield f"{path} is listed and not there"
    for path in sorted(there & listed.keys()):
        owner, _, _, digest = listed[path]
        if owner not in known:
            yield f"{path} is of {owner}, which no input is"
        if hashlib.sha256(image.root[path].content).hexdigest() != digest:
            yield f"{path} is not what is listed"


def only_what_the_cell_needs(image: Image) -> Iterator[str]:
    """I6."""
    for path in image.root:
        for part in ("attestation/broker", "attestation/auditor", "image_build", "anchorhold", "tests", "bench"):
            if path.startswith(f"{SITE}{part}/"):
                yield f"{path} is not the cell's"


def the_root_is_covered(image: Image) -> Iterator[str]:
    """I7."""
    try:
        said = Verity.read(image.line)
    except ImageRefused as reason:
        yield str(reason)
        return
    raw = image.files["root.img"]
    data = raw[: said.blocks * BLOCK_BYTES]
    tree, root = tree_over(data, said.salt)
    if root != said.root:
        yield "the root hash of the command line is of other blocks"
    if data + tree != raw:
        yield "the tree behind the root is not over it, or something is behind the tree"


def nothing_written_can_be_executed(image: Image) -> Iterator[str]:
    """I8: every mount of the program that starts the machine is read-only or takes execution away."""
    source = image.root[STARTER].content
    names = _constants(source, _constants(image.root["opt/anchorhold/calls.py"].content, {}))
    for call in _calls(source, "mount"):
        flags = _value(call.args[3], names)
        if not (flags & (_MS_RDONLY | _MS_NOEXEC) and flags & _MS_NOSUID):
            yield f"{STARTER}:{call.lineno}: a mount that can be written to and executed from"


def the_kernel_is_shut(image: Image) -> Iterator[str]:
    """I9."""
    for word in image.told:
        if word not in TOLD and not word.startswith(SPEAKING):
            yield f"the command line has {word}"
    yield from _settings(image, "I9")
    yield from _built(image, "I9")


def nothing_is_swapped(image: Image) -> Iterator[str]:
    """I10: no suspend to disk, no device to swap to, nothing that would."""
    yield from _built(image, "I10")
    for path in image.root:
        if any(name in path.rpartition("/")[2] for name in ("swapon", "mkswap", "zram", "zswap", "swapfile")):
            yield f"{path} is for swapping"


def nothing_is_dumped(image: Image) -> Iterator[str]:
    """I11."""
    yield from _settings(image, "I11")
    yield from _built(image, "I11")
    source = image.root["opt/anchorhold/process_one.py"].content
    bounds = [ast.unparse(call) for call in _calls(source, "setrlimit")]
    if "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))" not in bounds or "core" in image.machine["limits"]:
        yield "process 1 does not forbid core dumps"


def one_program(image: Image) -> Iterator[str]:
    """I12: the interpreter. What else is executable is a library; the loader and the C library start no program."""
    loader = f"{LIBRARIES}/ld-linux-x86-64.so.2"
    for path, found in image.root.items():
        if path.rpartition("/")[2] in SHELLS and not found.is_folder:
            yield f"{path} has the name of a shell, a login or a tool"
        if not found.is_file or path in {PYTHON, loader}:
            continue
        if found.mode & 0o111 and not (elf.is_elf(found.content) and ".so" in path.rpartition("/")[2]):
            yield f"{path} can be executed"
        if elf.is_elf(found.content) and elf.interpreter(found.content) and path != f"{LIBRARIES}/libc.so.6":
            yield f"{path} is a program"


def nothing_gives_rights(image: Image) -> Iterator[str]:
    """I13."""
    for path, found in image.root.items():
        if found.mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
            yield f"{path} has a set-id or sticky bit"
        if found.mode & 0o022 and not stat.S_ISLNK(found.mode):
            yield f"{path} can be written by others"
        if not (found.is_file or found.is_folder or stat.S_ISLNK(found.mode)):
            yield f"{path} is a device, a socket or a pipe"
    user = image.machine["user"]
    if not isinstance(user, int) or user < 100:
        yield f"the cell runs as user {user}"


def nothing_is_printed(image: Image) -> Iterator[str]:
    """I14."""
    for word in sorted(SILENT - set(image.told)):
        yield f"the command line lacks {word}"
    for word in image.told:
        if word.startswith(SPEAKING) and word not in SILENT:
            yield f"the command line has {word}"
    if image.machine["log"]["to"] != "/dev/null":
        yield f"the cell's log goes to {image.machine['log']['to']}"


def the_log_is_bounded(image: Image) -> Iterator[str]:
    """I15."""
    most = image.machine["log"]["bytes_max"]
    if not isinstance(most, int) or not 0 <= most <= LOG_BYTES_MAX:
        yield f"the log may have {most} bytes, over {LOG_BYTES_MAX}"


def nothing_is_simulated(image: Image) -> Iterator[str]:
    """I16."""
    for path in image.root:
        if path.startswith(f"{SITE}devnet/"):
            yield f"{path} is the devnet's"
    for name in sorted(image.machine["disks"].keys() - {"model"}):
        yield f"process 1 takes a disk for {name}"


def three_ports(image: Image) -> Iterator[str]:
    """I17."""
    ports = image.root.get(f"{SITE}vsock_bridge/ports.py")
    if ports is None:
        yield "there is no list of ports"
        return
    found = {
        target.id: each.value.value
        for node in ast.walk(ast.parse(ports.content))
        if isinstance(node, ast.ClassDef) and node.name == "Port"
        for each in node.body
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    if found != PORTS:
        yield f"the window has {found}"


def no_other_drivers(image: Image) -> Iterator[str]:
    """I18: all drivers are in the kernel, and are few."""
    for path in image.root:
        if ".ko" in path.rpartition("/")[2]:
            yield f"{path} is a module"
    yield from _built(image, "I18")


def every_library_is_there(image: Image) -> Iterator[str]:
    """I19: stands in for the dependencies of packages, which nobody resolves here; and none is there for nobody."""
    asked = {
        wanted
        for found in image.root.values()
        if found.is_file and elf.is_elf(found.content)
        for wanted in elf.needed(found.content)
    }
    asked |= {
        image.root[f"{LIBRARIES}/{name}"].content.decode()
        for name in asked
        if stat.S_ISLNK(image.root.get(f"{LIBRARIES}/{name}", _NOTHING).mode)
    }
    for path, found in image.root.items():
        if found.is_file and path.startswith(f"{LIBRARIES}/") and path.rpartition("/")[2] not in asked:
            yield f"{path} is a library that nothing asks for"
    for path, found in image.root.items():
        if not found.is_file or not elf.is_elf(found.content):
            continue
        for wanted in elf.needed(found.content):
            beside = f"{path.rpartition('/')[0]}/{wanted}"
            if not {f"{LIBRARIES}/{wanted}", beside} & image.root.keys() and not _bundled(image.root, wanted):
                yield f"{path} asks for {wanted}, which is not there"


def the_kernel_opens_the_root(image: Image) -> Iterator[str]:
    """I21: by the command line, and then starts the one program of the root; nothing comes before it."""
    yield from _built(image, "I21")
    if not image.line.endswith(f" rootfstype=erofs {FIRST}"):
        yield f"the command line does not end in the root and {FIRST}"
    if STARTER not in image.root:
        yield f"{STARTER} is not there"


def acpi_is_left(image: Image) -> Iterator[str]:
    """I25."""
    yield from _built(image, "I25")


def the_kernel_is_as_declared(image: Image) -> Iterator[str]:
    """I26: every line of our configuration is in the one that the kernel carries."""
    yield from Options.parse(CONFIGURATION.read_text()).departures(image.kernel)


def the_configuration_is_inside(image: Image) -> Iterator[str]:
    """I22: one, where the cell is told to look, and the one of the manifest."""
    found = image.root.get(CONFIG)
    if found is None or hashlib.sha256(found.content).hexdigest() != image.manifest.image["config"]:
        yield f"{CONFIG} is not there, or not what the manifest says"


def byte_code_is_of_its_source(image: Image) -> Iterator[str]:
    """I23: what runs is what can be read beside it, as far as a hash of the source says so."""
    for path, found in image.root.items():
        if not path.endswith(".pyc"):
            continue
        folder, _, name = path.rpartition("/__pycache__/")
        source = image.root.get(f"{folder}/{name.split('.')[0]}.py")
        magic, flags = found.content[:4], int.from_bytes(found.content[4:8], "little")
        if source is None:
            yield f"{path} has no source"
        elif flags != _UNCHECKED or found.content[8:16] != _imp.source_hash(
            int.from_bytes(magic, "little"), source.content
        ):
            yield f"{path} is not of its source"


def the_unified_image_is_the_same(image: Image) -> Iterator[str]:
    """I24."""
    sections = uki.sections_of(image.files["image.efi"])
    for section, name in ((".linux", "vmlinuz"), (".cmdline", "cmdline")):
        if sections.get(section) != image.files[name]:
            yield f"image.efi has another {name}"
    if ".initrd" in sections:
        yield "image.efi has an initrd"


CHECKS: Final[Mapping[str, Check]] = {
    "I2": everything_has_an_owner,
    "I6": only_what_the_cell_needs,
    "I7": the_root_is_covered,
    "I8": nothing_written_can_be_executed,
    "I9": the_kernel_is_shut,
    "I10": nothing_is_swapped,
    "I11": nothing_is_dumped,
    "I12": one_program,
    "I13": nothing_gives_rights,
    "I14": nothing_is_printed,
    "I15": the_log_is_bounded,
    "I16": nothing_is_simulated,
    "I17": three_ports,
    "I18": no_other_drivers,
    "I19": every_library_is_there,
    "I21": the_kernel_opens_the_root,
    "I22": the_configuration_is_inside,
    "I23": byte_code_is_of_its_source,
    "I24": the_unified_image_is_the_same,
    "I25": acpi_is_left,
    "I26": the_kernel_is_as_declared,
}

_MS_RDONLY, _MS_NOSUID, _MS_NOEXEC = 1, 2, 8
_UNCHECKED: Final = 0b01
_NOTHING: Final = Found(0, b"")
_JOINED: Final = {ast.BitOr: operator.or_, ast.LShift: operator.lshift}


def _settings(image: Image, rule: str) -> Iterator[str]:
    told = image.machine["sysctl"]
    for name, value in SETTINGS[rule].items():
        if told.get(name) != value:
            yield f"{name} is {told.get(name)!r}, and not {value!r}"


def _built(image: Image, rule: str) -> Iterator[str]:
    for name in BUILT_WITH.get(rule, ()):
        if image.kernel.get(f"CONFIG_{name}") != "y":
            yield f"the kernel is built without {name}"
    for name in BUILT_WITHOUT.get(rule, ()):
        if f"CONFIG_{name}" in image.kernel:
            yield f"the kernel is built with {name}"


def _bundled(tree: Mapping[str, Found], wanted: str) -> bool:
    """A library that a wheel brings with it, under a name that is nobody else's."""
    return any(path.startswith(SITE) and path.endswith(f".libs/{wanted}") for path in tree)


def _calls(source: bytes, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            yield node


def _constants(source: bytes, known: Mapping[str, int]) -> dict[str, int]:
    """Names that the program gives numbers to, wherever it does."""
    found = dict(known)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        match node.targets[0], node.value:
            case ast.Tuple(elts=names), ast.Tuple(elts=values):
                pairs = list(zip(names, values, strict=True))
            case target, value:
                pairs = [(target, value)]
        for target, value in pairs:
            number = _value(value, found)
            if isinstance(target, ast.Name) and number:
                found[target.id] = number
    return found


def _value(node: ast.expr, names: Mapping[str, int]) -> int:
    """Of flags joined with |; what cannot be told counts as none, so that it is reported."""
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return names.get(name, 0)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _JOINED:
            joined: Any = _JOINED[type(op)]
            return int(joined(_value(left, names), _value(right, names)))
        case _:
            return 0
