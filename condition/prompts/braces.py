"""What may stand in the braces of an f-string template: a name, and nothing that reaches into a value."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from string import Formatter

from condition.errors import PromptError


def check_names(template: str) -> None:
    """Raises PromptError for what stands in braces and is no name: JSON, numbers, attributes."""
    double = "Double a brace to write it as itself: {{ }}"
    try:
        fields = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise PromptError(f"the template can't be used: {error}. {double}") from error
    for name in fields:
        if name == "self":  # LangChain fills templates by keyword
            raise PromptError("a variable can't be called 'self': give it another name, and rename the column")
        if not name:
            raise PromptError(f"a variable without a name in {template!r:.80}: write {{question}}. {double}")
        if name.isdecimal():
            raise PromptError(f"a variable has a name: write {{question}}, not {{{name}}}, in {template!r:.80}")
        if re.match(r"[^\W\d]\w*[.\[]", name):
            plain = re.sub(r"\W+", "_", name).strip("_")
            raise PromptError(
                f"the template can't be used: {{{name}}} reaches into a value. "
                f"Write {{{plain}}} and give that part as a value of its own"
            )
        if name != name.strip() and name.strip().isidentifier():
            raise PromptError(f"{name!r} is no name of a variable: write {{{name.strip()}}}, without the spaces")
        if not name.isidentifier():
            raise PromptError(
                f"{name!r} is no name of a variable in {template!r:.80}. {double}. "
                "A column with such a name needs another: letters, digits and _"
            )


WIDEST = 10_000
"""Characters that a template from a file may ask a value to be padded to."""


def check_widths(template: str) -> None:
    """Raises PromptError for a value that is padded to more than `WIDEST`: a file could ask for gigabytes."""
    for _, name, spec, _ in Formatter().parse(template):
        if any(int(number) > WIDEST for number in re.findall(r"\d+", spec or "")):
            raise PromptError(
                f"a template from a file may pad a value to {WIDEST:,} characters at most, not {{{name}:{spec:.20}}}. "
                "Make this prompt in Python instead, if you trust it"
            )


def warn_of_jinja(templates: Sequence[str], variables: Collection[str]) -> None:
    """Warns of `{{ name }}` beside a variable of an f-string: it is written as `{ name }`, and looks like Jinja2.

    A template without any variable is left to those who give it values, and are told that it takes none.
    """
    found = [match for template in templates if (match := re.search(r"\{\{ +(\w+) +\}\}", template))]
    if found and variables:
        name, other = found[0][1], min(variables)
        warnings.warn(
            f"{found[0][0]!r} is written as '{{ {name} }}' and not filled, while {{{other}}} is: write {{{name}}} "
            f"for a variable, template_format='jinja2' for Jinja2, or {{{{{name}}}}} for the word in braces",
            stacklevel=3,
        )
