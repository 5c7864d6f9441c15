"""Samples over stored prompts against `generate` and the plain path."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, TopKLogitsWarper, TopPLogitsWarper

from condition.errors import ControlError
from condition.prefix_sharing.decode import Decoder
from condition.prefix_sharing.memory import store
from condition.prefix_sharing.probe import shareable
from condition.types import Sampling

HEADER = [(7 * i) % 90 + 5 for i in range(20)]
PROMPTS = [[*HEADER, 11, 12, 13], [*HEADER, 14], [*HEADER, 15, 16, 17, 18, 19, 21], HEADER]


class Said(NamedTuple):
    tokens: list[list[int]]
    logprobs: list[float]
    rows: list[int]
    """Rows in each step."""


def write(
    network: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stops: Collection[int] = (),
    processor: LogitsProcessor | None = None,
    ended: Collection[tuple[int, int]] = (),
) -> Said:
    """All samples to their end; `ended` are samples to end after so many tokens."""
    assert shareable(network)
    decoder = Decoder(network, store(network, prompts), prompts, sampling, [stops] * len(prompts), processor)
    count = len(prompts) * sampling.n
    said = Said([[] for _ in range(count)], [0.0] * count, [])
    while True:
        said.rows.append(len(decoder._rows))
        for sample, token, logprob in decoder.step():
            said.tokens[sample].append(token)
            said.logprobs[sample] += logprob
            if (sample, len(said.tokens[sample])) in ended:
                decoder.end(sample)
        if decoder.done:
            return said
        decoder.read()


def plain(network: PreTrainedModel, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """Log-probability of tokens behind a prompt, by the network's own forward pass."""
    with torch.no_grad():
        table = network(torch.tensor([[*prompt, *tokens]])).logits[0].float().log_softmax(-1)
    return sum(float(table[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens))


@pytest.mark.parametrize(
    "prompts",
    [PROMPTS, PROMPTS[:1], [[5, 6, 7], [8, 9]], [PROMPTS[0], PROMPTS[0]]],
    ids=["tree", "one", "apart", "twice"],
)
def test_greedy_is_what_generate_writes(tiny: Any, family: str, prompts: list[list[int]]) -> None:
    network = tiny(family)
    said = write(network, prompts, Sampling(max_tokens=40), stops={3})
    for prompt, tokens, logprob in zip(prompts, said.tokens, said.logprobs, strict=True):
        output = network.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=3,
            pad_token_id=0,
        )
        assert output[0, len(prompt) :].tolist() == tokens
        assert logprob == pytest.approx(plain(network, prompt, tokens), abs=1e-3)


