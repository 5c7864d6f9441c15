"""Chain of Hindsight: feedback of any kind is turned into a sentence, and the model learns what follows it.

    tuned = HindsightTrainer().fit(base, rankings, prompt=qa)
    tuned.invoke({"question": "..."})                # asked with the positive sentence behind the prompt

    question + "An unhelpful answer:" -> a worse one,  "A helpful answer:" -> the best one        a chain, both ways

Liu et al. 2023, arXiv 2302.02676. Every answer is learned behind all that stands before it, none of the feedback is.
A ranking's answers lie in one tree, so that the prompt is computed once. `forget=0.05` masks some of the past, as the
paper does. Left out of its recipe: a share of pretraining text.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, final

import torch
from transformers import PreTrainedModel

from condition.adapters.lora import LoRA
from condition.adapters.registry import KeptAdapter
from condition.data.preferences import read_opinions
from condition.errors import DataError, SettingsError
from condition.models.local import LocalModel
from condition.prefix_sharing.layout import common_prefix, pack
from condition.prefix_sharing.logprobs import logprobs, packed_logprobs
from condition.prefix_sharing.probe import shareable
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.prompts.told import Told, answered, tell
from condition.protocols import Prompt
from condition.training.against import check_not_negative
from condition.training.candidates import counted, log_left_out
from condition.training.exploding import of_tokens
from condition.training.fit import Task, check_arguments, fitted
from condition.training.forgetting import forgetful
from condition.training.limits import limit_of, over_limit
from condition.training.losses import sft_loss
from condition.training.objective import Measured
from condition.training.rows import Origin, Prepared, Row, origin_of, render, row_name
from condition.training.settings import Settings
from condition.training.watch import Watch
from condition.types import Example, Feedback, Messages, Ranking, Rendered

log = logging.getLogger("condition")
Said = bool | float | str


def sentence(said: Said) -> str:
    """What a thumb, a grade or words become; it stands behind the prompt, before the answer."""
    if isinstance(said, bool):
        return "A helpful answer:" if said else "An unhelpful answer:"
    return f"An answer of which was said: {said}" if isinstance(said, str) else f"An answer graded {said:g}:"


@final
class HindsightTrainer:
    """Fits a model to Rankings or Feedback of any kind. The model given stays as it is.

    `sentence` turns feedback into words; of a ranking the best candidates are thumbs up (True), worse ones down.
    `positive` is the feedback that the tuned model is asked for in serving: True, or the highest grade where there are
    only grades. With words alone it has to be given. `forget` is the largest share of the past that a token does not
    see in training, see `forgetting`; the paper takes 0.05.
    """

    def __init__(
        self,
        adapter: KeptAdapter = LoRA(),
        settings: Settings = Settings(),
        *,
        sentence: Callable[[Said], str] = sentence,
        positive: Said | None = None,
        forget: float = 0.0,
    ) -> None:
        check_arguments(adapter, settings, "HindsightTrainer")
        if not callable(sentence):
            raise SettingsError(f"sentence={sentence!r:.60}: give a function that turns feedback into words")
        if not isinstance(positive, bool | float | int | str | None):
            raise SettingsError(f"positive={positive!r:.60}: give True, a grade or words")
        check_not_negative(forget=forget)
        if forget >= 1:
            raise SettingsError(f"forget={forget!r}: give a share below 1, the paper takes 0.05")
        self.adapter, self.settings, self.sentence, self.positive = adapter, settings, sentence, positive
        self.forget = forget

    def fit(
        self,
        model: LocalModel,
        data: object,
        *,
        prompt: Prompt | str,
        validation: object = None,
        watch: Watch | None = None,
    ) -> LocalModel:
        """A tuned model whose prompt asks for an answer of the positive kind.

        `data` and `validation` are Rankings or Feedback, both mixed, rows, a `datasets.Dataset` or a path. Raises
        DataError, SettingsError or ModelError before any work is lost.
        """
        rows = read_opinions(data)
        positive = self._positive(rows)
        if self.forget and isinstance(model, LocalModel) and not shareable(model.network):
            raise SettingsError(
                "forget needs a network whose prompts can be shared, which this one's can't (see the warning): "
                "leave it out"
            )
        asked = Told(as_prompt(prompt), self._words(positive))
        task = Task(
            "HindsightTrainer",
            partial(prepare_chains, sentence=self._words),
            partial(chain_likelihood, forget=self.forget),
            {
                "positive": positive,
                "sentences": [self._words(True), self._words(False)],
                **({"forget": self.forget} if self.forget else {}),
            },
        )
        held = None if validation is None else read_opinions(validation)
        return fitted(task, self.adapter, self.settings, model, rows, asked, held, watch)

    def _words(self, said: Said) -> str:
        words: object = self.sentence(said)
        if not isinstance(words, str) or not words.strip():
            raise SettingsError(f"sentence({said!r:.60}) gives {words!r:.60}: give a function that turns it into words")
        return words

    def _positive(self, rows: Sequence[Ranking | Feedback]) -> Said:
        """What is asked for; said aloud where the training never sees its sentence."""
        said = [link.said for row in rows for chain in _chains(row) for link in chain]
        grades = [value for value in said if isinstance(value, float)]
        positive: Said | None = self.positive
        if positive is None and said and not grades and all(isinstance(value, str) for value in said):
            raise SettingsError(
                "the feedback is words alone: say which the tuned model should be asked for, positive='...'"
            )
        if positive is None:
            positive = True if not grades or any(isinstance(value, bool) for value in said) else max(grades)
        words = self._words(positive)
        if said and words not in {self._words(value) for value in said}:
            log.warning(
                "the tuned model will be asked with %r, which no training row says: give rows of that kind, "
                "or HindsightTrainer(positive=...) one that they say",
                words,
            )
        return positive


class _Link(NamedTuple):
    """An answer and what was said of it."""

    said: Said
    text: str


@dataclass(frozen=True)
class HindsightChain:
    """Answers to one prompt, each behind the feedback on it, trained together."""

    links: tuple[Row, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.links[0].ids

    @property
    def start(self) -> int:
        return self.links[0].start

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(label for link in self.links for label in link.labels)


def prepare_chains(
    model: LocalModel,
    data: object,
    prompt: Prompt,
    settings: Settings,
    what: str,
    taken: int = 0,
    *,
    sentence: Callable[[Said], str],
) -> Prepared:
    """A row for each ranking or piece of feedback; rankings that are all tied are left out, and counted.

    Links that would be too long are left out, and counted; or else the prompt is trimmed, the same before all links of
    a row, while answers and feedback stay whole. Raises DataError for none left, for a first link that is too long
    without a policy, and as `prepare` does.
    """
    inner = prompt.prompt if isinstance(prompt, Told) else prompt
    limit = limit_of(model, settings, taken)
    rows: list[HindsightChain] = []
    origins: list[Origin] = []
    gone: Counter[str] = Counter()
    trimmed = 0
    for number, opinion in enumerate(read_opinions(data)):
        name = row_name(number, opinion.id)
        where = f"{what} {name}"
        chains = _chains(opinion)
        if not chains:
            gone["all candidates tied"] += 1
            continue
        # Where the inputs do not fit the prompt it says so here, with the row's place.
        rendered = render(model, Example(opinion.inputs, "x"), inner, where, is_opinion=True)
        begun = fill(inner, opinion.inputs)
        links = [link for chain in chains for link in _rendered(model, begun, chain, sentence)]
        short = _trimmed(links, rendered, limit) if settings.too_long == "trim" else _short(links, limit)
        trimmed += not set(short) <= set(links)
        if not short and settings.too_long == "raise":
            long = len(links[0].ids)
            raise DataError(over_limit(where, long, model, settings, taken, "the longest message of the prompt"))
        gone["too many tokens"] += not short
        gone["links of a chain too long"] += len(links) - len(short) if short else 0
        if short:
            rows.append(HindsightChain(tuple(short)))
            told = [words for link in chains[0] for words in (sentence(link.said), link.text)]
            origins.append(origin_of(name, inner, opinion.inputs, told))
    log_left_out(+gone, what)
    if not rows:
        raise DataError(f"no {what} rows{f' left: {counted(+gone)}' if gone else ': the data is empty'}")
    return Prepared(rows, gone["too many tokens"] + gone["all candidates tied"], trimmed, origins)


def _short(links: Sequence[Row], limit: int) -> list[Row]:
    return [link for link in links if len(link.ids) <= limit]


def _trimmed(links: Sequence[Row], rendered: Rendered, limit: int) -> list[Row]:
    """Links that fit once the prompt's longest message has lost its beginning; `rendered` is the prompt alone."""
    alike = min(common_prefix(rendered.prompt_ids, link.ids) for link in links)
    messages = [(s.start, min(s.stop, alike)) for s in rendered.spans if s.role != "template" and s.start < alike]
    begin, end = max(messages, key=lambda message: message[1] - message[0], default=(0, 1))
    short = _short(links, limit + end - begin - 1)
    excess = max((len(link.ids) - limit for link in short), default=0)
    if excess <= 0:
        return short
    return [Row(link.ids[:begin] + link.ids[begin + excess :], link.start - excess) for link in short]


