"""evidence.md E130 to E137: what a policy document may say, and what is said of one that may not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import PolicyMalformed
from attestation.evidence.snp_report import Cpuid, Firmware, Product, Tcb
from attestation.policy import document, fields
from attestation.policy.appraise import appraise
from attestation.policy.claims import Appraisal, Claim, ClaimStanding, Unchecked
from attestation.policy.explain import explain, words
from attestation.policy.fields import Flag, OneOf, Required, Unfit
from attestation.policy.snp import SnpPolicy, TcbMinimum, read_abi, read_firmware, read_minimum_tcb
from foundation.refusal import shown
from measurements.reference import ReferenceValues
from tests.unit.attestation.forge import Forge

HEAD = b'name = "mine"\nabout = "machines of mine"\nextends = "strict"\n'


def refused(text: str | bytes) -> PolicyMalformed:
    with pytest.raises(PolicyMalformed) as caught:
        document.parse(text if isinstance(text, bytes) else text.encode(), called="mine.toml")
    assert caught.value.stage == "policy document"
    return caught.value


def test_a_document_extends_a_builtin_and_replaces_fields() -> None:  # evidence.md E130
    policy = document.parse(HEAD + b'[snp]\nsmt = "required"\nvmpl = [0, 2]\n')
    assert policy.snp is not None
    assert (policy.name, policy.about, policy.snp.smt) == ("mine", "machines of mine", Flag.REQUIRED)
    assert policy.snp.vmpl == frozenset({0, 2})
    assert policy.snp.debug is Flag.FORBIDDEN


def test_tables_are_replaced_whole(  # evidence.md E130
) -> None:
    policy = document.parse(HEAD + b'[snp.minimum_firmware]\nTurin = "1.2.3"\n')
    assert policy.snp is not None
    assert policy.snp.minimum_firmware == {Product.TURIN: Firmware(1, 2, 3)}


def test_a_missing_field_is_an_error() -> None:  # evidence.md E131
    whole = document._builtin_bytes("strict").decode()
    for name in [rule.name for rule in fields.rules_of(SnpPolicy)]:
        without = re.sub(rf"(?m)^{name} = .*$", "", whole)
        if without == whole:  # the field is a table of its own
            without = re.sub(rf"\[snp\.{name}\]\n(?:.+\n)+", "", whole)
        assert without != whole
        refusal = refused(without)
        assert refusal.code == f"policy.snp.{name}"
        assert refusal.expected == 'a value or { unchecked = "why" }'
        assert refusal.got == "no value"


def test_there_are_no_defaults() -> None:  # evidence.md E131
    with pytest.raises(TypeError, match="missing"):
        SnpPolicy()  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["simulated_roots", "products", "keys", "masked_chip_id"])
def test_what_can_not_be_left_unchecked(name: str) -> None:  # evidence.md E131
    refusal = refused(HEAD + f'[snp]\n{name} = {{ unchecked = "why not" }}\n'.encode())
    assert (refusal.code, refusal.got) == (f"policy.snp.{name}", "unchecked")


def test_everything_else_can(  # evidence.md E131
) -> None:
    for rule in fields.rules_of(SnpPolicy):
        if rule.may_be_unchecked:
            policy = document.parse(HEAD + f'[snp]\n{rule.name} = {{ unchecked = "for a test" }}\n'.encode())
            assert getattr(policy.snp, rule.name) == Unchecked("for a test")


@pytest.mark.parametrize(
    "value",
    [
        "{ unchecked = '' }",
        "{ unchecked = '  ' }",
        "{ unchecked = 3 }",
        "{ unchecked = true }",
        "{ unchecked = 'x', also = 1 }",
        f"{{ unchecked = '{'x' * 401}' }}",
    ],
)
def test_a_reason_is_a_reason(value: str) -> None:  # evidence.md E131
    assert refused(HEAD + f"[snp]\nsmt = {value}\n".encode()).code == "policy.snp.smt"


def test_a_reason_may_be_long() -> None:
    document.parse(HEAD + f"[snp]\nsmt = {{ unchecked = '{'x' * 400}' }}\n".encode())


@pytest.mark.parametrize(
    ("text", "code", "line", "hint"),
    [
        (b"[snp]\ndebugg = 'x'\n", "policy.snp.debugg", 5, 'did you mean "debug"?'),
        (b"[snip]\n", "policy.snip", 4, 'did you mean "snp"?'),
        (b"[snp]\n\n# why\nsmt = 1\n", "policy.snp.smt", 7, ""),
        (b"[snp.minimum_firmware]\nGenoa = '1.2'\n", "policy.snp.minimum_firmware", 4, ""),
        (b"[snp]\nzzzzzz = 1\n", "policy.snp.zzzzzz", 5, ""),
        (b"snp = 3\n", "policy.snp", 4, ""),
    ],
)
def test_an_error_names_the_line_and_the_field(
    text: bytes, code: str, line: int, hint: str
) -> None:  # evidence.md E132
    refusal = refused(HEAD + text)
    assert refusal.code == code
    assert refusal.hint is not None
    assert refusal.hint.startswith(f"mine.toml, line {line}")
    assert refusal.hint.endswith(hint)
    assert (": did you mean" in refusal.hint) is bool(hint)


def test_an_error_in_what_is_extended_names_no_false_line() -> None:
    assert refused('name = "x"\nabout = "y"\n[snp]\n').hint == (
        "mine.toml, line 3: a simulated root proves nothing about hardware; each must be named by its key digest"
    )
    assert refused('name = "x"\nabout = "y"\n').code == "policy.document"
    assert refused('name = "x"\nabout = "y"\n').hint == "mine.toml"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "policy.document"),
        ("[", "policy.toml"),
        (b"\xff", "policy.toml"),
        ("[snp]\n", "policy.snp.simulated_roots"),
        ('name = ""\nabout = "x"\nextends = "strict"', "policy.name"),
        ('about = "x"\nextends = "strict"', "policy.name"),
        ('name = "x"\nextends = "strict"', "policy.about"),
        ('name = 3\nabout = "x"\nextends = "strict"', "policy.name"),
        ('name = "x"\nabout = "y"\nextends = "nobody"', "policy.extends"),
        ("extends = 3", "policy.extends"),
        ("x = " + "[" * 5000, "policy.toml"),
        (b"#" * ((1 << 20) + 1), "policy.size"),
    ],
)
def test_what_is_no_policy(text: str | bytes, code: str) -> None:  # evidence.md E130
    assert refused(text).code == code


def test_a_document_of_the_largest_size() -> None:
    assert document.parse(HEAD.ljust(1 << 20, b"#")).name == "mine"


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_nothing_but_its_own_error_leaves_the_reader(text: bytes) -> None:
    try:
        document.parse(HEAD + b"[snp]\n" + text)
    except PolicyMalformed:
        return


@pytest.mark.parametrize(
    ("field", "fits", "does_not"),
    [
        ("simulated_roots", [f'["{"ab" * 32}"]'], [f'["{"ab" * 31}"]', f'["{"ab" * 33}"]']),
        ("minimum_guest_svn", ["0", "4294967295"], ["-1", "4294967296"]),
        (
            "launch_mitigations",
            ["{ Genoa = 0xffffffffffffffff }", "{ Genoa = 0 }"],
            ["{ Genoa = 0x10000000000000000 }", "{ Genoa = -1 }"],
        ),
        ("current_mitigations", ["{ Turin = 0 }"], ["{ Turin = 0x10000000000000000 }", "{ Turin = -1 }"]),
        ("report_version", ["2", "5"], ["1", "6"]),
        ("vmpl", ["[0, 3]"], ["[4]", "[-1]"]),
        ("measurement", [f'["{"ab" * 48}"]'], [f'["{"ab" * 47}"]', f'["{"ab" * 49}"]']),
        ("host_data", [f'["{"ab" * 32}"]'], [f'["{"ab" * 31}"]', f'["{"ab" * 33}"]']),
        ("report_data", [f'["{"ab" * 64}"]'], [f'["{"ab" * 63}"]', f'["{"ab" * 65}"]']),
        ("chip_id", [f'["{"ab" * 64}", "{"ab" * 8}"]'], [f'["{"ab" * 9}"]', f'["{"ab" * 65}"]']),
        ("id_key_digest", [f'["{"ab" * 48}"]'], [f'["{"ab" * 47}"]', f'["{"ab" * 49}"]']),
        ("author_key_digest", [f'["{"ab" * 48}"]'], [f'["{"ab" * 47}"]', f'["{"ab" * 49}"]']),
        ("family_id", [f'["{"ab" * 16}"]'], [f'["{"ab" * 15}"]', f'["{"ab" * 17}"]']),
        ("image_id", [f'["{"ab" * 16}"]'], [f'["{"ab" * 15}"]', f'["{"ab" * 17}"]']),
        ("minimum_firmware", ['{ Genoa = "1.55.38" }'], ['{ Rome = "1.55.38" }', "{ Genoa = 1 }"]),
    ],
)
def test_the_bounds_of_each_field(field: str, fits: list[str], does_not: list[str]) -> None:  # evidence.md E131
    # In strict a few of these are tables of their own, so the document extends it and replaces one field.
    for value in fits:
        document.parse(HEAD + f"[snp]\n{field} = {value}\n".encode())
    for value in does_not:
        assert refused(HEAD + f"[snp]\n{field} = {value}\n".encode()).code == f"policy.snp.{field}"


class TestReaders:
    @pytest.mark.parametrize(
        ("reader", "value", "result"),
        [
            (fields.read_flag, "required", Flag.REQUIRED),
            (fields.read_flag, "forbidden", Flag.FORBIDDEN),
            (fields.read_required, "required", Required.REQUIRED),
            (fields.read_text, "x", "x"),
            (fields.integer(1, 3), 1, 1),
            (fields.integer(1, 3), 3, 3),
            (fields.one_of(2), "reference", OneOf(frozenset(), True)),
            (fields.one_of(2, 3), ["0102", "010203"], OneOf(frozenset({b"\1\2", b"\1\2\3"}))),
            (fields.one_of(2), [], OneOf(frozenset())),
            (fields.set_of(fields.integer(0, 3)), [1, 2], frozenset({1, 2})),
            (fields.member_of(Product), "Milan", Product.MILAN),
            (read_firmware, "1.55.38", Firmware(1, 55, 38)),
            (read_abi, "1.55", (1, 55)),
            (fields.table_of(fields.member_of(Product), fields.integer(0, 9)), {"Milan": 3}, {Product.MILAN: 3}),
            (
                read_minimum_tcb,
                {"Genoa 25/17/1": {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}},
                (TcbMinimum(Product.GENOA, Cpuid(25, 17, 1), Tcb(1, 2, 3, 4)),),
            ),
            (
                read_minimum_tcb,
                {"Turin *": {"fmc": 5, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 255}},
                (TcbMinimum(Product.TURIN, None, Tcb(1, 2, 3, 255, fmc=5)),),
            ),
        ],
    )
    def test_what_fits(self, reader: Callable[[object], Any], value: object, result: object) -> None:
        assert reader(value) == result

    @pytest.mark.parametrize(
        ("reader", "value"),
        [
            (fields.read_flag, "Required"),
            (fields.read_flag, True),
            (fields.read_flag, None),
            (fields.read_flag, "allowed"),
            (fields.read_required, True),
            (fields.read_text, ""),
            (fields.read_text, " "),
            (fields.read_text, 3),
            (fields.integer(1, 3), 0),
            (fields.integer(1, 3), 4),
            (fields.integer(0, 3), True),
            (fields.integer(0, 3), 1.0),
            (fields.one_of(2), "references"),
            (fields.one_of(2), ["010"]),
            (fields.one_of(2), ["010203"]),
            (fields.one_of(1), ["AB"]),
            (fields.one_of(1), ["ab", "ab"]),
            (fields.one_of(1), [3]),
            (fields.one_of(1), {"a": 1}),
            (fields.one_of(1), ["ab\n"]),
            (fields.one_of(1), [" ab"]),
            (fields.set_of(fields.integer(0, 3)), [1, 1]),
            (fields.set_of(fields.integer(0, 3)), 1),
            (fields.set_of(fields.integer(0, 3)), [1, "2"]),
            (fields.member_of(Product), "milan"),
            (read_firmware, "1.55"),
            (read_firmware, "1.55.38.1"),
            (read_firmware, 1.55),
            (read_firmware, "1.55.38\n"),
            (read_abi, "1"),
            (read_abi, "1.55.2"),
            (read_abi, 1.55),
            (fields.table_of(fields.read_text, fields.integer(0, 9)), {}),
            (fields.table_of(fields.read_text, fields.integer(0, 9)), []),
            (fields.table_of(fields.member_of(Product), fields.integer(0, 9)), {"Rome": 3}),
            (fields.table_of(fields.member_of(Product), fields.integer(0, 9)), {"Milan": 10}),
            (read_minimum_tcb, {}),
            (read_minimum_tcb, []),
            (read_minimum_tcb, {"Genoa": {}}),
            (read_minimum_tcb, {"Genoa *": {}}),
            (read_minimum_tcb, {"Rome *": {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}}),
            (read_minimum_tcb, {"Genoa 25/17": {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}}),
            (read_minimum_tcb, {"Genoa *": {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}}),
            (read_minimum_tcb, {"Turin *": {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 4}}),
            (read_minimum_tcb, {"Genoa *": {"bootloader": 256, "tee": 2, "snp": 3, "microcode": 4}}),
            (read_minimum_tcb, {"Genoa *": {"bootloader": -1, "tee": 2, "snp": 3, "microcode": 4}}),
            (read_minimum_tcb, {"Genoa *": 3}),
        ],
    )
    def test_what_does_not_fit(self, reader: Callable[[object], Any], value: object) -> None:
        with pytest.raises(Unfit) as caught:
            reader(value)
        assert caught.value.expected

    def test_a_list_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fields, "LIST_LENGTH_MAX", 2)
        assert fields.set_of(fields.integer(0, 9))([1, 2]) == frozenset({1, 2})
        with pytest.raises(Unfit, match="at most 2"):
            fields.set_of(fields.integer(0, 9))([1, 2, 3])

    def test_complaints_show_what_came_in_short(self) -> None:
        assert shown("x" * 78) == repr("x" * 78)
        assert shown("x" * 79) == "'" + "x" * 76 + "..."
        with pytest.raises(Unfit) as caught:
            fields.one_of(48, 64)(["00"])
        assert (caught.value.expected, caught.value.got) == ("48 or 64 bytes in lower-case hexadecimal", "1 bytes")


@pytest.mark.parametrize("reason", ["", " ", "\n"])
def test_to_leave_unchecked_takes_a_reason(reason: str) -> None:  # evidence.md E131
    with pytest.raises(ValueError, match="needs a reason"):
        Unchecked(reason)


class TestAppraisal:
    """evidence.md E133 to E135."""

    @staticmethod
    def claim(standing: ClaimStanding, *, collateral: bool = False) -> Claim:
        return Claim("a.b", "E1", standing, "x", "y", collateral)

    def test_a_policy_without_a_section_refuses(self) -> None:  # evidence.md E133
        strict = document.builtin("strict")
        silent = document.Policy("silent", "nothing", strict.digest, {})
        appraisal = appraise(Forge().case().verify(), ReferenceValues.none(), silent)
        assert not appraisal.accepted
        assert not appraisal.wants_only_collateral
        assert [(claim.code, claim.rule, claim.standing) for claim in appraisal.claims] == [
            ("snp.section", "E133", ClaimStanding.NOT_MET)
        ]

    def test_accepted_means_no_claim_unmet_and_some_claim_made(self) -> None:  # evidence.md E134
        met, unmet, unchecked = (
            self.claim(standing) for standing in (ClaimStanding.MET, ClaimStanding.NOT_MET, ClaimStanding.UNCHECKED)
        )
        assert Appraisal("snp", "p", (met, unchecked)).accepted
        assert not Appraisal("snp", "p", (met, unmet, unchecked)).accepted
        assert not Appraisal("snp", "p", ()).accepted
        assert Appraisal("snp", "p", (met, unmet, unchecked)).unmet == (unmet,)

    def test_wanting_collateral_alone(self) -> None:  # evidence.md E135
        stale, unmet = self.claim(ClaimStanding.NOT_MET, collateral=True), self.claim(ClaimStanding.NOT_MET)
        assert Appraisal("snp", "p", (stale, self.claim(ClaimStanding.MET))).wants_only_collateral
        assert not Appraisal("snp", "p", (stale, unmet)).wants_only_collateral
        assert not Appraisal("snp", "p", (self.claim(ClaimStanding.MET, collateral=True),)).wants_only_collateral
        assert not Appraisal("snp", "p", ()).wants_only_collateral

    def test_the_policy_is_named_with_its_digest(self) -> None:  # evidence.md E134
        one, two = document.parse(HEAD), document.parse(HEAD + b"\n")
        assert one.id == f"mine@{one.digest.hex()[:16]}"
        assert one.digest != two.digest
        other = document.parse(HEAD.replace(b"strict", b"platform"))
        assert other.digest != one.digest
        appraisal = appraise(Forge().case().verify(), ReferenceValues.none(), one)
        assert (appraisal.policy_id, appraisal.tee) == (one.id, "snp")

    def test_the_digest_covers_what_is_extended(self, monkeypatch: pytest.MonkeyPatch) -> None:  # evidence.md E134
        digest, strict = document.parse(HEAD).digest, document._builtin_bytes("strict")
        monkeypatch.setattr(document, "_builtin_bytes", lambda _: strict + b"\n")
        assert document.parse(HEAD).digest != digest


class TestBuiltins:
    def test_the_builtins(self) -> None:
        assert document.builtin_names() == ("platform", "strict")
        with pytest.raises(PolicyMalformed, match=r"policy\.extends"):
            document.builtin("../strict")

    @pytest.mark.parametrize("name", ["platform", "strict"])
    def test_no_builtin_takes_a_simulated_root_or_milan(self, name: str) -> None:  # evidence.md E137, E140, E141
        policy = document.builtin(name).snp
        assert policy is not None
        assert policy.simulated_roots == frozenset()
        assert Product.MILAN not in policy.products
        claims = {
            c.code: c for c in appraise(Forge().case().verify(), ReferenceValues.none(), document.builtin(name)).claims
        }
        assert claims["snp.root"].standing is ClaimStanding.NOT_MET
        assert claims["snp.debug" if "snp.debug" in claims else "snp.policy.debug"].standing is ClaimStanding.MET

    def test_strict_answers_what_a_report_can_show(self) -> None:
        policy = document.builtin("strict").snp
        assert policy is not None
        assert (policy.crl, policy.tcb_order) == (Required.REQUIRED, Required.REQUIRED)
        assert (policy.debug, policy.migration_agent, policy.smt, policy.platform_smt) == (Flag.FORBIDDEN,) * 4
        assert (policy.cxl, policy.alias_check, policy.platform_ecc) == (Flag.FORBIDDEN, Flag.REQUIRED, Flag.REQUIRED)
        assert (policy.unknown_policy_bits, policy.unknown_platform_bits) == (Flag.FORBIDDEN, Flag.FORBIDDEN)
        assert policy.vmpl == frozenset({0})
        assert policy.minimum_firmware == {Product.GENOA: Firmware(1, 55, 38), Product.TURIN: Firmware(1, 55, 61)}
        assert policy.current_mitigations == policy.launch_mitigations == {Product.GENOA: 0xB, Product.TURIN: 0xB}
        for requirement in (policy.chip_id, policy.measurement, policy.report_data):
            assert requirement == OneOf(frozenset(), from_references=True)
        assert isinstance(policy.minimum_tcb, tuple)
        assert all(row.tcb.snp >= 23 for row in policy.minimum_tcb if row.product is Product.GENOA)


class TestExplain:
    def test_every_field_is_explained(self) -> None:
        text = explain(document.builtin("strict"))
        for rule in fields.rules_of(SnpPolicy):
            assert f"{rule.name} ({rule.rule}): " in text
            assert rule.about in text
        assert text.startswith(f"policy {document.builtin('strict').id}\naccepts: hardware in good standing")
        assert "left open, each with its reason:" in text
        assert "not looked at: images are named by measurement, not by number" in text
        assert "chip_id (E146): one of the reference values\n      because otherwise: WireTap" in text

    def test_an_absent_section_is_said(self) -> None:
        assert "[snp] absent: evidence of this kind is refused" in explain(document.Policy("x", "y", b"", {}))

    def test_a_section_after_an_absent_one_is_explained(self) -> None:
        sections = document.builtin("strict").sections
        text = explain(document.Policy("x", "y", b"", {name: sections[name] for name in sections if name != "snp"}))
        assert "[snp] absent" in text
        assert all(f"[{name}]\n" in text for name in sections if name != "snp")

    def test_a_policy_without_gaps_says_none(self) -> None:
        strict = document.builtin("strict")
        assert strict.snp is not None
        values = {rule.name: getattr(strict.snp, rule.name) for rule in fields.rules_of(SnpPolicy)}
        full = SnpPolicy(
            **{name: Flag.REQUIRED if isinstance(value, Unchecked) else value for name, value in values.items()}
        )
        assert "left open" not in explain(document.Policy("x", "y", b"", {"snp": full}))

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Flag.REQUIRED, "must be set"),
            (Flag.FORBIDDEN, "must be clear"),
            (Required.REQUIRED, "required"),
            (OneOf(frozenset(), True), "one of the reference values"),
            (OneOf(frozenset({b"\2", b"\1"})), "one of 01, 02"),
            (OneOf(frozenset()), "one of nothing: always refused"),
            (Product.MILAN, "Milan"),
            (3, "3"),
            (b"\x0a", "0a"),
            (frozenset({Product.TURIN, Product.GENOA}), "Genoa or Turin"),
            (frozenset(), "none"),
            ((1, 55), "1.55"),
            ({Product.MILAN: Firmware(1, 2, 3)}, "Milan: 1.2.3"),
            ({Product.MILAN: 1, Product.GENOA: 2}, "Milan: 1; Genoa: 2"),
            (
                (
                    TcbMinimum(Product.GENOA, Cpuid(25, 17, 1), Tcb(1, 2, 3, 4)),
                    TcbMinimum(Product.TURIN, None, Tcb(1, 2, 3, 4, 5)),
                ),
                (
                    "Genoa 25/17/1 bootloader 1 tee 2 snp 3 microcode 4; "
                    "Turin fmc 5 bootloader 1 tee 2 snp 3 microcode 4"
                ),
            ),
        ],
    )
    def test_values_in_words(self, value: object, text: str) -> None:
        assert words(value) == text


def test_the_worked_policy_of_the_guide_is_one() -> None:  # evidence.md E130
    guide = (Path(__file__).resolve().parents[3] / "docs" / "policy-guide.md").read_text(encoding="utf-8")
    example = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)[0]
    policy = document.parse(example.encode())
    strict = document.builtin("strict")
    assert policy.snp is not None
    changed = {
        rule.name
        for rule in fields.rules_of(SnpPolicy)
        if getattr(policy.snp, rule.name) != getattr(strict.snp, rule.name)
    }
    unchecked = {"smt", "platform_smt", "launch_mitigations", "current_mitigations"}
    assert changed == unchecked | {"minimum_tcb"}
    assert all(isinstance(getattr(policy.snp, name), Unchecked) for name in unchecked)
