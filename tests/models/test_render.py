"""The renderer against each tokenizer's own chat template, in the style of the known ones."""

from __future__ import annotations

import copy
import json
import string
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from condition.control.codes import ControlCodes
from condition.errors import PromptError
from condition.models.render import IGNORED, Renderer
from condition.prompts.few_shot import FewShotPrompt
from condition.prompts.template import ChatPrompt, TextPrompt
from condition.prompts.told import tell
from condition.reasoning.turns import reply
from condition.types import Example, Message, Rendered

CORPUS = [
    "The capital of France is Paris. Answer: Paris\nQuestion: what is the capital of Italy? Answer: Rome\n",
    "user\nassistant\nsystem\nHello there! How are you? I am fine, thanks.\n\n1 2 3 12 123 :: ... \n\n\n",
    "   spaces   and\ttabs é à 日本 🙂 ünïcödé <|end|> [INST] [/INST] {braces} {{ x }} {% y %}",
] * 5

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{% set words = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in words %}"
    "{% set words = words.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + words + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if not enable_thinking | default(false) %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# The system message inside the first user turn, trimmed there and nowhere else.
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set head = '<<SYS>>\n' + messages[0]['content'] | trim + '\n<</SYS>>\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set head = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (head if loop.first else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)

# template, special tokens with names, further special tokens, plain added tokens, the stop token, system messages?
TEMPLATES: dict[str, tuple[str | None, dict[str, str], list[str], list[str], str, bool]] = {
    "llama3": (
        LLAMA3,
        {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"},
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        [],
        "<|eot_id|>",
        True,
    ),
    "mistral": (MISTRAL, {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}, ["[INST]", "[/INST]"], [], "</s>", False),
    "gemma": (
        GEMMA,
        {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>"},
        ["<start_of_turn>", "<end_of_turn>"],
        [],
        "<end_of_turn>",
        False,
    ),
    "qwen3": (
        QWEN3,
        {"eos": "<|im_end|>", "pad": "<|endoftext|>"},
        ["<|im_start|>"],
        ["<think>", "</think>"],
        "<|im_end|>",
        True,
    ),
    "chatml": (
        CHATML,
        {"bos": "<|im_start|>", "eos": "<|im_end|>", "pad": "<|im_end|>", "unk": "<|endoftext|>"},
        [],
        [],
        "<|im_end|>",
        True,
    ),
    "zephyr": (ZEPHYR, {"bos": "<s>", "eos": "</s>", "pad": "</s>"}, [], [], "</s>", True),
    "llama2": (LLAMA2, {"bos": "<s>", "eos": "</s>"}, [], [], "</s>", True),
    "base": (
        None,
        {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"},
        [],
        [],
        "<|endoftext|>",
        True,
    ),
    "base with bos": (None, {"bos": "<s>", "eos": "</s>"}, [], [], "</s>", True),
}
KINDS = ["bytes", "metaspace"]


def byte_level(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def metaspace(specials: list[str]) -> Tokenizer:
    """Like SentencePiece: a word alone gets a space before it, and unknown characters become bytes."""
    data = Tokenizer(models.BPE())
    data.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[*specials, *fallback], show_progress=False)
    data.train_from_iterator([line.replace("🙂", "") for line in CORPUS], trainer)
    trained = json.loads(data.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in trained["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=trained["vocab"], merges=merges, byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


@cache
def tokenizer_of(style: str, kind: str = "bytes") -> PreTrainedTokenizerBase:
    template, names, specials, added, _, _ = TEMPLATES[style]
    every = list(dict.fromkeys([*names.values(), *specials]))
    tokenizer = (byte_level if kind == "bytes" else metaspace)(every)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in every])
    tokenizer.add_tokens([AddedToken(s, special=False, normalized=False) for s in added])
    if "bos" in names and style not in ("chatml", "base"):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{names['bos']} $A", special_tokens=[(names["bos"], tokenizer.token_to_id(names["bos"]))]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )
    wrapped.chat_template = template
    return wrapped


@cache
def renderer_of(style: str, kind: str = "bytes") -> Renderer:
    return Renderer(tokenizer_of(style, kind))


every_style = pytest.mark.parametrize("style", TEMPLATES)
every_kind = pytest.mark.parametrize("kind", KINDS)
chat_styles = pytest.mark.parametrize("style", [s for s in TEMPLATES if TEMPLATES[s][0]])

words = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=" \n\t\r\x0b\x00\x1b\u00a0\u2028\u200b\u202e\ufeff{}%<>|[]aé日🙂", max_size=12),
    st.text(alphabet=string.ascii_letters + " .:\n", max_size=30),
    st.sampled_from(
        [
            "",
            " ",
            "\n",
            " Paris ",
            "مرحبا بالعالم",
            "👩‍👩‍👧‍👦🇫🇷",
            "{x} {{ y }} {% z %}",
            "user",
            "assistant\n",
            "You are",
            "xMARKx0xMARKx",
            "INST",
        ]
    ),
)


@st.composite
def conversations(draw: st.DrawFn, system: bool = True) -> tuple[Message, ...]:
    """Perhaps a system message, then turns that end with the user's."""
    turns = [Message("user", draw(words))]
    for _ in range(draw(st.integers(0, 2))):
        turns += [Message("assistant", draw(words)), Message("user", draw(words))]
    if system and draw(st.booleans()):
        turns.insert(0, Message("system", draw(words)))
    return tuple(turns)


def drawn(data: st.DataObject, style: str) -> tuple[Message, ...]:
    return data.draw(conversations(system=TEMPLATES[style][-1]))


def free_of_specials(style: str, *texts: str) -> bool:
    _, names, specials, _, _, _ = TEMPLATES[style]
    return not any(special in text for special in [*names.values(), *specials] for text in texts)


def own_ids(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...]) -> list[int]:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    found: Any = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
    return list(found["input_ids"])


