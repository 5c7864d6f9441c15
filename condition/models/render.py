"""The one place where messages become token ids, for training, evaluation and serving alike.

The prompt's ids are made first and never change: serving sends them, training continues them with the target's ids
and the stop token. Spans say who wrote each token; labels come from spans, never from token ids, so `pad == eos`
can't hide the stop token and a prompt can't leak into the loss.

A tokenizer without a chat template gets `PLAIN_TEMPLATE`:

    <words of the system message>

    User: <words>
    Assistant: <words>
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, final

from condition.errors import PromptError
from condition.models.checked import check_text, checked, roles
from condition.models.spans import Piece, chat_pieces, spans_of, text_pieces
from condition.types import Message, Messages, Rendered, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{{ bos_token if bos_token and add_bos else '' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ message['role'][0] | upper + message['role'][1:] + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token or '' }}{% endif %}{{ '\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""For base models: documented, and the same in training and serving. The answer follows with a space."""

IGNORED = -100

_ANCHORS = ("\n", ".", "x")
"""What words are put behind to see how they are cut there; the first that does not grow together with them is used."""

TURNS = threading.RLock()
"""Threads take turns: a tokenizer keeps its settings between calls, and seeds use the process's random state."""


@final
class Renderer:
    """Messages to ids, by a tokenizer's own chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.chat_template = template_of(tokenizer)
        self.plain = self.chat_template is PLAIN_TEMPLATE
        self._adds_bos = _adds_bos(tokenizer)
        self._options: dict[str, Any] = {"add_bos": self._adds_bos} if self.plain else {}
        self._specials = _specials(tokenizer)
        self.chat_stop, self.text_stop = self._stop_of_chat(), tokenizer.eos_token_id

    def render(self, messages: Sequence[Message], target: str | None = None) -> Rendered:
        """Ids, spans and labels of a prompt, and of a target behind it.

        With a target its tokens and the stop token, a span of its own, are labelled; without one nothing is, and the
        ids end where the model goes on. Raises PromptError for no messages, for text mixed with turns, and for a
        template that does not show a message's words.
        """
        messages = checked(messages)
        check_text("target", target or "")
        is_text = messages[0].role == "text"
        with TURNS:
            ids, spans = self._text_prompt(messages) if is_text else self._chat_prompt(messages)
            written = [] if target is None else self._target_ids(messages, ids, target, is_text)
        if target is None:
            return Rendered(ids=tuple(ids), spans=tuple(spans), labels=(IGNORED,) * len(ids))
        stop = self.stop_token(messages)
        end = len(ids) + len(written)
        spans += [Span("assistant", len(ids), end), Span("stop", end, end + 1)]
        labels = (IGNORED,) * len(ids) + (*written, stop)
        return Rendered(ids=(*ids, *written, stop), spans=tuple(spans), labels=labels)

    def continuations(self, messages: Sequence[Message], texts: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """A prompt's ids, and those of each text as a target behind it, without the stop token."""
        messages = checked(messages)
        is_text = messages[0].role == "text"
        for text in texts:
            check_text("target", text)
        with TURNS:
            ids, _ = self._text_prompt(messages) if is_text else self._chat_prompt(messages)
            return ids, [self._target_ids(messages, ids, text, is_text) for text in texts]

    def stop_token(self, messages: Sequence[Message]) -> int:
        """The token that ends the model's turn."""
        stop = self.text_stop if messages[0].role == "text" else self.chat_stop
        if not isinstance(stop, int):
            raise PromptError("the tokenizer has no end-of-text token: set tokenizer.eos_token before rendering")
        return stop

    def _text_prompt(self, messages: Messages) -> tuple[list[int], list[Span]]:
        bos = [self.tokenizer.bos_token_id] if self._adds_bos else []
        parts = [part for m in messages for part in text_pieces(m)]
        if self._is_mixed(parts):
            ids, _ = self._encode_apart(parts)
            spans = [Span("text", 0, len(ids))]
        else:
            ids, spans = self._encode([Piece("text", m.content) for m in messages])
        if bos and ids[:1] != bos:
            return bos + ids, [Span("template", 0, 1), *(Span(s.role, s.start + 1, s.stop + 1) for s in spans)]
        return ids, spans

    def _chat_prompt(self, messages: Messages) -> tuple[list[int], list[Span]]:
        return self._encode(chat_pieces(messages, self._apply))

    def _apply(self, messages: Sequence[Message]) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        # A template may read the last turn as one to be continued; ours always asks for a new one.
        try:
            text = self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=True,
                chat_template=self.chat_template,
                **self._options,
            )
        except Exception as error:  # a template is a program of its own and may raise anything
            raise PromptError(
                f"the model's chat template refuses these messages ({roles(messages)}): {error}"
            ) from error
        return str(text)

    def _encode(self, pieces: list[Piece]) -> tuple[list[int], list[Span]]:
        """One tokenization of the whole text, so that ids are those of the chat template's own; spans by offsets."""
        pieces = [p for p in pieces if p.text]
        text = "".join(p.text for p in pieces)
        if self._is_mixed(pieces):
            return self._encode_apart(pieces)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), spans_of(pieces, encoded["offset_mapping"])

    def _is_mixed(self, pieces: list[Piece]) -> bool:
        """Whether a special token's name stands in words of data, be it in part: between two pieces, for example."""
        text = "".join(p.text for p in pieces)
        own = ["".join(p.text for p in run) for acts, run in groupby(pieces, lambda p: p.acts) if acts]
        return any(text.count(name) != sum(words.count(name) for words in own) for name in self._specials.values())

    def _encode_apart(self, pieces: list[Piece]) -> tuple[list[int], list[Span]]:
        """Each piece by itself, words literally: a special token's name in data must not act as one."""
        ids: list[int] = []
        spans: list[Span] = []
        for piece in pieces:
            encode = self._plain if piece.acts else self._literal
            own = _continued(piece.text, encode) if ids else encode(piece.text)
            spans.append(Span(piece.role, len(ids), len(ids) + len(own)))
            ids += own
        return ids, spans

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _literal(self, text: str) -> list[int]:
        ids = list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        # The token for unknown words may stand in for them, not for its own name.
        acting = {i for i, name in self._specials.items() if name != self.tokenizer.unk_token or name in text}
        if acting & set(ids):
            raise PromptError(
                f"the words {text!r:.60} hold a special token and this tokenizer can't write it literally"
            )
        return ids

    def _target_ids(self, messages: Messages, prompt_ids: list[int], target: str, is_text: bool) -> list[int]:
        """The target's tokens as they follow the prompt; the prompt's own ids are never re-cut."""
        if self.plain and not is_text and target and not target[0].isspace():
            target = " " + target  # PLAIN_TEMPLATE's "Assistant:" ends without one, so that no token holds a lone space
        if any(special in target for special in self._specials.values()):
            return _continued(target, self._literal)
        prompt = "".join(m.content for m in messages) if is_text else self._apply(messages)
        bare = (
            prompt_ids[1:]
            if is_text and self._adds_bos and prompt_ids[:1] == [self.tokenizer.bos_token_id]
            else prompt_ids
        )
        joint = self._plain(prompt + target)
        for own in (prompt_ids, bare):  # a text prompt may write its BOS itself
            if joint[: len(own)] == list(own):
                return joint[len(own) :]
        return _continued(target, self._plain)

    def _stop_of_chat(self) -> int | None:
        """The first token that the template writes behind an assistant's words, or the end-of-text token."""
        mark = "xMARKx"
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": mark}]
        try:
            text = str(
                self.tokenizer.apply_chat_template(
                    turns, tokenize=False, chat_template=self.chat_template, **self._options
                )
            )
        except Exception:  # a template that refuses even this says nothing about its stop token
            return self.tokenizer.eos_token_id  # type: ignore[no-any-return]
        if mark not in text:  # a template that leaves the assistant's words out does not show what ends them
            return self.tokenizer.eos_token_id  # type: ignore[no-any-return]
        behind = self._plain(text.rpartition(mark)[2].strip())
        known = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return behind[0] if behind and behind[0] in known else self.tokenizer.eos_token_id


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template, or the plain one."""
    own = tokenizer.chat_template
    return str((own.get("default") if isinstance(own, dict) else own) or PLAIN_TEMPLATE)


def _continued(text: str, encode: Callable[[str], list[int]]) -> list[int]:
    """Ids of words as they follow others: a tokenizer may begin a text with a space of its own."""
    for anchor in _ANCHORS:
        before, joint = encode(anchor), encode(anchor + text)
        if joint[: len(before)] == before:
            return joint[len(before) :]
    return encode(text)


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def _specials(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Tokens whose names must not act in data: those with a role of their own and those that only templates write."""
    named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    added = {number: t.content for number, t in tokenizer.added_tokens_decoder.items() if t.special}
    return {number: name for number, name in {**named, **added}.items() if name}
