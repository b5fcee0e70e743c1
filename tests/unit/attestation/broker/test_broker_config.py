"""The operator's file: each member is read, and one that does not fit is refused by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.broker.config import DEFAULT_PER_SECOND, Config
from attestation.broker.errors import StoreRefused

FILE = """listen = "[::1]:8443"
store = "sqlite:///broker.db"
wrapping = "file:kek"
certificate = "tls.pem"
key = "tls.key"
policy = "strict"
references = "references.toml"
"""


def read(folder: Path, text: str) -> Config:
    (folder / "references.toml").write_bytes(b"")
    (folder / "broker.toml").write_text(text, encoding="utf-8")
    return Config.read(folder / "broker.toml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, FILE)
    assert (config.host, config.port) == ("::1", 8443)
    assert config.store == f"sqlite:///{tmp_path}/broker.db"
    assert config.wrapping == f"file:{tmp_path}/kek"
    assert config.key == tmp_path / "tls.key"
    assert config.limits.each.per_second == DEFAULT_PER_SECOND
    assert config.judging.simulated_root is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("listen =", "config.toml"),
        ("", "config.listen"),
        (FILE.replace("8443", "70000"), "config.listen"),
        (FILE.replace('"strict"', "1"), "config.policy"),
        (FILE.replace("key = ", "# "), "config.key"),
        (FILE + "more = 1\n", "config.more"),
        (FILE + "requests_per_second = 0\n", "config.requests_per_second"),
        (FILE + "requests_per_second = true\n", "config.requests_per_second"),
        (FILE + "simulated_root = 1\n", "config.simulated_root"),
        (FILE + "endorsements = 1\n", "config.endorsements"),
        (FILE + "[endorsements]\nask = 1\n", "config.endorsements.ask"),
        (FILE + "[endorsements]\nother = 'x'\n", "config.endorsements.other"),
        (FILE + "[endorsements]\ncrls = 'x'\n", "config.endorsements.crls"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        read(tmp_path, text)
    assert refused.value.code == code