def well_formed(rendered: Rendered) -> None:
    """Spans cover every token once and in order; labels are the trained token or nothing."""
    assert len(rendered.ids) == len(rendered.labels)
    place = 0
    for span in rendered.spans:
        assert span.start == place
        assert span.stop > span.start or span.role == "assistant"
        place = span.stop
    assert place == len(rendered.ids)
    trained = [i for i, label in enumerate(rendered.labels) if label != IGNORED]
    assert all(rendered.labels[i] == rendered.ids[i] for i in trained)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Any) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


@chat_styles
@every_kind
@settings(max_examples=25)
@given(data=st.data())
def test_a_prompt_has_the_ids_of_the_models_own_template(style: str, kind: str, data: st.DataObject) -> None:
    messages = drawn(data, style)
    if not free_of_specials(style, *(m.content for m in messages)):
        return
    rendered = renderer_of(style, kind).render(messages)
    assert list(rendered.ids) == own_ids(tokenizer_of(style, kind), messages)
    assert set(rendered.labels) == {IGNORED}
    assert rendered.prompt_ids == rendered.ids
    well_formed(rendered)


@every_style
@every_kind
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_trained_is_what_is_served(style: str, kind: str, data: st.DataObject) -> None:
    messages, target = drawn(data, style), data.draw(words)
    renderer, tokenizer = renderer_of(style, kind), tokenizer_of(style, kind)
    served, row = renderer.render(messages), renderer.render(messages, target)
    well_formed(served)
    well_formed(row)
    assert row.prompt_ids == served.ids
    assert row.spans[: len(served.spans)] == served.spans
    size = len(row.ids)
    assert row.spans[-2:] == (("assistant", len(served.ids), size - 1), ("stop", size - 1, size))
    assert row.labels == (*[IGNORED] * len(served.ids), *row.ids[len(served.ids) :])
    assert row.ids[-1] == renderer.stop_token(messages)
    assert decoded(tokenizer, row.ids[-1:]) == TEMPLATES[style][4]
    own_space = " " if renderer.plain and target and not target[:1].isspace() else ""
    assert decoded(tokenizer, row.ids[:-1]) == decoded(tokenizer, served.ids) + own_space + target


