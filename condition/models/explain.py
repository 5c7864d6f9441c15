"""What training shows a model and what serving sends it, token by token, and the difference between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from condition.errors import PromptError
from condition.models.render import IGNORED
from condition.models.trim import trim
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.protocols import Prompt
from condition.types import Example, Rendered, Value

if TYPE_CHECKING:
    from condition.models.local import LocalModel


class Token(NamedTuple):
    """One token of a training row."""

    id: int
    text: str
    role: str
    trained: bool


class Explanation(Value):
    """An example as the model reads it. Printed, it is a table."""

    tokens: tuple[Token, ...]
    """The training row."""
    served: tuple[int, ...]
    """Ids that serving sends for the same inputs."""

    @property
    def difference(self) -> tuple[int, ...]:
        """Places at which the training row's prompt and the served one differ: none.

        Unless training cut the row (`too_long='trim'`); serving never does.
        """
        prompt = [
            t.id for t in self.tokens[: next((i for i, t in enumerate(self.tokens) if t.trained), len(self.tokens))]
        ]
        longest = max(len(prompt), len(self.served))
        pairs = zip(
            prompt + [-1] * (longest - len(prompt)), [*self.served, *[-1] * (longest - len(self.served))], strict=True
        )
        return tuple(i for i, (a, b) in enumerate(pairs) if a != b)

    def __str__(self) -> str:
        lines = [
            f"{i:5}  {t.id:7}  {t.role:10} {'trained' if t.trained else '':8} {t.text!r}"
            for i, t in enumerate(self.tokens)
        ]
        trained = sum(t.trained for t in self.tokens)
        head = f"{len(self.tokens)} tokens, {trained} trained; serving sends the first {len(self.served)}"
        places = ", ".join(map(str, self.difference)) or "none"
        return "\n".join(
            [
                head,
                f"{'place':>5}  {'id':>7}  {'role':10} {'':8} text",
                *lines,
                f"difference between training and serving: {places}",
            ]
        )


def _as_trained(model: LocalModel, row: Rendered) -> Rendered:
    """The row as the model's own training cut it, where it did: serving sends the whole prompt."""
    settings = model.contract.settings if model.contract else {}
    if settings.get("too_long") != "trim":
        return row
    return trim(row, min(settings.get("max_length") or model.context, model.context)) or row


def explain(model: LocalModel, example: Example, prompt: Prompt | str) -> Explanation:
    """Every token of an example, its role, trained or not, beside the prompt that serving will send."""
    prompt = as_prompt(prompt)
    messages = fill(prompt, example.inputs)
    row = _as_trained(model, model.render(messages, example.target))
    roles = {i: span.role for span in row.spans for i in range(span.start, span.stop)}
    if len(roles) != len(row.ids):
        raise PromptError("the rendering left tokens without a role")
    texts = [str(model.tokenizer.decode([i])) for i in row.ids]
    tokens = (
        Token(i, t, roles[n], row.labels[n] != IGNORED) for n, (i, t) in enumerate(zip(row.ids, texts, strict=True))
    )
    return Explanation(tokens=tuple(tokens), served=model.render(messages).ids)
