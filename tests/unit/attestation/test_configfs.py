"""Quotes through configfs-tsm, against a model of it: called directly, and mounted for the system calls."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from attestation.evidence.kinds import TeeKind
from attestation.tee.configfs import REPORT_ROOT, ConfigfsTee, KernelFiles, ReportDirectory
from attestation.tee.errors import TeeRefused
from tests.fakes import fuse
from tests.fakes.configfs_tsm import DirectFiles, FakeTsm, Signer

REPORT_DATA = bytes(range(64))
OTHER_DATA = b"\xee" * 64
NO_FUSE = fuse.available() if Path("/dev/fuse").exists() else "this machine has no /dev/fuse"


def snp(report_data: bytes) -> tuple[bytes, bytes]:
    report = bytearray(0x4A0)
    report[0x50:0x90] = report_data.ljust(64, b"\0")
    return bytes(report), b"certificates"


def tdx(report_data: bytes, padding: bytes = bytes(100)) -> tuple[bytes, bytes]:
    body = bytearray(584)
    body[520:584] = report_data
    return b"\x04\0".ljust(48, b"\0") + body + (12).to_bytes(4, "little") + b"signature..." + padding, b""


class Reach(Protocol):
    """How a test's TEE reaches the model."""

    def __call__(self, tsm: FakeTsm) -> Iterator[dict[str, object]]: ...


@contextmanager
def directly(tsm: FakeTsm) -> Iterator[dict[str, object]]:
    yield {"root": REPORT_ROOT, "files": DirectFiles(tsm)}


@contextmanager
def through_the_kernel(tsm: FakeTsm) -> Iterator[dict[str, object]]:
    with fuse.mounted(tsm) as folder:
        yield {"root": folder}


@pytest.fixture(
    params=[
        pytest.param(directly, id="direct"),
        pytest.param(
            through_the_kernel, id="kernel", marks=pytest.mark.skipif(NO_FUSE is not None, reason=NO_FUSE or "")
        ),
    ]
)
def reach(request: pytest.FixtureRequest):
    return request.param


def quote(reach, tsm: FakeTsm, kind: TeeKind = TeeKind.SNP, **options: object):
    with reach(tsm) as place:
        return ConfigfsTee(kind, **place, **options).quote(REPORT_DATA)  # type: ignore[arg-type]


def refusal(reach, tsm: FakeTsm, **options: object) -> TeeRefused:
    with pytest.raises(TeeRefused) as caught:
        quote(reach, tsm, **options)
    return caught.value


@pytest.mark.parametrize(
    ("provider", "sign", "kind", "size", "auxblob"),
    [("sev_guest", snp, TeeKind.SNP, 0x4A0, b"certificates"), ("tdx_guest", tdx, TeeKind.TDX, 48 + 584 + 4 + 12, b"")],
)
# evidence-production.md E110, E113
def test_one_path_serves_both(reach, provider: str, sign: Signer, kind: TeeKind, size: int, auxblob: bytes):
    tsm = FakeTsm(provider, sign)
    with reach(tsm) as place:
        tee = ConfigfsTee.detect(**place)
        assert tee.kind is kind
        evidence = tee.quote(REPORT_DATA)
    assert (evidence.kind, len(evidence.report), evidence.auxblob) == (kind, size, auxblob)
    assert REPORT_DATA in evidence.report
    assert tsm.items == {}, "a directory was left behind"


def test_each_request_has_a_directory_of_its_own(reach):  # evidence-production.md E110
    names: list[str] = []
    tsm = FakeTsm("sev_guest", snp)
    tsm.before["open", "outblob"] = [lambda: names.extend(tsm.items)] * 2
    with reach(tsm) as place:
        tee = ConfigfsTee(TeeKind.SNP, **place)
        tee.quote(REPORT_DATA)
        tee.quote(REPORT_DATA)
    assert len(names) == len(set(names)) == 2


def test_options_are_written_before_the_data(reach):  # evidence-production.md E111
    tsm = FakeTsm("sev_guest", snp, svsm=True, privlevel_floor=1)
    quote(reach, tsm, privlevel=2, service_provider="svsm")
    written = [attribute for operation, attribute in tsm.journal if operation == "write"]
    assert written == ["privlevel", "service_provider", "inblob"]


@pytest.mark.parametrize(
    "moment",
    [
        ("open", "inblob"),
        ("open", "outblob"),
        ("read", "outblob"),
        ("open", "auxblob"),
        ("read", "auxblob"),
        ("open", "provider"),
    ],
)
# evidence-production.md E111
def test_a_write_of_somebody_else_is_noticed_and_the_request_repeated(reach, moment: tuple[str, str]):
    tsm = FakeTsm("sev_guest", snp)
    tsm.before[moment] = [lambda: tsm.intrude(OTHER_DATA)]
    assert quote(reach, tsm).report[0x50:0x90] == REPORT_DATA
    assert sum(call == ("write", "inblob") for call in tsm.journal) == 2


