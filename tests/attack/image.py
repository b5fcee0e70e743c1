"""Attacks on the image itself: what somebody who can change a build puts in, before the check of a finished image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from image_build import hardening
from image_build.finished_image import Found, Image
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import Attack, add
from tests.attack.room import Room
from tests.attack.weakening import Patch
from tests.images import SITE, a_small_image, file, listed

Change = Callable[[Image], Image]


def with_file(path: str, content: bytes, mode: int = 0o644) -> Change:
    """Listed in the manifest, as somebody would who knows what is looked at."""
    return lambda image: listed(replace(image, root={**image.root, path: file(content, mode)}))


def unlisted(path: str) -> Change:
    return lambda image: replace(image, root={**image.root, path: Found(0o100644, b"a way in")})


def another_root(image: Image) -> Image:
    """Other blocks than the command line's root hash is of, with the tree as it was."""
    raw = bytearray(image.files["root.img"])
    raw[0] ^= 1
    return replace(image, files={**image.files, "root.img": bytes(raw)})


def found(change: Change, rule: str) -> Callable[[Room], Outcome]:
    def run(room: Room) -> Outcome:
        rules = {each.rule for each in hardening.findings(change(a_small_image()))}
        if rule in rules:
            return held(f"found: {rule}")
        if rules:
            raise Unexpected(f"expected {rule}, got {sorted(rules)}")
        return broken("the check finds nothing")

    return run


def unasked(rule: str) -> Callable[[Patch], None]:
    def weaken(patch: Patch) -> None:
        checks = patch.now("image_build.hardening:CHECKS")
        patch.put("image_build.hardening:CHECKS", {name: check for name, check in checks.items() if name != rule})

    return weaken


PLANTED: dict[str, tuple[str, Change, str, str]] = {
    "simulated-chip": (
        "the devnet's simulated chip in a release image",
        with_file(f"{SITE}/devnet/tee.py", b"# believe me"),
        "I16",
        "nothing of the devnet is in a release (I16)",
    ),
    "second-program": (
        "a shell in the image",
        with_file("usr/bin/sh", b"\x7fELF", 0o755),
        "I12",
        "one program can be run (I12)",
    ),
    "file-of-nobody": (
        "a file that no package brought and no list names",
        unlisted("opt/anchorhold/extra"),
        "I2",
        "every file has an owner, byte for byte as listed (I2)",
    ),
    "root-behind-its-hash": (
        "other blocks than the root hash on the command line is of",
        another_root,
        "I7",
        "the root hash is made anew from the blocks (I7)",
    ),
}

for name, (tries, change, rule, defence) in PLANTED.items():
    add(Attack(f"image.{name}", tries, defence, found(change, rule), unasked(rule)))
