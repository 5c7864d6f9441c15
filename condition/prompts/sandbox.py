"""What a Jinja2 template from a file may do: write values, loop over them and choose between words.

LangChain's sandbox refuses what is private. A file may have been written by anybody, so it may do less: no attribute,
no method, no call, no other template, and nothing that grows without bounds.
"""

from __future__ import annotations

from jinja2 import Environment, TemplateSyntaxError, nodes

from condition.errors import PromptError

# fmt: off
_FILTERS = frozenset({
    "abs", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int", "items", "join",
    "last", "length", "list", "lower", "max", "min", "replace", "reverse", "round", "safe", "sort", "string",
    "sum", "title", "tojson", "trim", "truncate", "unique", "upper", "urlencode", "wordcount",
})
# fmt: on
_BY_ATTRIBUTE = {"join": 1, "max": 0, "min": 0, "sort": 0, "sum": 0, "unique": 0}
"""Filters whose later arguments name an attribute: how many may be given."""
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.List,
    nodes.Tuple,
    nodes.For,
    nodes.If,
    nodes.CondExpr,
    nodes.Assign,
    nodes.Not,
    nodes.And,
    nodes.Or,
    nodes.Compare,
    nodes.Operand,
    nodes.Concat,
    nodes.Add,
    nodes.Sub,
    nodes.Neg,
    nodes.Test,
    nodes.Slice,
)
_LARGEST = 10_000
_PARSER = Environment(autoescape=False)
"""Templates are parsed with it, never rendered."""


def check_jinja(template: str) -> None:
    """Raises PromptError for what a template from a file may not do, and for one that does not parse."""
    try:
        tree = _PARSER.parse(template)
    except (TemplateSyntaxError, RecursionError) as error:
        raise PromptError(f"the template can't be used: {error}") from error
    for node in (tree, *tree.find_all(nodes.Node)):
        if not _allowed(node):
            raise PromptError(
                "a template from a file may only write values, loop and choose: "
                f"line {node.lineno} of {template!r:.80} has {_name(node)}. "
                "Make this prompt in Python instead, if you trust it"
            )


def _allowed(node: nodes.Node) -> bool:
    match node:
        case nodes.Const(value=int() as value):
            return abs(value) <= _LARGEST
        case nodes.Getattr(node=nodes.Name(name="loop"), attr=str() as name):
            return name in ("index", "index0", "first", "last", "length", "revindex")
        case nodes.Getitem(arg=nodes.Const(value=int()) | nodes.Slice()):
            return True
        case nodes.Filter(name=str() as name, args=args, kwargs=kwargs):
            return name in _FILTERS and not (
                name in _BY_ATTRIBUTE and (kwargs or len(args or ()) > _BY_ATTRIBUTE[name])
            )
        case nodes.Keyword():
            return True
        case _:
            return isinstance(node, _ALLOWED)


def _name(node: nodes.Node) -> str:
    match node:
        case nodes.Getattr(attr=str() as name):
            return f"the attribute {name!r}"
        case nodes.Filter(name=str() as name):
            return f"the filter {name!r}"
        case _:
            return type(node).__name__