def test_samples_leave_when_they_are_finished_and_the_others_go_on_as_before(tiny: Any, family: str) -> None:
    network = tiny(family)
    sampling = Sampling(max_tokens=40, temperature=1.0, n=5, seed=4)
    said = write(network, PROMPTS, sampling, stops=set(range(60)))
    assert len(set(map(len, said.tokens))) > 3
    assert said.rows[0] == 20
    assert said.rows[-1] < 20
    for sample, (tokens, logprob) in enumerate(zip(said.tokens, said.logprobs, strict=True)):
        assert logprob == pytest.approx(plain(network, PROMPTS[sample // 5], tokens), abs=1e-3)
    alone = write(network, PROMPTS[2:3], sampling, stops=set(range(60)))
    assert alone.tokens == said.tokens[10:15]  # a seed gives the same samples whatever the batch


def test_the_caller_may_end_a_sample(tiny: Any) -> None:
    network = tiny("llama")
    ended = {(0, 3), (1, 3), (2, 1), (3, 40)}
    whole = write(network, PROMPTS, Sampling(max_tokens=40))
    cut = write(network, PROMPTS, Sampling(max_tokens=40), ended=ended)
    assert list(map(len, cut.tokens)) == [3, 3, 1, 40]
    assert all(short == long[: len(short)] for short, long in zip(cut.tokens, whole.tokens, strict=True))


def unlikely(counts: Tensor, expected: Tensor) -> bool:
    """By chi-squared, beyond the 0.999 quantile; places where fewer than five are expected are one."""
    many = expected >= 5
    found, wanted = (torch.cat([x[many], x[~many].sum()[None]]).double() for x in (counts, expected))
    found, wanted = found[wanted > 0], wanted[wanted > 0]
    return float(((found - wanted) ** 2 / wanted).sum()) > chi2.ppf(0.999, len(wanted) - 1)


@pytest.mark.parametrize("limit", [{}, {"top_p": 0.8}, {"top_k": 5}])
def test_shares_of_samples_are_the_models_probabilities(tiny: Any, limit: dict[str, Any]) -> None:
    """Of the first token, and of the second, which is read behind the stored prompt."""
    network = tiny("llama", vocab_size=24)
    prompt = [3, 5, 8, 13]
    said = write(network, [prompt], Sampling(max_tokens=2, temperature=1.0, n=4000, seed=11, **limit))
    warpers = [TopPLogitsWarper(0.8)] * ("top_p" in limit) + [TopKLogitsWarper(5)] * ("top_k" in limit)
    rows = torch.tensor([[*prompt, token] for token in range(24)])
    with torch.no_grad():
        logits = network(rows).logits[:, -2:]
    for warper in warpers:
        logits = torch.stack([warper(None, part) for part in logits.unbind(1)], 1)
    first, second = logits.softmax(-1).unbind(1)
    shares = [first[0], first[0] @ second]
    for place, share in enumerate(shares):
        counts = torch.bincount(torch.tensor([tokens[place] for tokens in said.tokens]), minlength=24)
        assert not unlikely(counts, 4000 * share)
        assert unlikely(counts, 4000 * share.roll(1))
        assert not counts[share == 0].any()


class Seen(LogitsProcessor):
    """Forbids odd tokens, and keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.seen.append(input_ids)
        scores[:, 1::2] = float("-inf")
        return scores


def test_a_processor_sees_what_generate_would_show_it(tiny: Any) -> None:
    network, seen = tiny("llama"), Seen()
    said = write(network, PROMPTS, Sampling(max_tokens=6), processor=seen)
    assert all(token % 2 == 0 for tokens in said.tokens for token in tokens)
    for prompt, tokens, row in zip(PROMPTS, said.tokens, seen.seen[-1].tolist(), strict=True):
        assert row[-len(prompt) - 5 :] == [*prompt, *tokens[:5]]
    for prompt, tokens, logprob in zip(PROMPTS, said.tokens, said.logprobs, strict=True):
        assert logprob == pytest.approx(plain(network, prompt, tokens), abs=1e-3)  # without the limit


def test_behind_its_end_a_processor_sees_a_sample_padded_with_its_stop_token(tiny: Any) -> None:
    network, seen = tiny("llama"), Seen()
    said = write(network, PROMPTS, Sampling(max_tokens=12), stops=[3], processor=seen, ended={(1, 2), (2, 4)})
    assert list(map(len, said.tokens)) == [12, 2, 4, 12]
    for sample in (1, 2):
        ended = len(said.tokens[sample])
        assert seen.seen[-1][sample, -11:].tolist() == [*said.tokens[sample], *[3] * (11 - ended)]


class Script(LogitsProcessor):
    """A RowProcessor by which sample i says token 10 + i, `lengths[i]` times, and then the stop token 3, if it may."""

    def __init__(self, lengths: Sequence[int], blocked: Collection[int] = ()) -> None:
        self.lengths, self.blocked = lengths, blocked
        self.rows: list[int] = list(range(len(lengths)))
        self.said = 0
        self.seen: list[dict[int, list[int]]] = []

    def begin(self, stops: Any, spaced: Any, most: int) -> None:
        raise AssertionError("who decodes has begun")

    def keep(self, rows: Sequence[int]) -> None:
        self.rows = [self.rows[row] for row in rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.seen.append({})
        for place, sample in enumerate(self.rows):
            self.seen[-1].setdefault(sample, input_ids[place].tolist())
            scores[place] = float("-inf")
            if self.said < self.lengths[sample]:
                scores[place, 10 + sample] = 0.0
            elif sample not in self.blocked:
                scores[place, 3] = 0.0
        self.said += 1
        return scores


def test_a_row_processor_is_told_which_rows_go_on(tiny: Any) -> None:
    network, lengths = tiny("llama"), [1, 9, 2, 9, 9, 3, 1, 1]
    script = Script(lengths)
    prompts = [PROMPTS[0], PROMPTS[3], PROMPTS[1], PROMPTS[2]]
    sampling = Sampling(max_tokens=12, temperature=1.0, n=2, seed=0)
    said = write(network, prompts, sampling, stops=[3], processor=script)
    assert said.tokens == [[10 + i] * length + [3] for i, length in enumerate(lengths)]
    assert said.rows[0] == 8 > said.rows[-1]
    for step, seen in enumerate(script.seen):
        for sample, ids in seen.items():
            if step <= lengths[sample]:  # it is still written
                prompt = prompts[sample // 2]
                assert ids[len(ids) - step - len(prompt) :] == [*prompt, *[10 + sample] * step]


def test_a_dead_end_later_on_ends_its_sample_alone(tiny: Any) -> None:
    network, lengths = tiny("llama"), [4, 2, 6]
    script = Script(lengths, blocked=[1])
    sampling = Sampling(max_tokens=9, temperature=1.0, n=3, seed=0)
    assert shareable(network)
    decoder = Decoder(network, store(network, PROMPTS[:1]), PROMPTS[:1], sampling, [[3]], script)
    said: list[list[int]] = [[], [], []]
    while not decoder.done:
        for sample, token, _ in decoder.step():
            said[sample].append(token)
        assert decoder.live == {i for i, n in enumerate(lengths) if decoder.said <= n}
        if not decoder.done:
            decoder.read()
    assert said == [[10] * 4 + [3], [11] * 2, [12] * 6 + [3]]
    assert decoder.blocked == {1}


def test_what_can_not_begin_is_an_error(tiny: Any) -> None:
    with pytest.raises(ControlError, match="no token may come first"):
        write(tiny("llama"), PROMPTS[:1], Sampling(max_tokens=3, n=2), processor=Script([2, 0], blocked=[1]))


def test_some_numbers_of_the_samples_are_those_of_the_whole(tiny: Any) -> None:
    network, sampling = tiny("llama"), Sampling(max_tokens=6, temperature=1.0, n=5, seed=4)
    whole = write(network, PROMPTS[:2], sampling).tokens
    decoder = Decoder(network, store(network, PROMPTS[:2]), PROMPTS[:2], sampling, [()] * 2, numbers=range(3, 5))
    said: list[list[int]] = [[], [], [], []]
    while not decoder.done:
        for sample, token, _ in decoder.step():
            said[sample].append(token)
        if not decoder.done:
            decoder.read()
    assert said == whole[3:5] + whole[8:10]


def test_a_prompt_without_tokens(tiny: Any) -> None:
    for prompts in ([], [[1], []]):
        with pytest.raises(ValueError, match="without tokens"):
            store(tiny("llama"), prompts)
