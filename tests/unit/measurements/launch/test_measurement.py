"""What a machine reports, as one value: 48 bytes of SNP, 240 of TDX, and nothing else."""

from __future__ import annotations

import pytest

from measurements.launch.errors import LaunchRefused
from measurements.launch.measurement import LaunchMeasurement, SnpLaunchDigest, TdxRegisters, read_measurement
from measurements.reference import ReferenceValues

DIGEST = bytes(range(48))
REGISTERS = tuple(bytes([n]) * 48 for n in range(1, 5))
SNP = SnpLaunchDigest(DIGEST)
TDX = TdxRegisters(DIGEST, (REGISTERS[0], REGISTERS[1], REGISTERS[2], REGISTERS[3]))


@pytest.mark.parametrize(("value", "raw"), [(SNP, DIGEST), (TDX, DIGEST + b"".join(REGISTERS))], ids=["snp", "tdx"])
def test_there_and_back(value: LaunchMeasurement, raw: bytes) -> None:
    assert (value.encode(), value.hex(), read_measurement(raw)) == (raw, raw.hex(), value)


@pytest.mark.parametrize("size", [0, 1, 47, 49, 96, 239, 241, 480])
def test_no_other_length_is_a_measurement(size: int) -> None:
    with pytest.raises(LaunchRefused) as caught:
        read_measurement(bytes(size))
    assert (caught.value.code, caught.value.got) == ("launch.measurement", f"{size} bytes")


def test_a_value_cannot_be_made_of_other_lengths() -> None:
    for make in (
        lambda: SnpLaunchDigest(bytes(47)),
        lambda: SnpLaunchDigest(TDX.encode()),
        lambda: TdxRegisters(bytes(49), TDX.rtmrs),
        lambda: TdxRegisters(DIGEST, (DIGEST, DIGEST, DIGEST, b"")),
    ):
        with pytest.raises(LaunchRefused):
            make()


def test_what_evidence_of_these_machines_says() -> None:
    values = ReferenceValues.of_launches([SNP, SnpLaunchDigest(bytes(48)), TDX])
    assert values.allowed("snp.measurement") == {DIGEST, bytes(48)}
    assert values.allowed("tdx.mr_td") == {DIGEST}
    assert [values.allowed(f"tdx.rtmr{number}") for number in range(4)] == [{each} for each in REGISTERS]