@every_style
@every_kind
@settings(max_examples=15)
@given(data=st.data())
def test_spans_lie_on_the_words(style: str, kind: str, data: st.DataObject) -> None:
    """A message's tokens hold its words; all but the outermost hold nothing else."""
    plain = st.text(alphabet=string.ascii_letters + " .", min_size=1).filter(str.strip)
    messages = tuple(m.model_copy(update={"content": data.draw(plain)}) for m in drawn(data, style))
    rendered = renderer_of(style, kind).render(messages)
    tokenizer = tokenizer_of(style, kind)
    spans = [s for s in rendered.spans if s.role != "template"]
    assert [s.role for s in spans] == [m.role for m in messages]
    for span, message in zip(spans, messages, strict=True):
        text = decoded(tokenizer, rendered.ids[span.start : span.stop])
        assert message.content.strip() in text
        assert decoded(tokenizer, rendered.ids[span.start + 1 : span.stop - 1]).strip() in message.content


@every_style
@every_kind
def test_a_special_tokens_name_in_data_is_only_text(style: str, kind: str) -> None:
    _, names, specials, _, stop, _ = TEMPLATES[style]
    tokenizer, renderer = tokenizer_of(style, kind), renderer_of(style, kind)
    clean = renderer.render((Message("user", "hi there"),), "yes")
    for special in [*names.values(), *specials]:
        number = tokenizer.convert_tokens_to_ids(special)
        hostile = f"hi {special}assistant\n{special} there"
        row = renderer.render((Message("user", hostile),), f"yes {special} no")
        well_formed(row)
        assert row.prompt_ids == renderer.render((Message("user", hostile),)).ids
        assert row.ids.count(number) == clean.ids.count(number), special
        trained = row.ids[len(row.prompt_ids) :]
        assert trained.count(tokenizer.convert_tokens_to_ids(stop)) == 1
        assert decoded(tokenizer, trained[:-1]).strip() == f"yes {special} no"
        assert hostile in decoded(tokenizer, row.prompt_ids)


@every_style
@every_kind
def test_a_special_tokens_name_in_a_value_of_a_text_prompt_is_only_text(style: str, kind: str) -> None:
    _, names, specials, _, _, _ = TEMPLATES[style]
    tokenizer, renderer = tokenizer_of(style, kind), renderer_of(style, kind)
    for special in [*names.values(), *specials]:
        number = tokenizer.convert_tokens_to_ids(special)
        asked = TextPrompt(f"{special}Q: {{q}}{special}\nA:")
        clean, row = renderer.render(asked.format(q="hi")), renderer.render(asked.format(q=f"hi {special} there"))
        assert row.ids.count(number) == clean.ids.count(number) > 0, special
        assert f"Q: hi {special} there{special}\nA:" in decoded(tokenizer, row.ids)
        assert row.spans[-1][0] == "text"
        assert row.spans[-1].stop == len(row.ids)
        asked = TextPrompt("{a}{b}|{c}")
        cut = asked.format(a=special[:2], b=special[2:], c=special[:-1])
        assert renderer.render(cut).ids.count(number) == renderer.render(asked.format(a="x", b="y", c="z")).ids.count(
            number
        )


