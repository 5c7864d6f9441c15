r"""The answer of a mathematical solution: MATH. Hendrycks et al. 2021, arXiv 2103.03874.

expression(r"so it is $\boxed{\frac{2}{4}}$", "0.5")      # {"equal": 1.0}
"""

from __future__ import annotations

import re

from condition.errors import DataError
from condition.evaluation.metrics.equality import Equality

SECONDS = 5.0
LONGEST = 400
"""Characters of an answer that are still compared as an expression."""

_SAID = re.compile(r"(?:final\s+)?answer\s*(?:is|:)\s*:?\s*(.+?)(?:\.\s|\.$|\n|$)", re.IGNORECASE)
_equality = Equality()


def expression(prediction: str, answer: str, *, seconds: float = SECONDS) -> dict[str, float]:
    r"""1 where the answer of a solution equals the target: as text once both are normalised, else to sympy.

    The answer is what the last `\boxed{}` holds, else what follows the last "answer is", else the last formula between
    dollars, else all of it. Model text is read by a small grammar in a process of its own and never evaluated; what
    takes more than `seconds` is not equal. Raises DataError for a target without an answer.
    """
    wanted, said = normalised(final(answer)), normalised(final(prediction))
    if not wanted:
        raise DataError(f"the target has no answer: {answer!r:.80}")
    if said.replace(" ", "") == wanted.replace(" ", ""):
        return {"equal": 1.0}
    if not said or max(len(said), len(wanted)) > LONGEST:
        return {"equal": 0.0}
    return {"equal": float(_equality(said, wanted, seconds))}


def final(text: str) -> str:
    r"""The answer in a solution; see `expression`."""
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    said = _SAID.findall(text)
    if said:
        return str(said[-1])
    formulas = re.findall(r"\$([^$]+)\$", text)
    return str(formulas[-1]) if formulas else text


def _boxed(text: str) -> str | None:
    r"""What the last \boxed or \fbox holds, braces balanced."""
    places = list(re.finditer(r"\\(?:boxed|fbox)\s*(?=\{)|\\boxed\s+", text))
    if not places:
        return None
    rest = text[places[-1].end() :]
    if not rest.startswith("{"):
        return rest.split("$")[0].strip()
    depth = 0
    for i, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:i]
    return rest[1:]


def normalised(text: str) -> str:
    """Without units, dollars, spaces and other ways of writing that do not change a value."""
    text = text.strip().strip("$").strip()
    for old, new in (
        (r"\left", ""),
        (r"\right", ""),
        ("dfrac", "frac"),
        ("tfrac", "frac"),
        (r"\!", ""),
        (r"\,", ""),
        (r"\;", ""),
        (r"\ ", " "),
        (r"\$", ""),
        ("$", ""),
        (r"\%", ""),
        ("%", ""),
        (r"^\circ", ""),
        (r"^{\circ}", ""),
        ("°", ""),
        (r"\{", r"\lbrace "),
        (r"\}", r"\rbrace "),
    ):
        text = text.replace(old, new)
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf)\{\s*(?:square |cubic )?[a-z. ]+(?:\^\d)?\}\^?\d?$", "", text).strip()
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf)\{([^{}]*)\}", r"\1", text)
    if not re.search(r"[(\[]|\\lbrace", text):  # between brackets commas part numbers
        text = re.sub(r"\b[1-9]\d{0,2}(?:,\d{3})+(?!\d)", lambda found: found[0].replace(",", ""), text)
    text = re.sub(r"^[a-zA-Z]\s*(?:=|\\in)\s*", "", text)
    return re.sub(r"\s+", " ", text).strip().rstrip(".").strip()
