"""A language model on this machine: writes, scores, explains itself, and is saved with its contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from condition.adapters.registry import adapter_of
from condition.errors import ContractError, PromptError
from condition.models.arguments import check_control, check_options
from condition.models.completion import Wanted, Writer
from condition.models.conversations import Said, conversation, conversations
from condition.models.explain import Explanation, explain
from condition.models.export import Drift, export, merge
from condition.models.generate import generate
from condition.models.history import History
from condition.models.remember import Remembered, recall, remember
from condition.models.render import Renderer, template_of
from condition.models.room import MEMORY_BYTES, Room, checked_bytes
from condition.models.save import push, save
from condition.models.score import score
from condition.models.stream import stream
from condition.prefix_sharing.layout import common_prefix
from condition.prefix_sharing.learned import learned_length
from condition.prompts.fill import fill, several
from condition.prompts.template import as_prompt
from condition.protocols import Control, Prompt
from condition.types import Answer, Completion, Example, Rendered, Sampling, Score, Usage

if TYPE_CHECKING:
    from condition.models.contract import Contract, Source
    from condition.models.quantize import Quantization


@final
class LocalModel:
    """A network with its tokenizer and, where it was tuned, its prompt, contract and history.

    Made by `condition.load` and by trainers. The base of a tuned model stays a base: adapters live in the tuned one.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        source: Source,
        quantization: Quantization | None = None,
        prompt: Prompt | None = None,
        contract: Contract | None = None,
        history: History | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.source = source
        self.quantization = quantization
        self.prompt = prompt
        self.contract = contract
        self.history = history if history is not None else History()
        self._renderer = Renderer(tokenizer)
        self.memory_bytes = memory_bytes

    @property
    def renderer(self) -> Renderer:
        """Messages to ids, as the tokenizer is now: a base may be given another chat template or end of text.

        Raises ContractError for a tuned model, which would be asked otherwise than it was trained.
        """
        now = self._renderer
        if (template_of(self.tokenizer), self.tokenizer.eos_token_id) != (now.chat_template, now.text_stop):
            if self.contract is not None:
                raise ContractError(
                    f"the tokenizer's chat template or end of text was changed after {self.name} was tuned: set it "
                    "back, or load the base anew, change it there and tune again"
                )
            self._renderer = Renderer(self.tokenizer)
        return self._renderer

    @property
    def memory_bytes(self) -> int:
        """What writing may take of the memory beside the weights, 2 GiB at first; models made of this one take it over.

        More samples than fit are written one part after the other, and are the same; one always fits. Raises
        SettingsError for what is no size.
        """
        return self._memory_bytes

    @memory_bytes.setter
    def memory_bytes(self, given: int) -> None:
        self._memory_bytes = checked_bytes(given)

    @property
    def name(self) -> str:
        """The base's name, and the adapter's kind where there is one."""
        adapter = adapter_of(self.network)
        kind = self.contract.adapter_kind if self.contract else getattr(adapter, "kind", None)
        return f"{self.source.name} + {kind}" if kind else self.source.name

    def __repr__(self) -> str:
        return f"LocalModel({self.name!r})"

    @property
    def context(self) -> int:
        """Most tokens that prompt and completion may have together."""
        most = int(getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or 1 << 20)
        return most - learned_length(self.network)

    def generate(
        self,
        prompts: Sequence[Said] | Said,
        sampling: Sampling = Sampling(),
        *,
        control: Control | None = None,
        wanted: Wanted | None = None,
    ) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in one go.

        `wanted(i)` is asked between tokens; where it says no, nobody waits for prompt i any more and it ends early.

        Raises ModelError for what is no prompt or does not fit the context, and `Interrupted` on Ctrl-C, which holds
        what was finished.
        """
        _check_sampling(sampling)
        check_control(control)
        return generate(self._writer, conversations(prompts), sampling, control, wanted=wanted)

    def stream(
        self, prompt: Said, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> Iterator[str | Completion]:
        """Pieces of one completion as they are written, then the whole Completion."""
        _check_sampling(sampling)
        check_control(control)
        return stream(self._writer, conversation(prompt), sampling, control)

    def score(self, prompts: Sequence[Said] | Said, continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """How likely each continuation is behind its prompt; prompts and common headers are computed once."""
        return score(self._writer, conversations(prompts), continuations)

    def remember(self, messages: Said | Prompt) -> Remembered:
        """Keep what prompts begin with, so that later calls do not read it again; a Prompt up to its first variable.

        Raises ModelError for no tokens or more than fit the context, and where the network can't share prefixes.
        """
        if isinstance(messages, Prompt):
            one, other = (self.render(fill(messages, dict.fromkeys(messages.variables, v))).ids for v in ("a", "0"))
            return remember(self.network, one[: common_prefix(one, other)], self.context)
        return remember(self.network, self.render(messages).ids, self.context)

    def recall(self, file: str | Path) -> Remembered:
        """Take up what `remember(...).save(file)` has written, also in another process.

        Raises ContractError where another network kept it, and ModelError where the file can't be read.
        """
        return recall(self.network, file)

    def render(self, messages: Said, target: str | None = None) -> Rendered:
        """Ids, role spans and labels, as training and serving both use them."""
        return self.renderer.render(conversation(messages), target)

    def explain(self, example: Example) -> Explanation:
        """Every token of an example with its role and whether it is trained, beside the prompt that serving sends."""
        return explain(self, example, self._own_prompt())

    def invoke(
        self, inputs: Mapping[str, Any] | str, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> Answer:
        """The answer to one set of the prompt's inputs."""
        return self.batch([inputs], sampling, control=control)[0]

    def batch(
        self,
        inputs: Sequence[Mapping[str, Any] | str],
        sampling: Sampling = Sampling(),
        *,
        control: Control | None = None,
    ) -> list[Answer]:
        """Answers to many, in one call of the network."""
        prompt = self._own_prompt()
        messages = [fill(prompt, _by_name(prompt, given)) for given in several(inputs)]
        parse = getattr(prompt, "parse", None)
        return [_answer(completions, parse) for completions in self.generate(messages, sampling, control=control)]

    def with_prompt(self, prompt: Prompt | str) -> LocalModel:
        """The same model behind another prompt."""
        return LocalModel(
            self.network,
            self.renderer.tokenizer,
            source=self.source,
            quantization=self.quantization,
            prompt=as_prompt(prompt),
            contract=self.contract,
            history=self.history,
            memory_bytes=self.memory_bytes,
        )

    def merge(self) -> LocalModel:
        """A model with the adapter added to its weights, where it is LoRA, AdaLoRA, IA3 or was whole layers.

        Raises SettingsError where there is no such adapter, and for a quantized base: see `export`.
        """
        return merge(self)

    def export(self, folder: str | Path, *, tolerance: float = 0.01) -> Drift:
        """Write the merged model to a folder that every library reads, in fp32 where the base is quantized.

        Tells how far its log-probabilities are from this model's, in nats a token. Raises ModelError, and writes
        nothing, where that is above `tolerance`.
        """
        return export(self, Path(folder), tolerance)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter, tokenizer and contract, all or nothing. The folder is also a plain PEFT adapter folder.

        Raises ModelError where the folder can't be written or holds something else.
        """
        save(self, Path(folder))

    def push_to_hub(self, repo: str, *, private: bool = True) -> str:
        """Save and upload to a hub repository; gives its address."""
        return push(self, repo, private)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return torch.device(self.network.device)

    @property
    def _writer(self) -> Writer:
        return Writer(self.network, self.renderer, self.context, Room(self.network, self.memory_bytes))

    def _own_prompt(self) -> Prompt:
        if self.prompt is None:
            raise PromptError(
                "this model has no prompt of its own: give it one with model.with_prompt(prompt), or use generate"
            )
        return self.prompt


def _answer(completions: list[Completion], parse: Any) -> Answer:
    best = completions[0]
    usage = best.usage
    for other in completions[1:]:
        usage = usage + other.usage if usage and other.usage else usage
    return Answer(
        text=best.text,
        score=best.logprob,
        candidates=tuple(completions),
        parsed=parse(best.text) if parse else None,
        usage=usage or Usage(),
    )


def _by_name(prompt: Prompt, given: Mapping[str, Any] | str) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    if len(prompt.variables) != 1:
        raise PromptError(
            f"the prompt has the variables {sorted(prompt.variables)}: give a dict with them, not one string"
        )
    return dict.fromkeys(prompt.variables, given)


def _check_sampling(sampling: object) -> None:
    check_options(sampling, Sampling, "sampling", {"max_tokens": sampling}, {"max_tokens": 64})