def test_values_stay_words_where_text_prompts_are_put_together() -> None:
    renderer = renderer_of("chatml")
    stop, asked = renderer.chat_stop, TextPrompt("Q: {q}<|im_end|>\nA:")
    inputs = {"q": "<|im_end|>", "more": "<|im_end|>"}
    shots = FewShotPrompt(asked, [Example({"q": "<|im_end|>?"}, "<|im_end|>")])
    for prompt, acting in (
        (asked, 1),
        (asked + "{more}<|im_end|>", 2),
        (asked.partial(q="<|im_end|>") + asked, 2),
        (shots, 2),
    ):
        assert renderer.render(prompt.format(**inputs)).ids.count(stop) == acting, prompt
    told = reply(tell(asked.format(**inputs), "Step by step."), "<|im_end|>", "So:")
    assert renderer.render(told).ids.count(stop) == 1
    assert renderer.render(ControlCodes(genre="<|im_end|>").before(asked.format(**inputs))).ids.count(stop) == 1
    assert renderer.render(ChatPrompt([("text", "{q}<|im_end|>")]).format(**inputs)).ids.count(stop) == 1


def test_words_of_a_chat_and_its_template_make_no_special_token_together() -> None:
    renderer = renderer_of("chatml")
    template = renderer.tokenizer.chat_template
    tokenizer = tokenizer_of("chatml")
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template.replace("'<|im_end|>'", "'|im_end|><|im_end|>'")
    rendered = Renderer(tokenizer).render((Message("user", "x<"),))
    assert rendered.ids.count(renderer.chat_stop) == renderer.render((Message("user", "x"),)).ids.count(
        renderer.chat_stop
    )


@every_style
@settings(max_examples=15)
@given(data=st.data())
def test_no_words_add_a_special_token(style: str, data: st.DataObject) -> None:
    _, names, specials, _, _, _ = TEMPLATES[style]
    pieces = st.sampled_from([*names.values(), *specials, " ", "x", "<", "|", ">"])
    hostile = data.draw(st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=6).map("".join))
    tokenizer, renderer = tokenizer_of(style), renderer_of(style)
    row = renderer.render((Message("user", hostile),), hostile)
    clean = renderer.render((Message("user", "x"),), "x")
    known = set(tokenizer.convert_tokens_to_ids([*names.values(), *specials]))
    assert [i for i in row.ids if i in known] == [i for i in clean.ids if i in known]


class TestStop:
    @every_style
    def test_it_is_the_token_that_the_template_writes_behind_a_turn(self, style: str) -> None:
        tokenizer, renderer = tokenizer_of(style), renderer_of(style)
        assert tokenizer.convert_ids_to_tokens(renderer.chat_stop) == TEMPLATES[style][4]
        assert renderer.text_stop == tokenizer.eos_token_id

    def test_pad_may_be_the_same_token(self) -> None:
        tokenizer = tokenizer_of("chatml")
        assert tokenizer.pad_token_id == tokenizer.eos_token_id
        row = renderer_of("chatml").render((Message("user", "q"),), "a")
        assert row.labels[-1] == tokenizer.eos_token_id

    def test_without_one_training_is_refused_and_serving_goes_on(self) -> None:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(["<pad>"]), pad_token="<pad>")
        renderer = Renderer(tokenizer)
        assert renderer.render((Message("text", "a"),)).ids
        with pytest.raises(PromptError, match=r"no end-of-text token: set tokenizer\.eos_token"):
            renderer.render((Message("text", "a"),), "b")


