"""Networks that can't share prompts: transformers' `generate` gives what the decoder gives, and says so once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from condition.errors import ModelError, SharingWarning
from condition.models import fallback
from condition.models.local import LocalModel
from condition.types import Completion, Sampling
from tests.conftest import TinyModel

PROMPTS = ["When was the bridge first built?", "Blue.", "Who wrote the letter to the mayor?"]


@pytest.fixture
def apart(tiny_model: TinyModel) -> LocalModel:
    """A network with hooks that the probe does not accept: its attention is not the one that can be exchanged."""
    model = tiny_model()
    model.network.set_attn_implementation("eager")
    return model


def test_greedy_answers_are_the_same_on_both_paths(tiny_model: TinyModel, apart: LocalModel) -> None:
    sampling = Sampling(max_tokens=12, stop=("e",))
    expected = tiny_model().generate(PROMPTS, sampling)
    with pytest.warns(SharingWarning, match="its attention is 'eager'"):
        found = apart.generate(PROMPTS, sampling)
    for [one], [other] in zip(found, expected, strict=True):
        assert (one.token_ids, one.text, one.finish_reason) == (other.token_ids, other.text, other.finish_reason)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert one.usage is not None
        assert one.usage.saved_tokens == 0


@pytest.mark.filterwarnings("ignore::condition.errors.SharingWarning")
@pytest.mark.parametrize(
    "limits", [{}, {"temperature": 0.7, "top_k": 9}, {"top_p": 0.8}, {"min_p": 0.01, "stop": ("e",)}]
)
def test_a_seed_gives_the_same_samples_on_both_paths(
    tiny_model: TinyModel, apart: LocalModel, limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "MOST_ROWS", 8)  # two samples a wave
    sampling = Sampling(**{"max_tokens": 8, "temperature": 1.0, "n": 3, "seed": 2, **limits})
    prompts = [*PROMPTS, PROMPTS[1]]
    expected, found = tiny_model().generate(prompts, sampling), apart.generate(prompts, sampling)
    assert [[c.token_ids for c in row] for row in found] == [[c.token_ids for c in row] for row in expected]
    assert [[c.text for c in row] for row in found] == [[c.text for c in row] for row in expected]


def test_samples_are_written_in_waves(apart: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    write = type(apart.network).generate

    def noted(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        rows.append(len(input_ids))
        return write(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(apart.network), "generate", noted)
    with pytest.warns(SharingWarning):
        found = apart.generate("Who?", Sampling(max_tokens=2, temperature=1.0, n=80))
    assert rows == [32, 32, 16]
    assert len(found[0]) == 80
    rows.clear()
    row = (len(apart.render("Who?").ids) + 2) * 512 + 32 * 512  # a prompt is stored anew for each sample
    apart.memory_bytes = 2 * 9 * row
    apart.generate("Who?", Sampling(max_tokens=2, temperature=1.0, n=20))
    assert rows == [9, 9, 2]


@pytest.mark.filterwarnings("ignore::condition.errors.SharingWarning")
def test_a_network_without_numbers_is_an_error(apart: LocalModel) -> None:
    apart.network.get_output_embeddings().weight.data.fill_(float("nan"))
    for sampling in (Sampling(max_tokens=3), Sampling(max_tokens=3, temperature=1.0)):
        with pytest.raises(ModelError, match="NaN"):
            apart.generate(PROMPTS, sampling)


@pytest.mark.filterwarnings("ignore::condition.errors.SharingWarning")
def test_samples_are_drawn_from_a_seed_and_streamed(apart: LocalModel) -> None:
    sampling = Sampling(max_tokens=8, temperature=1.0, n=3, seed=2)
    first, again = (apart.generate(PROMPTS[:2], sampling) for _ in range(2))
    assert [[c.token_ids for c in row] for row in first] == [[c.token_ids for c in row] for row in again]
    assert len({c.token_ids for c in first[0]}) > 1
    assert [c.token_ids for c in apart.generate(PROMPTS[:1], sampling)[0]] == [c.token_ids for c in first[0]]
    *pieces, last = apart.stream(PROMPTS[0], Sampling(max_tokens=8))
    assert isinstance(last, Completion)
    assert "".join(map(str, pieces)) == last.text == apart.generate(PROMPTS[:1], Sampling(max_tokens=8))[0][0].text