def test_repeating_is_bounded(reach):  # evidence-production.md E111
    tsm = FakeTsm("sev_guest", snp)
    tsm.before["open", "outblob"] = [lambda: tsm.intrude(OTHER_DATA)] * 1000
    assert refusal(reach, tsm).code == "report.disturbed"
    assert sum(call == ("write", "inblob") for call in tsm.journal) == 3
    assert tsm.items == {}


@pytest.mark.parametrize("attribute", ["inblob", "privlevel"])
def test_a_write_the_kernel_threw_away_is_noticed(reach, attribute: str):  # evidence-production.md E111
    tsm = FakeTsm("sev_guest", snp, discarded={attribute})
    assert refusal(reach, tsm, privlevel=1).code == "report.disturbed"


def test_an_error_on_close_reaches_nobody_and_is_noticed_all_the_same(reach):  # evidence-production.md E111
    tsm = FakeTsm("sev_guest", snp, faults={("release", "inblob"): errno.EBUSY})
    assert refusal(reach, tsm).code == "report.disturbed"


def test_a_lost_write_made_up_for_by_a_foreign_one_is_noticed_in_the_report(reach):  # evidence-production.md E114
    """The generation agrees: one write was expected, and one happened, only it was not ours."""
    tsm = FakeTsm("sev_guest", snp, discarded={"inblob"})
    tsm.before["release", "inblob"] = [lambda: tsm.intrude(OTHER_DATA)]
    assert refusal(reach, tsm).code == "report.other-data"


ERRNOS = {
    errno.EINVAL: "report.input-refused",
    errno.EBUSY: "report.busy",
    errno.ETIMEDOUT: "report.timed-out",
    errno.ENXIO: "report.no-tee",
    errno.ENOTTY: "report.no-tee",
    errno.EFBIG: "report.too-big",
    errno.EIO: "report.quoting-failed",
    errno.EACCES: "report.forbidden",
    errno.EPERM: "report.forbidden",
    errno.ENOMEM: "report.os-error",
}


@pytest.mark.parametrize(("code", "name"), ERRNOS.items(), ids=[errno.errorcode[code] for code in ERRNOS])
@pytest.mark.parametrize("place", [("mkdir", ""), ("write", "inblob"), ("read", "outblob"), ("read", "auxblob")])
# evidence-production.md E110, E112
def test_every_errno_has_a_name_and_the_directory_goes(reach, code: int, name: str, place: tuple[str, str]):
    tsm = FakeTsm("sev_guest", snp, faults={place: code})
    refused = refusal(reach, tsm)
    assert (refused.code, refused.stage) == (name, "tee")
    assert errno.errorcode[code] in refused.got
    assert tsm.journal.count(place) == 1, "it was asked again"
    assert tsm.items == {}


def test_an_interrupted_request_is_named(reach):  # evidence-production.md E112
    """At mkdir, because Python itself repeats an interrupted read of the real system call."""
    tsm = FakeTsm("sev_guest", snp, faults={("mkdir", ""): errno.EINTR})
    assert refusal(reach, tsm).code == "report.interrupted"


def test_an_interrupted_read_is_named():  # evidence-production.md E112
    tsm = FakeTsm("tdx_guest", tdx, faults={("read", "outblob"): errno.EINTR})
    assert refusal(directly, tsm, kind=TeeKind.TDX).code == "report.interrupted"


def test_no_driver(reach):  # evidence-production.md E112
    assert refusal(reach, FakeTsm(None, snp)).code == "report.no-tee"


def test_no_configfs_at_all(tmp_path: Path):  # evidence-production.md E112
    with pytest.raises(TeeRefused) as caught:
        ConfigfsTee.detect(tmp_path / "tsm" / "report")
    assert caught.value.code == "report.no-attribute"


def test_a_name_in_use_is_not_shared(reach):  # evidence-production.md E110, E112
    tsm = FakeTsm("sev_guest", snp)
    tsm.mkdir("taken")
    assert refusal(reach, tsm, new_name=lambda: "taken").code == "report.name-taken"
    assert list(tsm.items) == ["taken"], "somebody else's directory was removed"


def test_where_none_can_be_made_the_given_one_is_used_and_stays(reach):  # evidence-production.md E110
    tsm = FakeTsm("sev_guest", snp)
    tsm.mkdir("cell")
    tsm.faults["mkdir", ""] = errno.EACCES
    with reach(tsm) as place:
        tee = ConfigfsTee.detect(**place)
        for _ in range(2):
            assert REPORT_DATA in tee.quote(REPORT_DATA).report
    assert list(tsm.items) == ["cell"]


def test_a_user_who_may_ask_nothing_is_told_so(reach):  # evidence-production.md E110
    tsm = FakeTsm("sev_guest", snp)
    tsm.faults["mkdir", ""] = errno.EACCES
    with reach(tsm) as place, pytest.raises(TeeRefused):
        ConfigfsTee.detect(**place)


