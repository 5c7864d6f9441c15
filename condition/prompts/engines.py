"""langchain-core's template engines by name, with errors that are ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, cast, get_args

from langchain_core.prompts.string import get_template_variables

from condition.errors import PromptError
from condition.prompts.braces import check_names

TemplateFormat = Literal["f-string", "jinja2"]
FORMATS = frozenset(get_args(TemplateFormat))
T = TypeVar("T")


def variables_of(template: str, template_format: TemplateFormat) -> list[str]:
    """Names that a template takes. Raises PromptError where it does not parse."""
    if template_format == "f-string":
        check_names(template)
    return guarded(lambda: get_template_variables(template, template_format))


def format_of(name: str) -> TemplateFormat:
    """Raises PromptError for a format that there is none of."""
    if name not in FORMATS:
        raise PromptError(f"template format {name!r} is not supported: use f-string or jinja2")
    return cast(TemplateFormat, name)


def guarded(work: Callable[[], T], advice: str = "Check the template and the values that it is given") -> T:
    """Errors of the template engines as ours; they come in many types, and a template is user input."""
    try:
        return work()
    except PromptError:
        raise
    except Exception as error:
        raise PromptError(f"the template can't be used: {str(error).rstrip('.')}. {advice}") from error
