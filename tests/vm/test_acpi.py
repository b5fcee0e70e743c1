"""A host that writes ACPI tables: on Debian's kernel each of them changes the guest's memory, on the sealed image none.

image.md I25. The memory is looked at from outside. Needs `make vm-tools`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from devnet.sealed_machine import World, world
from tests.vm.acpi_attacks import ATTACKS, MARK, TARGET, AcpiAttack, Genuine, genuine_tables
from tests.vm.needs import need_tools
from tests.vm.tables import is_table, store, table

pytestmark = pytest.mark.vm
EACH = pytest.mark.parametrize("attack", ATTACKS, ids=[each.name for each in ATTACKS])


@pytest.fixture(scope="module")
def genuine() -> Mapping[int, Genuine]:
    """By number of processors; made with a machine that shows that the page stays as it was without an attack."""
    need_tools()
    return {vcpus: genuine_tables(vcpus) for vcpus in sorted({each.vcpus for each in ATTACKS})}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[int, World]]:
    """By number of processors, which is another measurement, and so another release."""
    need_tools()
    with ExitStack() as stack:
        yield {
            vcpus: stack.enter_context(world(tmp_path_factory.mktemp("acpi")))
            for vcpus in sorted({each.vcpus for each in ATTACKS})
        }


@EACH
def test_on_a_stock_kernel_it_changes_memory(genuine: Mapping[int, Genuine], attack: AcpiAttack) -> None:
    tried = attack.on_stock(genuine[attack.vcpus])
    assert not tried.held, tried.happened


@EACH
def test_on_the_sealed_image_it_changes_nothing(
    worlds: Mapping[int, World], genuine: Mapping[int, Genuine], attack: AcpiAttack
) -> None:
    tried = attack.on_sealed(worlds[attack.vcpus], genuine[attack.vcpus])
    assert tried.held, tried.happened


def test_byte_code_of_a_store_is_what_the_specification_says() -> None:
    """DefOpRegion, DefField and DefStore of a buffer, and a table around them whose bytes add up to 0."""
    code = store(TARGET, b"\x01\x02")
    assert code == bytes.fromhex(
        "5b80 52474e30 00 0c00000500 0c02000000"  # OperationRegion(RGN0, SystemMemory, 0x50000, 2)
        "5b81 0b 52474e30 01 464c4430 10"  # Field(RGN0, ByteAcc) { FLD0, 16 }
        "70 11 08 0c02000000 0102 464c4430"  # Store(Buffer(2) {1, 2}, FLD0)
    )
    assert is_table(table(b"SSDT", code))
    assert not is_table(table(b"SSDT", code) + b"\0")
    assert len(store(TARGET, MARK)) > 63
