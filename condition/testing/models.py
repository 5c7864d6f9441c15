"""What writes, and what tells how likely a text is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from condition.errors import ModelError
from condition.models.remote import as_model
from condition.protocols import Model, Scorer
from condition.testing.promises import Promises, same
from condition.testing.samples import CONTINUATIONS, PROMPTS
from condition.types import Completion, Messages, Sampling, Score

TOLERANCE = 1e-3
"""Between log-probabilities that were computed in one batch and in another."""


def check_model(
    model: object, prompts: Sequence[Messages] = PROMPTS, *, max_tokens: int = 8, repeatable: bool = True
) -> None:
    """The promises of a Model, or of a LangChain model: counts and order, samples, stops, lengths, log-probabilities.

    `repeatable=False` is for what says something else each time, as a service may even at temperature 0: then what was
    said is not compared.
    """
    try:
        made = as_model(model)
    except ModelError as error:
        raise AssertionError(f"Model {type(model).__name__}: it is a model. Seen: {error}") from error
    own = Promises(Model, made)
    own.keeps(isinstance(made.name, str) and bool(made.name), "name is a text that is not empty", repr(made.name))
    asked = list(prompts)
    greedy = Sampling(max_tokens=max_tokens)
    nothing = own.call("generate takes an empty list", made.generate, [], greedy)
    own.one_each(nothing, 0, "prompts", "generate gives [] for no prompts")
    said = _said(own, made, asked, greedy)
    drawn = Sampling(max_tokens=max_tokens, temperature=1.0, n=3, seed=0)
    samples = _said(own, made, asked[:2], drawn)
    _said(own, made, asked, Sampling(max_tokens=1))
    if not repeatable:
        _stops(own, made, asked, said, greedy, repeatable=False)
        return
    again = _said(own, made, asked, greedy)
    own.keeps(_texts(again) == _texts(said), "temperature 0 says the same again", (_texts(said), _texts(again)))
    for place, prompt in enumerate(asked):
        alone = _said(own, made, [prompt], greedy)
        own.keeps(
            _texts(alone) == _texts(said[place : place + 1]),
            "a prompt among others is answered as alone, in the order given",
            f"prompt {place}: {_texts(said)[place]} among others, {_texts(alone)[0]} alone",
        )
    _stops(own, made, asked, said, greedy, repeatable=True)
    several = _said(own, made, asked[:1], greedy.model_copy(update={"n": 3}))
    own.keeps(
        _texts(several)[0] == _texts(said)[0] * 3, "at temperature 0 all samples are the greedy one", _texts(several)
    )
    redrawn = _said(own, made, asked[:2], drawn)
    own.keeps(_texts(redrawn) == _texts(samples), "a seed draws the same again", (_texts(samples), _texts(redrawn)))


def _said(own: Promises, model: Model, prompts: Sequence[Messages], sampling: Sampling) -> list[list[Completion]]:
    """What is said to some prompts, which keeps what is promised of any completion."""
    found = own.call("generate answers every prompt", model.generate, list(prompts), sampling, control=None)
    lists = own.one_each(found, len(prompts), "prompts", "generate gives a list with one list for each prompt")
    for one in lists:
        promise = f"Sampling(n={sampling.n}) gives {sampling.n} completions for each prompt"
        own.one_each(one, sampling.n, "samples", promise)
        own.all_are(one, Completion, "a completion is a Completion")
        for completion in one:
            _is_whole(own, completion, sampling)
    return [list(one) for one in lists]


def _is_whole(own: Promises, completion: Completion, sampling: Sampling) -> None:
    """Its tokens, numbers and stops."""
    # What was refused, or ended by a limit, is not what the model would write.
    for stop in sampling.stop if completion.finish_reason != "control" else ():
        promise = "what is written ends before a stop text, which is cut off"
        own.keeps(stop not in completion.text, promise, f"{completion.text!r} with stop={sampling.stop}")
    count = len(completion.token_ids)
    own.keeps(count <= sampling.max_tokens, f"max_tokens={sampling.max_tokens} is kept", f"{count} tokens")
    if completion.logprob is not None:
        own.keeps(completion.logprob <= TOLERANCE, "a log-probability is at most 0", completion.logprob)
    if completion.logprobs:
        own.keeps(len(completion.logprobs) == count, "logprobs has one number a token", completion)
        total = sum(completion.logprobs)
        kept = completion.logprob is not None and same(completion.logprob, total, TOLERANCE)
        own.keeps(kept, "logprob is the sum of logprobs", f"{completion.logprob} and a sum of {total}")


def _stops(
    own: Promises,
    model: Model,
    prompts: list[Messages],
    said: list[list[Completion]],
    greedy: Sampling,
    *,
    repeatable: bool,
) -> None:
    """With a stop text from the midst of what was said, only what is before it is said."""
    for place, (completion,) in enumerate(said):
        signs = [sign for sign in completion.text[1:] if sign.isascii() and sign.isprintable() and not sign.isspace()]
        if not signs or completion.finish_reason == "control":
            continue
        stop = signs[len(signs) // 2]
        ((cut,),) = _said(own, model, [prompts[place]], greedy.model_copy(update={"stop": (stop,)}))
        before = completion.text.partition(stop)[0]
        if repeatable:
            promise = "with a stop text the same is said, up to it"
            own.keeps(cut.text == before, promise, f"{cut.text!r} with stop={stop!r}, {completion.text!r} without")
            own.keeps(cut.finish_reason == "stop", "a stop text gives finish_reason 'stop'", repr(cut.finish_reason))


def check_scorer(
    scorer: Any,
    prompts: Sequence[Messages] = PROMPTS,
    continuations: Sequence[Sequence[str]] = CONTINUATIONS,
) -> None:
    """The promises of a Scorer: counts and order, sums of natural logarithms, one prompt among others as alone."""
    own = Promises(Scorer, scorer)
    nothing = own.call("score takes empty lists", scorer.score, [], [])
    own.one_each(nothing, 0, "prompts", "score gives [] for no prompts")
    asked, texts = list(prompts), [list(own_texts) for own_texts in continuations]
    found = _scores(own, scorer, asked, texts)
    again = _scores(own, scorer, asked, texts)
    own.keeps(same(_logprobs(again), _logprobs(found), TOLERANCE), "the same is scored alike again", (found, again))
    for place in range(len(asked)):
        alone = _scores(own, scorer, asked[place : place + 1], texts[place : place + 1])
        own.keeps(
            same(_logprobs(alone)[0], _logprobs(found)[place], TOLERANCE),
            "a prompt among others is scored as alone, in the order given",
            f"prompt {place}: {found[place]} among others, {alone[0]} alone",
        )
        turned = _scores(own, scorer, asked[place : place + 1], [texts[place][::-1]])
        own.keeps(
            same(_logprobs(turned)[0][::-1], _logprobs(found)[place], TOLERANCE),
            "scores stand in the order of their continuations",
            f"{texts[place]}: {found[place]}, the other way round: {turned[0]}",
        )
    if asked:
        own.refuses("lists of different length are refused", scorer.score, asked, texts[:-1])


def _scores(
    own: Promises, scorer: Scorer, prompts: list[Messages], continuations: list[list[str]]
) -> list[list[Score]]:
    found = own.call("score takes every prompt", scorer.score, prompts, continuations)
    lists = own.one_each(found, len(prompts), "prompts", "score gives a list with one list for each prompt")
    for texts, scores in zip(continuations, lists, strict=True):
        own.one_each(scores, len(texts), "continuations", "score gives one Score for each continuation")
        own.all_are(scores, Score, "a score is a Score")
        for text, score in zip(texts, scores, strict=True):
            kept = float("-inf") < score.logprob <= TOLERANCE
            own.keeps(kept, "a log-probability is finite and at most 0", f"{score} of {text!r}")
            own.keeps(score.chars == len(text), "chars is the length of the continuation", f"{score} of {text!r}")
            own.keeps(score.tokens >= bool(text), "a text has tokens", f"{score} of {text!r}")
            if not text:
                own.keeps(abs(score.logprob) <= TOLERANCE, "the empty text is certain: log-probability 0", score)
    return [list(scores) for scores in lists]


def _texts(found: Sequence[Sequence[Completion]]) -> list[list[str]]:
    return [[completion.text for completion in one] for one in found]


def _logprobs(found: Sequence[Sequence[Score]]) -> list[list[float]]:
    return [[score.logprob for score in one] for one in found]
