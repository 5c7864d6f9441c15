"""Each wrong name in braces has advice of its own; `test_template.py` has those of whole prompts."""

from __future__ import annotations

import warnings

import pytest

from condition.errors import PromptError
from condition.prompts.braces import check_names, warn_of_jinja


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        ("{self}", "a variable can't be called 'self'"),
        ("{}", r"a variable without a name in '\{\}': write \{question\}. Double a brace"),
        ("{7}", r"a variable has a name: write \{question\}, not \{7\}"),
        ("{ q }", r"' q ' is no name of a variable: write \{q\}, without the spaces"),
        ("{a b}", r"'a b' is no name of a variable in '\{a b\}'. Double a brace"),
        ("{row.text}", r"\{row.text\} reaches into a value. Write \{row_text\}"),
        ("{row[0]}", r"\{row\[0\]\} reaches into a value. Write \{row_0\}"),
        ("{q", r"the template can't be used: .*Double a brace"),
    ],
)
def test_advice(template: str, advice: str) -> None:
    with pytest.raises(PromptError, match=advice):
        check_names(template)


def test_names() -> None:
    check_names("{q} {{not one}} {naïve:>9} {_x!r}")


def test_jinjas_braces_are_a_matter_of_templates_with_variables() -> None:
    with pytest.warns(UserWarning, match=r"'\{\{ q \}\}' is written as '\{ q \}' and not filled, while \{x\} is"):
        warn_of_jinja(["words", "{{ q }} {x}"], {"x"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_jinja(["{{ q }}"], set())
        warn_of_jinja(["{{q}} {x}"], {"x"})
