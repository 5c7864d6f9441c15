"""A soft prompt made of a text is that text; folders are PEFT's; nothing else stands before a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerBase

from condition.adapters.attach import freeze, trainable
from condition.adapters.learned_prefix import folded, unfolded
from condition.adapters.mixed import Mixed
from condition.adapters.registry import adapter_of, load_adapter, save_adapter
from condition.adapters.soft_prompts import PrefixTuning, PromptTuning, PTuning, tokens_before
from condition.errors import ContractError, ModelError, SettingsError
from condition.models.local import LocalModel
from condition.prefix_sharing.attention import NAME
from condition.prefix_sharing.learned import learned_length
from condition.prefix_sharing.logprobs import logprobs, plain_logprobs
from condition.prefix_sharing.probe import shareable
from condition.training.settings import Settings
from condition.training.sft import SFTTrainer
from condition.types import Sampling
from tests.conftest import Tiny, TinyModel

TEXT = "Answer from the passage in one short sentence."
IDS = torch.arange(3, 40)[None]
SOFT = [PromptTuning(length=5), PTuning(length=5), PTuning(length=5, encoder="lstm", size=4), PrefixTuning(length=5)]


@pytest.mark.parametrize("kind", [PromptTuning, PrefixTuning])
@torch.no_grad()
def test_made_of_a_text_it_is_that_text(
    tiny: Tiny, family: str, tiny_tokenizer: PreTrainedTokenizerBase, kind: Any
) -> None:
    network = tiny(family)
    words = tiny_tokenizer(TEXT)["input_ids"]
    expected = network(input_ids=torch.cat([torch.tensor([words]), IDS], 1)).logits[:, len(words) :]
    soft = kind(text=TEXT).attach(network, tiny_tokenizer)
    torch.testing.assert_close(soft(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert shareable(soft)
    rows = [words[:3] + [7, 8, 9] * 8 + end for end in ([10, 11], [12], [13, 14, 15])]
    behind = plain_logprobs(network, [words + row for row in rows], [len(words) + 10] * 3)
    for found, wanted in zip(logprobs(soft, rows, [10] * 3), behind, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adapter", [*SOFT[:1], SOFT[-1], Mixed()], ids=lambda a: a.kind)
@pytest.mark.parametrize("other", ["eager", "sdpa"])
@torch.no_grad()
def test_an_attention_that_does_not_see_the_prefix_is_refused(tiny: Tiny, adapter: Any, other: str) -> None:
    """It would read rows without it; the base may have any."""
    base = tiny("llama")
    network = adapter.attach(base).eval()
    expected = network(input_ids=IDS).logits
    network.set_attn_implementation(other)
    with pytest.raises(ModelError, match=f"was set to '{other}', which does not see it: network.set_attn"):
        network(input_ids=IDS)
    network.set_attn_implementation(NAME)
    assert torch.equal(network(input_ids=IDS).logits, expected)
    base.set_attn_implementation(other)
    assert torch.isfinite(base(input_ids=IDS).logits).all()


def test_what_is_written_behind_a_text_of_numbers(tiny_model: TinyModel) -> None:
    base = tiny_model()
    words = tuple(base.tokenizer(TEXT)["input_ids"])
    tuned = LocalModel(PrefixTuning(text=TEXT).attach(base.network, base.tokenizer), base.tokenizer, source=base.source)
    assert tuned.context == base.context - len(words) == base.context - learned_length(tuned.network)
    (completion,) = tuned.generate("What is the sky?", Sampling(max_tokens=6))[0]
    ids = [*words, *base.render("What is the sky?").ids]
    for token in completion.token_ids:
        assert token == int(base.network(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        ids.append(token)
    with tuned.remember("What is the sky, the grass and the sea, in the village?") as kept:
        assert len(kept.ids) > 16
        prompt = "What is the sky, the grass and the sea, in the village? It is"
        (remembered,) = tuned.generate(prompt, Sampling(max_tokens=4))[0]
    (read,) = tuned.generate(prompt, Sampling(max_tokens=4))[0]
    assert remembered.logprobs == pytest.approx(read.logprobs, abs=1e-4)
    assert "".join(p for p in tuned.stream("What is the sky?", Sampling(max_tokens=6)) if isinstance(p, str))


@pytest.mark.parametrize("adapter", SOFT, ids=lambda a: a.kind)
@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")  # PEFT
@torch.no_grad()
def test_peft_reads_the_folder(tiny: Tiny, family: str, adapter: Any, tmp_path: Path) -> None:
    network = adapter.attach(tiny(family)).eval()
    save_adapter(network, tmp_path, "org/base")
    expected = network(input_ids=IDS).logits
    theirs = PeftModel.from_pretrained(tiny(family), str(tmp_path)).eval()
    found = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -IDS.shape[1] :]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adapter", SOFT, ids=lambda a: a.kind)
def test_a_plain_peft_folder_is_read(tiny: Tiny, adapter: Any, tmp_path: Path) -> None:
    network = adapter.attach(tiny("llama")).eval()
    save_adapter(network, tmp_path, "org/base")
    (tmp_path / "encoder.safetensors").unlink(missing_ok=True)
    again = load_adapter(tiny("llama"), tmp_path, None)
    torch.testing.assert_close(again(input_ids=IDS).logits, network(input_ids=IDS).logits)
    own = adapter_of(again)
    assert own is not None
    assert own.kind == adapter.kind
    assert [name.rpartition(".")[2] for name in trainable(again)] == ["rows"]


def test_sliding_windows_see_the_prefix_too(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8,
    )  # fmt: skip
    network = MistralForCausalLM(config).eval()
    tuned = PrefixTuning(length=4).attach(network, tiny_tokenizer)
    rows = tuned.get_parameter("model.learned_prefix.rows")
    rows.data += torch.randn_like(rows)
    with torch.no_grad():
        whole = tuned(input_ids=IDS).logits
        written = tuned(input_ids=IDS[:, :20], use_cache=True)
        rest = tuned(input_ids=IDS[:, 20:], past_key_values=written.past_key_values).logits
    torch.testing.assert_close(rest, whole[:, 20:], rtol=1e-4, atol=1e-5)
    whole[0, -1].sum()
    assert not torch.allclose(whole[0, -1], network(input_ids=IDS).logits[0, -1], atol=1e-3)


def test_folding_is_undone() -> None:
    keys, values = torch.randn(2, 3, 2, 5, 4).unbind(0)
    found = unfolded(folded(keys, values), 2, 3)
    assert torch.equal(found[0], keys)
    assert torch.equal(found[1], values)


def test_lengths(tiny: Tiny, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    count = len(tiny_tokenizer(TEXT)["input_ids"])
    for adapter, length in (
        (PromptTuning(), 20),
        (PromptTuning(text=TEXT), count),
        (PromptTuning(text=TEXT, length=3), 3),
        (PrefixTuning(text=TEXT, length=2 * count), 2 * count),
        (PTuning(length=4), 4),
    ):
        network = adapter.attach(tiny("llama"), *(() if isinstance(adapter, PTuning) else (tiny_tokenizer,)))
        assert learned_length(network) == tokens_before(adapter, tiny_tokenizer) == length
    twice = PrefixTuning(text=TEXT, length=2 * count).attach(tiny("llama"), tiny_tokenizer)
    once = PromptTuning(text=f"{TEXT}", length=2 * count).attach(tiny("llama"), tiny_tokenizer)
    torch.testing.assert_close(twice(input_ids=IDS).logits, once(input_ids=IDS).logits)


def test_rows_are_shortened_by_what_stands_before_them(tiny_model: TinyModel) -> None:
    base = tiny_model("gpt2", n_positions=192)
    rows = [{"q": "sky " * 250, "target": "It is"}]
    settings = Settings(max_steps=1, batch_size=1, too_long="trim", precision="fp32")
    tuned = SFTTrainer(PromptTuning(length=40), settings).fit(base, rows, prompt="{q}")
    assert tuned.contract is not None
    assert tuned.contract.metrics["rows_trimmed"] == 1
    with pytest.raises(SettingsError, match="takes 191 tokens of a context of 192"):
        SFTTrainer(PromptTuning(length=191), settings).fit(base, rows, prompt="{q}")


def test_what_does_not_fit_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs a tokenizer"):
        PromptTuning(text=TEXT).attach(tiny("llama"))
    with pytest.raises(SettingsError, match="one a network"):
        PrefixTuning(length=2).attach(PromptTuning(length=2).attach(tiny("llama")))
    for options in ({"length": 0}, {"text": "  "}, {"text": TEXT, "size": 4}):
        with pytest.raises(SettingsError):
            PrefixTuning(**options)  # type: ignore[arg-type]
    save_adapter(PrefixTuning(length=2).attach(tiny("llama")), tmp_path, "base")
    with pytest.raises(ContractError, match="give the right base"):
        load_adapter(tiny("llama", num_hidden_layers=3), tmp_path, {"kind": "prefix_tuning", "length": 2})


def test_the_prefix_takes_no_part_in_freezing(tiny: Tiny) -> None:
    tuned = PromptTuning(length=3).attach(tiny("llama"))
    assert list(trainable(tuned)) == ["model.learned_prefix.rows"]
    freeze(tuned)
    assert not trainable(tuned)