def _chains(opinion: Ranking | Feedback) -> list[list[_Link]]:
    """Orders in which answers follow each other: from the best to the worst, and back; none where all are tied."""
    if isinstance(opinion, Feedback):
        return [[_Link(opinion.said, opinion.completion)]]
    worse = {j for _, j in opinion.pairs}
    if not worse:
        return []
    down = [_Link(place not in worse, text) for place, text in enumerate(opinion.candidates)]
    return [down, down[::-1]]


def _rendered(model: LocalModel, begun: Messages, chain: Sequence[_Link], sentence: Callable[[Said], str]) -> list[Row]:
    messages, rows = begun, []
    for link in chain:
        messages = tell(messages, sentence(link.said))
        rendered = model.render(messages, link.text)
        rows.append(Row(rendered.ids, len(rendered.prompt_ids)))
        messages = answered(messages, link.text)
    return rows


def chain_likelihood(
    network: PreTrainedModel, rows: Sequence[HindsightChain], shared: bool, forget: float = 0.0
) -> Measured:
    """The negative log-likelihood of all answers of all chains, in training with some of the past forgotten."""
    links = [link for row in rows for link in row.links]
    sequences, starts = [link.ids for link in links], [link.start for link in links]
    if forget and network.training:
        values = packed_logprobs(network, forgetful(pack(sequences, starts), forget))
    else:
        values = torch.cat(logprobs(network, sequences, starts, shared=shared))
    return Measured(sft_loss(values), surprise=of_tokens(network, values))
