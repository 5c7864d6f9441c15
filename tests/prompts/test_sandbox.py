"""What templates from files may and may not do."""

from __future__ import annotations

import pytest

from condition.errors import PromptError
from condition.prompts.sandbox import check_jinja
from condition.prompts.saved import prompt_from_json
from condition.types import Message

REACHING = [
    "{{ q.__class__ }}",
    "{{ q['__class__'] }}",
    "{{ q['up' ~ 'per'] }}",
    "{{ q[name] }}",
    "{{ q|attr('__class__') }}",
    "{{ q.upper() }}",
    "{{ q.upper }}",
    "{{ q() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__ }}",
    "{% import 'os' as os %}{{ os }}",
    "{% from 'os' import path %}{{ path }}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% macro m() %}{% endmacro %}{{ m() }}",
    "{{ range(100000000)|list }}",
    "{{ 'a' * 9999 * 9999 }}",
    "{{ 9 ** 9999 }}",
    "{{ q|map(attribute='__class__')|list }}",
    "{{ q|map('attr', '__class__')|list }}",
    "{{ q|join(',', '__class__') }}",
    "{{ q|sort(attribute='__class__') }}",
    "{{ q|truncate(99999999) }}",
    "{{ '{0.__class__}'.format(q) }}",
    "{{ '%s'|format(q) }}",
    "{% for x in q %}{{ loop.cycle(q) }}{% endfor %}",
    "{% set x = q.upper %}",
    "{{ q if q.upper else '' }}",
    "{% for x in q if x.upper %}{% endfor %}",
    "{{ " + "(" * 5000 + "q" + ")" * 5000 + " }}",
    "{{ q",
    "{% set a = 'aa' %}{% set a = a ~ a %}{{ a }}",
    "{% set a = q + q %}",
    "{% set a = [q, q] %}{% set a = [a, a] %}{{ a }}",
    "{% set a = q|replace('a', 'aaaa') %}{% set a = a|replace('a', 'aaaa') %}",
    "{{ q|replace('a', 'aaaa')|upper|replace('A', 'AAAA') }}",
    "{{ q|join('----')|join('----') }}",
    "{{ q|replace('', q|replace('', q|replace('', q))) }}",
    "{{ q|join(q|upper|join(q)) }}",
    "{% for a in q|replace('', q) %}x{% endfor %}",
    "{% for a in q|replace('', q)|upper %}x{% endfor %}",
    "{% for a in q %}{% for b in q %}{{ q|replace('', q) }}{% endfor %}{% endfor %}",
    "{% for a in q %}{% for b in q %}{% for c in q %}x{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in q %}" * 400 + "{% endfor %}" * 400,
]


@pytest.mark.parametrize("template", REACHING, ids=lambda template: template[:40])
def test_a_template_from_a_file_reaches_no_attribute_call_import_or_file(template: str) -> None:
    with pytest.raises(PromptError):
        prompt_from_json({"kind": "text", "format": "jinja2", "template": template})


def test_the_message_says_where_and_what_to_do() -> None:
    with pytest.raises(PromptError, match=r"line 2 of .* has the attribute 'upper'. Make this prompt in Python"):
        check_jinja("{{ q }}\n{{ q.upper }}")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ q }} {# note #}{{ q|upper }}", "ab AB"),
        ("{% for x in xs %}{{ loop.index }}. {{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "1. p, 2. q"),
        ("{{ xs[0] }}{{ xs[1:]|join('-') }}{{ xs|length }}", "pq2"),
        ("{% if q == 'ab' and xs %}yes{% elif q %}no{% else %}-{% endif %}", "yes"),
        ("{{ q ~ '!' if q is defined else '' }}{{ xs|join(', ') }}", "ab!p, q"),
        ("{% for x in xs %}{% for y in xs %}{{ x }}{{ y }} {% endfor %}{% endfor %}", "pp pq qp qq "),
        ("{{ xs|join('-')|upper }}{{ q|replace('a', 'c') }}", "P-Qcb"),
        ("{% for x in xs %}{% for y in xs|sort %}{{ x|replace('p', 'P') }}{% endfor %}{% endfor %}", "PPqq"),
        ("{% for x in xs %}{{ q|replace('a', x) }}{% endfor %}", "pbqb"),
        ("{% set y = q %}{{ y|default('none') }}", "ab"),
    ],
)
def test_writing_looping_and_choosing_are_allowed(template: str, text: str) -> None:
    prompt = prompt_from_json({"kind": "text", "format": "jinja2", "template": template})
    assert prompt.format(q="ab", xs=["p", "q"]) == (Message("text", text),)
