"""text.md L5 to L7: what a chat template may be, and that each one ends."""

from __future__ import annotations

import pytest

from appliance.text import ModelTextRefused, PromptRefused
from appliance.text.template import SOURCE_CHARACTERS_MAX, Template

TALK = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "<b>"}], "n": 10**9}

BIG = "{% set x = range(4096) | join %}{% set y = x ~ 'z' %}"
MANY = "{% set x = range(4096) | join %}{% set y = [x, x, x, x] %}" + 4 * "{% set y = y + y + y + y %}"


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("{% for m in messages %}{{ m.role }}:{{ m['content'] }};{% endfor %}", "user:hello;assistant:<b>;"),
        ("{% for m in messages %}{{ loop.index }}{{ loop.previtem.role if loop.last }}{% endfor %}", "12user"),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "assistant",
        ),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "hello"}'),
        ("{{ messages | map(attribute='role') | join(', ') }}", "user, assistant"),
        ("{{ messages[-1].content | upper | replace('<', '(') }}", "(B>"),
        ("{{ messages[0].content.replace('l', 'L').split('L')[0] }}", "he"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
        ("{% macro say(x) %}[{{ x }}]{% endmacro %}{{ say('a') ~ say(1) }}", "[a][1]"),
        ("{% set x %}a{{ 1 + 1 }}{% endset %}{{ x }}{{ 'y' if nothing is not defined else 'z' }}", "a2y"),
        ("{{ range(3) | list }}{{ strftime_now is defined }}", "[0, 1, 2]False"),
        ("{{ messages[::-1][0].role }} {{ 'user' in messages[0].role }} {{ 7 % 3 }}", "assistant True 1"),
        ("{% for k, v in messages[0] | dictsort %}{{ k }}={{ v }} {% endfor %}", "content=hello role=user "),
        ("{{ none is sameas none }}{{ (1 == 1) is sameas true }}{{ 1 is sameas true }}", "TrueTrueFalse"),
        ("{{ '12' | int + 1 }} {{ 'x' | int(7) }} {{ 'ß' | upper }} {{ ' a ' | trim }}|", "13 7 SS a|"),
        (
            "{{ messages[0].keys() }}{{ messages[0].values() | list }}",
            "dict_keys(['role', 'content'])['user', 'hello']",
        ),
        ("{% macro f(k) %}{{ k }}{{ f(k - 1) if k > 1 }}{% endmacro %}{{ f(9) }}", "987654321"),
        (
            "{% set x = [['a', ['b']], {'c': ('d',)}] %}{{ x }}{{ x == [['a', ['b']], {'c': ('d',)}] }}",
            "[['a', ['b']], {'c': ('d',)}]True",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ ['b', 'a', 'B'] | sort | join }}",
            "1abB",
        ),
    ],
)
def test_what_templates_say(source: str, written: str) -> None:  # text.md L5
    assert Template(source).render(TALK) == written


