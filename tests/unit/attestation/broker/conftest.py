"""A broker with its secrets, and one approved release."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.little_broker import LittleBroker, MakeBroker


@pytest.fixture
def little(tmp_path: Path, make_broker: MakeBroker) -> LittleBroker:
    return make_broker(tmp_path)