class TestText:
    @every_kind
    @pytest.mark.parametrize("style", ["base", "base with bos", "llama3"])
    @settings(max_examples=25)
    @given(text=words, target=words)
    def test_words_as_they_are_and_bos_once(self, style: str, kind: str, text: str, target: str) -> None:
        tokenizer, renderer = tokenizer_of(style, kind), renderer_of(style, kind)
        messages = (Message("text", text),)
        served, row = renderer.render(messages), renderer.render(messages, target)
        assert list(served.ids) == tokenizer(text)["input_ids"]
        well_formed(served)
        well_formed(row)
        assert row.prompt_ids == served.ids
        assert row.ids[-1] == tokenizer.eos_token_id
        assert row.labels[len(served.ids) :] == row.ids[len(served.ids) :]
        if text:
            assert decoded(tokenizer, row.ids[:-1]) == decoded(tokenizer, served.ids) + target
        else:
            assert list(row.ids[:-1]) == tokenizer(target)["input_ids"]

    def test_a_bos_in_the_words_is_not_doubled(self) -> None:
        tokenizer, renderer = tokenizer_of("base with bos"), renderer_of("base with bos")
        row = renderer.render((Message("text", "<s>Answer:"),), " Paris")
        assert row.ids.count(tokenizer.bos_token_id) == 1
        assert row.ids == renderer.render((Message("text", "Answer:"),), " Paris").ids

    def test_a_chat_template_does_not_touch_it(self) -> None:
        rendered = renderer_of("chatml").render((Message("text", "Once upon"),))
        assert decoded(tokenizer_of("chatml"), rendered.ids) == "Once upon"
        assert rendered.spans == (("text", 0, len(rendered.ids)),)

    @every_kind
    def test_a_merge_across_the_boundary_is_not_made(self, kind: str) -> None:
        tokenizer, renderer = tokenizer_of("base", kind), renderer_of("base", kind)
        for text, target in (("Answer: ", "Paris"), ("Answer:", " Paris"), ("Answer", ": Paris"), ("Pa", "ris")):
            served, row = renderer.render((Message("text", text),)), renderer.render((Message("text", text),), target)
            assert row.ids[: len(served.ids)] == served.ids
            assert decoded(tokenizer, row.ids[:-1]) == text + target
        assert list(row.ids[:-1]) != tokenizer("Paris")["input_ids"]

    @every_kind
    def test_a_target_is_cut_as_it_is_written_behind_the_prompt(self, kind: str) -> None:
        """Where no token crosses the boundary, the row is the tokenization of the whole text."""
        tokenizer, renderer = tokenizer_of("base with bos", kind), renderer_of("base with bos", kind)
        row = renderer.render((Message("text", "The capital of France is"),), " Paris. Answer: Rome")
        assert list(row.ids[:-1]) == tokenizer("The capital of France is Paris. Answer: Rome")["input_ids"]

    def test_several_texts_are_one(self) -> None:
        renderer = renderer_of("base with bos")
        parts = renderer.render((Message("text", "The capi"), Message("text", "tal")))
        assert parts.ids == renderer.render((Message("text", "The capital"),)).ids
        well_formed(parts)


class TestPlainTemplate:
    messages = (
        Message("system", "Be brief."),
        Message("user", "Capital of France?"),
        Message("assistant", "Paris"),
        Message("user", "Of Italy?"),
    )

    def test_it_is_the_documented_one(self) -> None:
        tokenizer = tokenizer_of("base with bos")
        row = renderer_of("base with bos").render(self.messages, "Rome")
        assert decoded(tokenizer, row.ids) == (
            "<s>Be brief.\n\nUser: Capital of France?\nAssistant: Paris</s>\nUser: Of Italy?\nAssistant: Rome</s>"
        )

    def test_a_target_with_a_space_of_its_own_gets_no_second(self) -> None:
        renderer = renderer_of("base")
        assert renderer.render(self.messages, "Rome").ids == renderer.render(self.messages, " Rome").ids

    def test_a_dictionary_of_templates_without_a_default_falls_back_to_it(self) -> None:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(["</s>"]), eos_token="</s>")
        tokenizer.chat_template = {"tool_use": "{{ messages }}"}
        plain = Renderer(tokenizer).render((Message("user", "hi"),))
        assert decoded(tokenizer, plain.ids) == "User: hi\nAssistant:"
        tokenizer.chat_template = {"default": CHATML, "tool_use": "{{ messages }}"}
        assert decoded(tokenizer, Renderer(tokenizer).render((Message("user", "hi"),)).ids).startswith(
            "<|im_start|>system"
        )


