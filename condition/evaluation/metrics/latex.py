r"""Answers written in LaTeX as sympy's expressions, by a small grammar: model text is read, never evaluated.

parse(r"\frac{1}{2} + \sqrt{3}")      # 1/2 + sqrt(3)
parse("(0, 1]")                       # ("(", 0, 1, "]")

sum      = term (("+" | "-") term)*
term     = factor (("*" | "/" | nothing) factor)*
factor   = ("+" | "-") factor | atom ("!" | "^" factor)*
atom     = number | name | group | \frac a b | \sqrt[n] a | \sin a ...
"""

from __future__ import annotations

import re
from typing import Any

import sympy  # type: ignore[import-untyped]  # sympy has no types

_TOKEN = re.compile(r"\s*(\\[a-zA-Z]+|\d+(?:\.\d+)?|\.\d+|[a-zA-Z]|\S)")
_NAMES = {r"\pi": sympy.pi, "π": sympy.pi, r"\infty": sympy.oo, "∞": sympy.oo, "i": sympy.I, "e": sympy.E}
_FUNCTIONS = {
    **{rf"\{name}": getattr(sympy, name) for name in ("sin", "cos", "tan", "cot", "sec", "csc", "exp", "log")},
    r"\ln": sympy.log,
    r"\arcsin": sympy.asin,
    r"\arccos": sympy.acos,
    r"\arctan": sympy.atan,
}
_TIMES, _OVER = {"*", r"\cdot", r"\times", "×", "·"}, {"/", r"\div", "÷"}
_OPEN = {"(": ")", "[": "]", "{": "}", r"\lbrace": r"\rbrace"}
_CLOSE = {*_OPEN.values(), "]", ")"}
_DEEPEST = 40


def parse(text: str) -> Any:
    """A sympy expression, or a tuple of a bracket, expressions and a bracket. Raises ValueError for anything else."""
    reader = _Reader(_TOKEN.findall(text))
    found = reader.answer()
    if reader.tokens:
        raise ValueError(f"{reader.tokens[0]!r} was not expected")
    return found


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.depth = tokens, 0

    def next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, *wanted: str) -> str:
        if not self.tokens or (wanted and self.tokens[0] not in wanted):
            raise ValueError(f"expected {' or '.join(wanted) or 'more'}, found {self.next()!r}")
        return self.tokens.pop(0)

    def answer(self) -> Any:
        """Expressions between commas, in brackets or bare; one in round brackets is the expression itself."""
        whole = list(self.tokens)
        bracket = self.next()
        if bracket in ("(", "[", "{", r"\lbrace"):
            self.take()
            parts = self._parts()
            close = self.take(*_CLOSE) if self.next() in _CLOSE else ""
            if close and not self.tokens and (len(parts) > 1 or bracket in ("[", r"\lbrace")):
                return (bracket, *parts, close)
            self.tokens = whole
        parts = self._parts()
        return parts[0] if len(parts) == 1 else ("{", *parts, "}")

    def _parts(self) -> list[Any]:
        parts = [self.sum()]
        while self.next() == ",":
            self.take()
            parts.append(self.sum())
        return parts

    def sum(self) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError("too deeply nested")
        found = self.term()
        while self.next() in ("+", "-", "−"):
            found = found + self.term() if self.take() == "+" else found - self.term()
        self.depth -= 1
        return found

    def term(self) -> Any:
        found = self.factor()
        while token := self.next():
            if token in _TIMES:
                self.take()
                found = found * self.factor()
            elif token in _OVER:
                self.take()
                found = found / self.factor()
            elif token in ("+", "-", "−", ",", "=", r"\rbrace") or token in _CLOSE:
                break
            else:  # side by side is a product
                found = found * self.factor()
        return found

    def factor(self) -> Any:
        sign = self.next()
        if sign in ("+", "-", "−"):
            self.take()
            return self.factor() if sign == "+" else -self.factor()
        found = self.atom()
        while self.next() in ("^", "!"):
            if self.take() == "!":
                found = sympy.factorial(found)
            else:
                found = found ** (self.factor() if self.next() in ("-", "−", "+") else self.atom())
        return found

    def atom(self) -> Any:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return sympy.Rational(token)
        if token in _OPEN:
            found = self.sum()
            self.take(_OPEN[token])
            return found
        if token == r"\frac":
            above, below = self._argument(), self._argument()
            return above / below
        if token == r"\sqrt":
            root = sympy.Integer(2)
            if self.next() == "[":
                self.take()
                root = self.sum()
                self.take("]")
            return self._argument() ** (1 / root)
        if token in _FUNCTIONS:
            return _FUNCTIONS[token](self.atom())
        if token in _NAMES:
            return _NAMES[token]
        if re.fullmatch(r"[a-zA-Z]|\\[a-zA-Z]+", token):
            return self._symbol(token)
        raise ValueError(f"{token!r} was not expected")

    def _symbol(self, token: str) -> Any:
        if self.next() == "_":
            self.take()
            token += f"_{self._argument()}"
        return sympy.Symbol(token)

    def _argument(self) -> Any:
        """A group, or one digit or letter: \frac12 is a half."""
        token = self.next()
        if token.isdigit() and len(token) > 1:
            self.tokens[0] = token[1:]
            return sympy.Integer(token[0])
        return self.atom()