@pytest.mark.parametrize(
    "source",
    [
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{% for x in messages recursive %}{{ loop(x) }}{% endfor %}",
        "{% filter upper %}x{% endfilter %}",
        "{% autoescape true %}x{% endautoescape %}",
        "{{ x | center(80) }}",
        "{{ x | format(1) }}",
        "{{ x | attr('y') }}",
        "{{ x | pprint }}",
        "{{ x | random }}",
        "{{ x | counted }}",
        "{{ x | weighed }}",
        "{{ [x] | joined }}",
        "{{ x | indent(9) }}",
        "{% generation %}x{% endgeneration %}",
        "{{",
        "{% if %}",
        "{% do x %}",
        "{{ " + "(" * 4000,
        " " * (SOURCE_CHARACTERS_MAX + 1),
        "{{ " + "-" * 20000 + "1 }}",
    ],
)
def test_what_is_no_template_of_ours(source: str) -> None:  # text.md L5
    with pytest.raises(ModelTextRefused):
        Template(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages[0].pop('role') }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ 'x'.format(1) }}",
        "{{ 'x'.encode() }}",
        "{{ '{0.a}'.format(messages) }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ 'x'['format'](1) }}",
        "{{ messages[0].update(a=1) }}",
        "{{ lipsum() }}",
        "{{ cycler('a') }}",
        "{{ 'x'.ljust(n) }}",
        "{{ namespace.__init__ }}",
        "{{ range.__class__('x') }}",
        "{{ messages | tojson(ensure_ascii=true) }}",
        "{{ joiner() }}",
        "{{ self._TemplateReference__context }}",
        "{% set ns = namespace() %}{{ ns.__dict__.x }}",
        "{{ strftime_now('%Y') }}",
        "{{ loop.index }}",
        # What an interpreter makes of these is no text of the conversation: a place in memory, what is one object.
        "{{ messages[0].content.strip }}",
        "{{ range }}",
        "{{ namespace(a=1) }}",
        "{{ messages | map(attribute='role') }}",
        "{{ [messages[0].items] }}",
        "{{ raise_exception ~ '' }}",
        "{{ [range] | tojson }}",
        "{{ messages.x.y }}",
        "{% for m in messages %}{{ loop }}{% endfor %}",
        "{% macro f() %}{% endmacro %}{{ f }}",
        "{{ messages[0].content is sameas 'hello' }}",
        "{{ n is sameas n }}",
        "{{ {(1, 2): 3} }}",
        "{{ messages[0][(1, 2)] }}",
        "{{ (1, 2) + (3, 4) }}",
        "{{ messages | tojson(separators=('x' * 9, ':')) }}",
        "{{ messages | tojson(separators=('xxxxxxxxx', ':')) }}",
    ],
)
def test_what_a_template_cannot_reach(source: str) -> None:  # text.md L6
    with pytest.raises(PromptRefused, match=r"prompt\.template") as refused:
        Template(source).render(TALK)
    assert "hello" not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(4096) %}{% for b in range(4096) %}{% for c in range(9) %}{% endfor %}{% endfor %}{% endfor %}",  # noqa: E501
        "{% for a in range(4096) %}{% for b in range(4096) %}{% if a == b %}{% endif %}{% endfor %}{% endfor %}",
        "{{ range(n) | list }}",
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x | replace('b', ns.x) %}{% endfor %}",  # noqa: E501
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] | tojson %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for a in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",  # noqa: E501
        "{% macro f(k) %}{% if k %}{{ f(k - 1) }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{% for a in range(4096) %}{% for b in range(4096) %}0123456789{% endfor %}{% endfor %}",
        "{% set x = 'a' * 1 %}{{ n * n * n }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% set ns = namespace(x=1) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=1) %}{% for a in range(99) %}{% set ns.x = ns.x - (-ns.x) %}{% endfor %}",
        "{% set r = range(4096) %}{% for a in r %}{% for b in r %}{% set x = r | list %}{% endfor %}{% endfor %}",
        "{% set r = range(4096) %}{% for a in r %}{% for b in r %}{{ r | map('string') | last }}{% endfor %}{% endfor %}",  # noqa: E501
        # Nesting: what recurses over it in the interpreter would fail at a depth of the interpreter's.
        "{% set ns = namespace(x=[]) %}{% for a in range(70) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for a in range(70) %}{% set ns.x = (ns.x,) %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for a in range(70) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for a in range(70) %}{% set ns.x = dict(a=ns.x) %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
        "{% macro f(k) %}{{ f(k - 1) if k }}{% endmacro %}{{ f(33) }}",
        "{% macro f(k) %}{{ g(k) }}{% endmacro %}{% macro g(k) %}{{ f(k) }}{% endmacro %}{{ f(1) }}",
        # What one step may look at is paid for, also where it looks at all for each.
        BIG + "{% for a in range(64) %}{{ x.rfind(y) }}{% endfor %}",
        BIG + "{% for a in range(64) %}{{ x.strip(y) | length }}{% endfor %}",
        BIG + "{% for a in range(64) %}{{ x | trim(y) | length }}{% endfor %}",
        BIG + "{% set l = [x ~ 1, x ~ 2, x ~ 3] %}{% for a in range(4096) %}{{ (l | sort)[0] | length }}{% endfor %}",
        BIG + "{% set l = [x ~ 1] %}{% set k = [x ~ 1] %}{% for a in range(4096) %}{{ l == k }}{% endfor %}",
        BIG + "{% set l = [x ~ 1] %}{% set k = x ~ 1 %}{% for a in range(4096) %}"
        "{{ l | select('equalto', k) | list | length }}{% endfor %}",
        MANY + "{{ y | lower | length }}",
        BIG + "{{ (x ~ x ~ x ~ x ~ x) | list | length }}",
        BIG + "{% set y = x ~ x ~ x ~ x %}{{ (y ~ y ~ y ~ y ~ y ~ y ~ y ~ y).split('1') | length }}",
        # Numbers: how many digits an interpreter reads and writes is a setting of it.
        "{{ '9' * 33 }}",
        "{{ ('9' ~ '99999999999999999999999999999999') | int }}",
        # A template's own text, kept and never printed.
        "{% for a in range(4096) %}{% set x %}" + 4096 * "0123456789abcdef" + "{% endset %}{% endfor %}",
        MANY + "{{ y }}",
        MANY + "{{ y | tojson }}",
    ],
)
def test_no_template_outgrows_its_room(source: str) -> None:  # text.md L7
    with pytest.raises(PromptRefused) as refused:
        Template(source).render(TALK)
    assert refused.value.code in {"prompt.budget", "prompt.template"}


def test_a_long_conversation_is_well_within_the_budget() -> None:  # text.md L7
    from tests.little_text import TEMPLATES

    messages = [{"role": ("user", "assistant")[n % 2], "content": "x" * 1000} for n in range(128)]
    for name in ("chatml", "llama3"):
        written = Template(TEMPLATES[name]).render({"messages": messages, "bos_token": "", "tools": None})
        assert written.count("x" * 1000) == 128