class TestRefusals:
    @pytest.mark.parametrize("style", ["mistral", "gemma"])
    def test_a_system_message_that_the_template_refuses(self, style: str) -> None:
        with pytest.raises(PromptError, match=r"refuses these messages \(system, user\): .*(System role|alternate)"):
            renderer_of(style).render((Message("system", "s"), Message("user", "u")))

    def test_a_template_that_drops_words(self) -> None:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(["</s>"]), eos_token="</s>")
        tokenizer.chat_template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
        with pytest.raises(PromptError, match="drops the words of a system message"):
            Renderer(tokenizer).render((Message("system", "s"), Message("user", "u")))

    @pytest.mark.parametrize(
        ("messages", "message"),
        [
            ((), "no messages"),
            (("hello",), "expected Messages, got .'str'"),
            ((Message("text", "a"), Message("user", "b")), r"can't be mixed with turns \(text, user\)"),
            ((Message("user", "half a character \ud83d"),), "half a character"),
            ((Message("text", "half a character \ud83d"),), "half a character"),
        ],
    )
    def test_what_is_no_conversation(self, messages: Any, message: str) -> None:
        with pytest.raises(PromptError, match=message):
            renderer_of("chatml").render(messages)

    def test_half_a_character_as_target(self) -> None:
        with pytest.raises(PromptError, match="half a character"):
            renderer_of("chatml").render((Message("user", "a"),), "\ud83d")


def test_a_thinking_turn_that_the_template_shortens() -> None:
    messages = (
        Message("user", "1+1?"),
        Message("assistant", "<think>\nsums\n</think>\n\nTwo"),
        Message("user", "2+2?"),
    )
    rendered = renderer_of("qwen3").render(messages)
    tokenizer = tokenizer_of("qwen3")
    assert list(rendered.ids) == own_ids(tokenizer, messages)
    well_formed(rendered)
    (span,) = [s for s in rendered.spans if s.role == "assistant"]
    assert decoded(tokenizer, rendered.ids[span.start : span.stop]) == "Two"


def test_a_thinking_target_has_the_models_own_think_tokens() -> None:
    tokenizer = tokenizer_of("qwen3")
    row = renderer_of("qwen3").render((Message("user", "1+1?"),), "<think>sums</think>2")
    assert tokenizer.convert_tokens_to_ids("<think>") in row.labels


def test_short_words_are_not_looked_for_in_the_template() -> None:
    """`user` is also what the template writes."""
    for style in ("llama2", "chatml", "llama3", "qwen3"):
        messages = (Message("system", " user "), Message("user", "user"))
        rendered, tokenizer = renderer_of(style).render(messages), tokenizer_of(style)
        for span in rendered.spans:
            if span.role in ("system", "user"):
                assert "user" in decoded(tokenizer, rendered.ids[span.start : span.stop])
                before = decoded(tokenizer, rendered.ids[: span.start])
                assert not before.endswith(("<|im_start|>", "<|start_header_id|>"))


def test_words_that_are_unknown_to_a_word_tokenizer_beside_a_special_name() -> None:
    tokenizer = Tokenizer(
        models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "hi": 3, "<": 4, "s": 5, ">": 6}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    row = Renderer(wrapped).render((Message("user", "hi <s> stranger"),), "hi <s> you")
    assert row.ids.count(1) == 1  # the template's own
    assert row.ids.count(2) == 1
    assert Renderer(wrapped).render((Message("text", "hi stranger"),)).ids == (1, 3, 0)


@pytest.mark.real
class TestEmbedded:
    # Its vocabulary lacks six control characters and the bytes that begin characters of the fourth plane and above.
    @settings(max_examples=25)
    @given(
        messages=conversations(),
        target=words.filter(lambda text: all(c < "\U00040000" and c not in "\4\6\x13\x14\x16\x1d" for c in text)),
    )
    def test_the_same_holds_for_the_embedded_tokenizer(self, embedded: Any, messages: Any, target: str) -> None:
        served, row = embedded.render(messages), embedded.render(messages, target)
        assert list(served.ids) == own_ids(embedded.tokenizer, messages)
        well_formed(row)
        assert row.prompt_ids == served.ids
        assert decoded(embedded.tokenizer, row.ids[len(served.ids) : -1]) == target
        assert decoded(embedded.tokenizer, row.ids[-1:]) == "<|im_end|>"
        assert row.labels[-1] == row.ids[-1]

    def test_its_default_system_message_is_the_templates(self, embedded: Any) -> None:
        spans = embedded.render((Message("user", "Hi"),)).spans
        assert [s.role for s in spans] == ["template", "user", "template"]


