"""What a Jinja2 template from a file may do: write values, loop over them and choose between words.

LangChain's sandbox refuses what is private. A file may have been written by anybody, so it may do less: no attribute,
no method, no call, no other template, and nothing that grows without bounds: at most two loops in each other, no text
joined to itself, and no filter that lengthens on, or with, what another has lengthened, or what a loop goes over.
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
        for node in (tree, *tree.find_all(nodes.Node)):
            if not _allowed(node):
                raise _refused(template, node, _name(node))
            if _grows(node):
                raise _refused(template, node, f"{_name(node)} that may grow without bounds")
    except (TemplateSyntaxError, RecursionError) as error:
        raise PromptError(f"the template can't be used: {error}") from error


def _refused(template: str, node: nodes.Node, what: str) -> PromptError:
    return PromptError(
        "a template from a file may only write values, loop and choose: "
        f"line {node.lineno} of {template!r:.80} has {what}. "
        "Make this prompt in Python instead, if you trust it"
    )


def _grows(node: nodes.Node) -> bool:
    """Whether a few words here may write any number: texts doubled again and again, loops in loops in loops."""
    match node:
        case nodes.Assign(node=value):
            return any(_lengthens(part) for part in (value, *value.find_all(nodes.Node)))
        case nodes.Filter(node=nodes.Node() as inner) if _lengthens(node):
            return _lengthens(inner) or any(map(_lengthens, node.find_all(nodes.Filter)))
        case nodes.For(iter=items):
            loops, filters = list(node.find_all(nodes.For)), [*items.find_all(nodes.Filter), items]
            return (
                any(next(inner.find_all(nodes.For), None) for inner in loops)
                or any(isinstance(one, nodes.Filter) and _lengthens(one) for one in filters)
                or any(_multiplies(one) for inner in loops for one in inner.find_all(nodes.Filter))
            )
        case _:
            return False


def _lengthens(node: nodes.Node) -> bool:
    """Whether its text can be many times as long as what it is given."""
    if isinstance(node, nodes.Filter):
        return node.name in ("join", "replace", "tojson")
    return isinstance(node, nodes.List | nodes.Tuple | nodes.Add | nodes.Concat)


def _multiplies(node: nodes.Filter) -> bool:
    """Whether one value's length can be multiplied by another's."""
    return _lengthens(node) and not all(isinstance(part, nodes.Const) for part in node.args)


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