def test_an_unknown_driver_is_refused(reach):  # evidence-production.md E113
    tsm = FakeTsm("arm_cca_guest", snp)
    with reach(tsm) as place, pytest.raises(TeeRefused) as caught:
        ConfigfsTee.detect(**place)
    assert caught.value.code == "report.provider"


def test_the_kind_cannot_change_after_detection(reach):  # evidence-production.md E113
    assert refusal(reach, FakeTsm("sev_guest", snp), kind=TeeKind.TDX).code == "report.provider"


@pytest.mark.parametrize(
    ("provider", "option"), [("tdx_guest", {"privlevel": 0}), ("sev_guest", {"service_provider": "svsm"})]
)
# evidence-production.md E112
def test_an_option_the_driver_lacks_is_refused(reach, provider: str, option: dict[str, object]):
    assert refusal(reach, FakeTsm(provider, snp), **option).code == "report.no-attribute"


@pytest.mark.parametrize("level", [0, 4, -1])
def test_a_privilege_level_out_of_reach_is_refused_before_it_is_written(reach, level: int):
    tsm = FakeTsm("sev_guest", snp, privlevel_floor=1)
    assert refusal(reach, tsm, privlevel=level).code == "report.privlevel"
    assert ("write", "privlevel") not in tsm.journal


@pytest.mark.parametrize(
    ("sign", "kind", "provider", "code"),
    [
        (lambda data: (snp(data)[0][:-1], b""), TeeKind.SNP, "sev_guest", "outblob.length"),
        (lambda data: (snp(data)[0] + b"\0", b""), TeeKind.SNP, "sev_guest", "outblob.length"),
        (lambda _: snp(OTHER_DATA), TeeKind.SNP, "sev_guest", "report.other-data"),
        (lambda _: tdx(OTHER_DATA), TeeKind.TDX, "tdx_guest", "report.other-data"),
        (lambda data: tdx(data, b"\0\0\1"), TeeKind.TDX, "tdx_guest", "outblob.padding"),
        (lambda data: (tdx(data, b"")[0][:-1], b""), TeeKind.TDX, "tdx_guest", "outblob.length"),
        (lambda _: (b"", b""), TeeKind.TDX, "tdx_guest", "outblob.length"),
        (lambda data: (b"\x03" + tdx(data)[0][1:], b""), TeeKind.TDX, "tdx_guest", "outblob.version"),
        (lambda _: (bytes(33 * 1024), b""), TeeKind.TDX, "tdx_guest", "report.too-big"),
    ],
)
# evidence-production.md E114, E115
def test_a_report_that_is_not_the_one_asked_for(reach, sign: Signer, kind: TeeKind, provider: str, code: str):
    assert refusal(reach, FakeTsm(provider, sign), kind=kind).code == code


@pytest.mark.parametrize("length", [0, 63, 65])
def test_the_data_is_64_bytes(length: int):
    tsm = FakeTsm("sev_guest", snp)
    with pytest.raises(TeeRefused) as caught:
        ConfigfsTee(TeeKind.SNP, files=DirectFiles(tsm)).quote(bytes(length))
    assert caught.value.code == "report.data-length"
    assert tsm.journal == []


def test_garbage_where_a_number_belongs(reach):
    tsm = FakeTsm("sev_guest", snp)
    tsm._show = lambda *_: b"-1\n"  # type: ignore[method-assign]
    assert refusal(reach, tsm).code == "report.generation"


def test_a_quote_may_be_padded_to_all_there_is_room_for(reach):  # evidence-production.md E115
    size = 32 * 1024 - len(tdx(REPORT_DATA, b"")[0])
    tsm = FakeTsm("tdx_guest", lambda data: tdx(data, bytes(size)))
    assert quote(reach, tsm, TeeKind.TDX).report == tdx(REPORT_DATA, b"")[0]
    tsm.sign = lambda data: tdx(data, bytes(size + 1))
    assert refusal(reach, tsm, kind=TeeKind.TDX).code == "report.too-big"


@pytest.mark.skipif(NO_FUSE is not None, reason=NO_FUSE or "")
def test_a_write_taken_in_part_is_no_write():
    tsm = FakeTsm("sev_guest", snp)
    tsm.write = lambda _number, _offset, value: len(value) - 1  # type: ignore[method-assign]
    assert refusal(through_the_kernel, tsm).code == "report.quoting-failed"


@pytest.mark.parametrize(("size", "seen"), [(0, 0), (9, 9), (10, 10), (11, 11), (5000, 11)])
def test_a_file_is_read_no_further_than_one_byte_too_many(tmp_path: Path, size: int, seen: int):
    (tmp_path / "outblob").write_bytes(bytes(size))
    assert len(KernelFiles().read(tmp_path / "outblob", 10)) == seen
    directory = ReportDirectory(KernelFiles(), tmp_path)
    if size <= 10:
        assert directory.read("outblob", 10) == bytes(size)
        return
    with pytest.raises(TeeRefused) as caught:
        directory.read("outblob", 10)
    assert caught.value.code == "report.too-big"