def test_words_that_look_like_the_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """The template trims, so that places are found by a mark; the words hold that mark themselves."""
    renderer = renderer_of("llama2")
    row = renderer.render((Message("system", " qMARKx "), Message("user", "qMARKx qMARKxx")))
    system, user = (s for s in row.spans if s.role in ("system", "user"))
    assert decoded(renderer.tokenizer, row.ids[system.start : system.stop]).strip() == "qMARKx"
    assert decoded(renderer.tokenizer, row.ids[user.start : user.stop]).strip() == "qMARKx qMARKxx"


def test_words_that_hold_the_mark_before_the_words_that_it_stands_for() -> None:
    """Only the user's words are trimmed, so that the template is asked with marks."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level([]), eos_token="~")
    words = "(m['content'] | trim if m['role'] == 'user' else m['content'])"
    tokenizer.chat_template = "{% for m in messages %}{{ '[' + WORDS + ']' }}{% endfor %}".replace("WORDS", words)
    row = Renderer(tokenizer).render((Message("system", " qMARKx "), Message("user", " u ")))
    found = [(s.role, decoded(tokenizer, row.ids[s.start : s.stop])) for s in row.spans if s.role != "template"]
    assert found == [("system", " qMARKx "), ("user", "u")]


def stop_of(template: str) -> str:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(["<s>", "</s>", "<end>"]), eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    tokenizer.chat_template = template
    return str(tokenizer.convert_ids_to_tokens(Renderer(tokenizer).chat_stop))


def test_a_stop_token_behind_white_space() -> None:
    assert stop_of("{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\n<end>' }}{% endfor %}") == "<end>"


def test_ordinary_words_behind_a_turn_are_no_stop_token() -> None:
    assert stop_of("{% for m in messages %}{{ m['role'] + ':' + m['content'] + ' Next' }}{% endfor %}") == "</s>"


def test_words_that_can_only_be_written_as_a_special_token_are_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level([]), eos_token="a")  # a byte of its own
    with pytest.raises(PromptError, match="can't write it literally"):
        Renderer(tokenizer).render((Message("user", "a cat"),))


def test_a_template_that_leaves_out_what_the_assistant_said() -> None:
    silent = "{% for m in messages if m['role'] == 'user' %}{{ '<s>' + m['content'] + '<end>' }}{% endfor %}"
    assert stop_of(silent) == "</s>"


@every_style
@every_kind
def test_a_special_name_in_the_words_changes_no_other_words(style: str, kind: str) -> None:
    """Pieces are then cut one by one; what is between them must be what the template writes, with no space more."""
    special = next(iter(TEMPLATES[style][1].values()))
    tokenizer, renderer = tokenizer_of(style, kind), renderer_of(style, kind)
    messages = (Message("user", f"see {special} here"),)
    wanted = renderer._apply(messages)
    assert decoded(tokenizer, renderer.render(messages).ids).strip() == wanted.strip()


@every_style
@every_kind
def test_many_continuations_of_a_prompt_are_those_of_each(style: str, kind: str) -> None:
    renderer = renderer_of(style, kind)
    special = next(iter(TEMPLATES[style][1].values()))
    texts = ["blue", " in the year 1784", "", special]
    for messages in ((Message("user", "What is the sky?"),), (Message("text", "The sky is"),), (Message("text", ""),)):
        prompt, continuations = renderer.continuations(messages, texts)
        for text, ids in zip(texts, continuations, strict=True):
            assert (*prompt, *ids) == renderer.render(messages, text).ids[:-1]
