"""What may stand in the braces of an f-string template: a name, and nothing that reaches into a value."""

from __future__ import annotations

import re
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
