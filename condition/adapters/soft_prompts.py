"""Prompts of numbers instead of words: soft prompts and prefixes, exact with everything that shares prefixes.

    PromptTuning   learned embeddings before the row             Lester et al. 2021, arXiv 2104.08691
    PTuning        the same, made by a small encoder             Liu et al. 2021, arXiv 2103.10385
    PrefixTuning   learned keys and values in every layer        Li & Liang 2021, arXiv 2101.00190

    tuned = SFTTrainer(PromptTuning(text="Answer in one word."), Settings(learning_rate=0.02)).fit(base, rows, prompt=p)

A soft prompt is read once a batch, not once a row: what rows attend to are its keys and values, as with a prefix.
Folders are PEFT's own; an encoder lies beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import torch
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptLearningConfig, PromptTuningConfig
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.attach import check_network, freeze, marked, shared_copy
from condition.adapters.blocks import width
from condition.adapters.learned_prefix import LearnedPrefix, Recurrent, embeddings_of, folded, perceptron
from condition.errors import ContractError, SettingsError
from condition.prefix_sharing.attention import NAME as ATTENTION
from condition.prefix_sharing.attention import check_seen
from condition.prefix_sharing.learned import NAME, KeysAndValues, record, see
from condition.types import Options

LENGTH = 20
"""Tokens where neither a length nor a text is given."""
FILE = "adapter_model.safetensors"
ENCODER = "encoder.safetensors"


class PromptTuning(Options):
    """Learned embeddings before every row, initialised from a text, or from random words of the vocabulary."""

    length: int | None = Field(default=None, ge=1)
    """Tokens; the text's own number, or 20. A longer text is cut, a shorter one repeated."""
    text: str | None = None
    kind: Literal["prompt_tuning"] = "prompt_tuning"

    @model_validator(mode="after")
    def _text_has_words(self) -> Self:
        _check_text(self.text)
        return self

    def attach(self, network: PreTrainedModel, /, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
        """The network behind a soft prompt; the one given is left as it is.

        Raises SettingsError where a text has no tokenizer, or the network's attention can't be exchanged.
        """
        check_network(network, self)
        embeddings = _words(self.length, self.text, network, tokenizer)
        return _attached(self, network, LearnedPrefix(embeddings))

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write a plain PEFT folder."""
        _save(network, folder, PromptTuningConfig(**_sizes(network, base)))

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the soft prompt of a folder."""
        return _attached(self, network, LearnedPrefix(_saved_rows(folder)))


class PTuning(Options):
    """A soft prompt that an encoder makes while it is trained; it and its encoder are saved, PEFT reads the prompt."""

    length: int = Field(default=LENGTH, ge=1)
    encoder: Literal["mlp", "lstm"] = "mlp"
    size: int | None = Field(default=None, ge=1)
    """Width of the encoder; the network's own where it is not given."""
    kind: Literal["p_tuning"] = "p_tuning"

    def attach(self, network: PreTrainedModel, /) -> PreTrainedModel:
        """The network behind an encoded soft prompt; the one given is left as it is."""
        check_network(network, self)
        words = _words(self.length, None, network, None)
        return _attached(self, network, LearnedPrefix(words, encoder=self._encoder(network)))

    def _encoder(self, network: PreTrainedModel) -> nn.Module:
        inside = width(network)
        size = self.size or inside
        return Recurrent(inside, size) if self.encoder == "lstm" else perceptron(inside, size, inside)

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write a plain PEFT folder with the encoder beside."""
        told: dict[str, Any] = {
            "encoder_reparameterization_type": self.encoder.upper(),
            "encoder_hidden_size": self.size,
        }
        _save(network, folder, PromptEncoderConfig(**_sizes(network, base), **told))

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the soft prompt of a folder, and its encoder where it was kept."""
        if not (folder / ENCODER).is_file():
            return _attached(self, network, LearnedPrefix(_saved_rows(folder)))
        made = LearnedPrefix(torch.zeros(self.length, width(network)), encoder=self._encoder(network))
        return _attached(self, network, _with_encoder(made, folder))


class PrefixTuning(Options):
    """Learned keys and values that every token sees in every layer, initialised from the activations of a text.

    Without a text, from those of random words. With `size`, they are made by a perceptron of that width while they are
    trained, as in the paper; that starts anew and takes no text.
    """

    length: int | None = Field(default=None, ge=1)
    """Tokens; the text's own number, or 20. A longer text is cut, a shorter one repeated."""
    text: str | None = None
    size: int | None = Field(default=None, ge=1)
    kind: Literal["prefix_tuning"] = "prefix_tuning"

    @model_validator(mode="after")
    def _text_has_words(self) -> Self:
        if self.text is not None and self.size is not None:
            raise ValueError("a perceptron (size=...) starts anew and can't be initialised from a text: choose one")
        _check_text(self.text)
        return self

    def attach(self, network: PreTrainedModel, /, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedModel:
        """The network behind a prefix; the one given is left as it is.

        Raises SettingsError where a text has no tokenizer, or the network's attention can't be exchanged.
        """
        check_network(network, self)
        words = _words(self.length, self.text, network, tokenizer)
        keys, values = _activations(self, network, words)
        rows = folded(keys, values)
        if self.size is None:
            return _attached(self, network, LearnedPrefix(rows, heads=keys.shape[1]))
        encoder = perceptron(words.shape[1], self.size, rows.shape[1])
        return _attached(self, network, LearnedPrefix(words, keys.shape[1], encoder))

    def save(self, network: PreTrainedModel, folder: Path, base: str) -> None:
        """Write a plain PEFT folder; a perceptron lies beside."""
        sizes = _sizes(network, base)
        module = prefix_module(network)
        rows = module.served()
        sizes["num_attention_heads"] = module.heads
        sizes["token_dim"] = rows.shape[1] // (2 * sizes["num_layers"])
        _save(network, folder, PrefixTuningConfig(**{**sizes, "encoder_hidden_size": self.size}))

    def load(self, network: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The network with the prefix of a folder."""
        rows = _saved_rows(folder)
        keys, _ = _activations(self, network, _words(1, None, network, None))
        wanted = keys.shape[0] * 2 * keys.shape[1] * keys.shape[3]
        if rows.shape[1] != wanted:
            raise ContractError(
                f"{folder} holds a prefix of {rows.shape[1]:,} numbers a token, and this network takes {wanted:,}: "
                f"give the right base"
            )
        if not (folder / ENCODER).is_file():
            return _attached(self, network, LearnedPrefix(rows, heads=keys.shape[1]))
        inside = width(network)
        encoder = perceptron(inside, self.size or inside, wanted)
        made = LearnedPrefix(torch.zeros(rows.shape[0], inside), keys.shape[1], encoder)
        return _attached(self, network, _with_encoder(made, folder))


SoftPrompt = PromptTuning | PTuning | PrefixTuning


def soft_prompt_from(folder: Path, told: dict[str, Any]) -> SoftPrompt:
    """The adapter of a PEFT folder with the configuration `told`."""
    length = int(told["num_virtual_tokens"])
    if told["peft_type"] == "PROMPT_TUNING":
        return PromptTuning(length=length)
    if told["peft_type"] == "P_TUNING":
        encoder: Literal["mlp", "lstm"] = "lstm" if told.get("encoder_reparameterization_type") == "LSTM" else "mlp"
        return PTuning(length=length, encoder=encoder, size=told.get("encoder_hidden_size"))
    size = told.get("encoder_hidden_size") if (folder / ENCODER).is_file() else None
    return PrefixTuning(length=length, size=size)


def tokens_before(adapter: object, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the context that an adapter will take."""
    if isinstance(adapter, PTuning):
        return adapter.length
    if isinstance(adapter, PromptTuning | PrefixTuning):
        text = "" if adapter.text is None else adapter.text
        return adapter.length or len(tokenizer(text, add_special_tokens=False)["input_ids"]) or LENGTH
    return sum(tokens_before(part, tokenizer) for part in getattr(adapter, "parts", ()))


def prefix_module(network: PreTrainedModel) -> LearnedPrefix:
    """The module that a soft prompt has put into a network."""
    module = getattr(network.base_model, NAME)
    assert isinstance(module, LearnedPrefix)
    return module


def with_prefix(network: PreTrainedModel, module: LearnedPrefix) -> None:
    """Put a learned prefix in front of a network."""
    base = network.base_model
    network.set_attn_implementation(ATTENTION)
    base.add_module(NAME, module.to(network.device))
    base.register_forward_pre_hook(check_seen)
    base.register_forward_pre_hook(see, with_kwargs=True)


def _attached(adapter: SoftPrompt, network: PreTrainedModel, module: LearnedPrefix) -> PreTrainedModel:
    if hasattr(network.base_model, NAME):
        raise SettingsError(f"{type(adapter).__name__} can't stand before another learned prefix: one a network")
    twin = shared_copy(network)
    freeze(twin)
    with_prefix(twin, module)
    _activations(adapter, network, _words(1, None, network, None))
    return marked(twin, adapter)


@torch.no_grad()
def _activations(adapter: SoftPrompt, network: PreTrainedModel, words: Tensor) -> KeysAndValues:
    """Keys and values of embeddings `[length, width]`. Raises SettingsError where they can't be had."""
    twin = shared_copy(network).eval()
    try:
        twin.set_attn_implementation(ATTENTION)
        return record(twin.base_model, words.to(network.device, embeddings_of(twin.base_model).weight.dtype))
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"{type(adapter).__name__} does not fit {type(network).__name__}: {error}. Use LoRA there"
        ) from error


def _words(
    length: int | None, text: str | None, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> Tensor:
    """Embeddings `[length, width]` of a text, or of random words."""
    table = embeddings_of(network.base_model)
    if text is None:
        ids = torch.randint(0, int(table.num_embeddings), (length or LENGTH,)).tolist()
    else:
        own = _tokenizer(network, tokenizer)(text, add_special_tokens=False)["input_ids"]
        length = length or len(own)
        ids = (own * -(-length // len(own)))[:length]
    with torch.no_grad():
        embedded: Tensor = table(torch.tensor(ids, device=table.weight.device))
    return embedded.float().clone()


def _tokenizer(network: PreTrainedModel, given: PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase:
    if given is not None:
        return given
    place = network.name_or_path
    if place and Path(place).is_dir():
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
        return found
    raise SettingsError("text= needs a tokenizer: fit gives it, or attach(network, tokenizer=model.tokenizer)")


def _check_text(text: str | None) -> None:
    if text is not None and not text.strip():
        raise ValueError("an empty text has no words to begin with: leave it out")


def _sizes(network: PreTrainedModel, base: str) -> dict[str, Any]:
    config = network.config.get_text_config()
    return {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "num_virtual_tokens": prefix_module(network).length,
        "token_dim": width(network),
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_transformer_submodules": 1,
    }


@torch.no_grad()
def _save(network: PreTrainedModel, folder: Path, config: PromptLearningConfig) -> None:
    module = prefix_module(network)
    config.save_pretrained(str(folder))
    save_file({"prompt_embeddings": module.served().detach().cpu().contiguous().clone()}, folder / FILE)
    if module.encoder is not None:
        save_file({name: t.cpu().contiguous().clone() for name, t in module.state_dict().items()}, folder / ENCODER)


def _saved_rows(folder: Path) -> Tensor:
    rows = load_file(folder / FILE).get("prompt_embeddings")
    if rows is None:
        raise ContractError(f"{folder / FILE} holds no prompt_embeddings: it is not of a soft prompt")
    return rows


def _with_encoder(made: LearnedPrefix, folder: Path) -> LearnedPrefix:
    try:
        made.load_state_dict(load_file(folder / ENCODER))
    except RuntimeError as error:
        raise ContractError(f"{folder / ENCODER} is not of this adapter on this base: {error}") from error
    return made
