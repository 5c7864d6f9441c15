"""lm-evaluation-harness beside ours: the same rows, the same network, the same numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from condition.data.read import locate
from condition.evaluation import metrics, tasks
from condition.evaluation.evaluate import evaluate
from condition.evaluation.scored import scores_of
from condition.evaluation.tasks import Task
from condition.models.local import LocalModel
from tests.conftest import TinyModel

pytest.importorskip("lm_eval")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # lm-eval's own imports
]

QUESTIONS = [
    ("When was the bridge built?", ["1784", "in the year 1785", "never", "by the mayor"], 0),
    ("Of what?", ["oak", "stone and oak", "letters", "the colour of the sea"], 1),
    ("Who wrote to the mayor?", ["Nobody", "a carpenter", "the people", "several ladders"], 1),
    ("What is the sky?", ["blue", "green and grey", "grass", "x"], 0),
    ("Is it?", ["Yes", "No.", "It is not known which", "?!"], 2),
]
ROWS = [{"question": q, "choices": choices, "answer": answer} for q, choices, answer in QUESTIONS]
TEXTS = [
    "The bridge at Orla was built of oak in 1784 and rebuilt in stone.",
    "Two  spaces,\na line and\ttabs: 3 + 4 = 7; naïve café – “quoted”.",
    "word",
    " ".join(f"sentence {i} of a long text that does not fit." for i in range(60)),
]


def peer(model: LocalModel) -> Any:
    """HFLM on the same network and tokenizer."""
    from lm_eval.models.huggingface import HFLM  # noqa: PLC0415

    return HFLM(pretrained=model.network, tokenizer=model.tokenizer, batch_size=4, device="cpu")


def asked(kind: str, pairs: Sequence[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance  # noqa: PLC0415

    return [Instance(kind, {}, pair, i) for i, pair in enumerate(pairs)]


def by_peer(lm: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [found[0] for found in lm.loglikelihood(asked("loglikelihood", pairs), disable_tqdm=True)]


def compared(model: LocalModel, task: Task, choices: Sequence[Sequence[str]]) -> list[list[float]]:
    """Log-probabilities by row, after both sides were found equal."""
    ours = scores_of(model, task.prompt, task, task.rows)
    contexts = [task.prompt.format(**row.inputs)[-1].content for row in task.rows]
    pairs = [(context, f" {c}") for context, texts in zip(contexts, choices, strict=True) for c in texts]
    theirs = by_peer(peer(model), pairs)
    assert [s.logprob for row in ours for s in row] == pytest.approx(theirs, abs=2e-4)
    size = len(choices[0])
    return [theirs[i : i + size] for i in range(0, len(theirs), size)]


def accuracy(lists: Sequence[Sequence[float]], lengths: Sequence[Sequence[int]] | None = None) -> float:
    """lm-evaluation-harness' `acc`, or `acc_norm` where lengths are given."""
    right = 0
    for i, (values, row) in enumerate(zip(lists, ROWS, strict=True)):
        divided = values if lengths is None else [v / n for v, n in zip(values, lengths[i], strict=True)]
        right += divided.index(max(divided)) == row["answer"]
    return right / len(ROWS)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_letter_choices(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    task = tasks.mmlu([{**row, "subject": "bridges_of_orla"} for row in ROWS], shots=ROWS[:2])
    lists = compared(model, task, [list("ABCD")] * len(ROWS))
    assert evaluate(model, task).metrics["accuracy"].value == accuracy(lists)


def test_the_prompt_of_mmlu_is_theirs() -> None:
    """Their template, description and separators, written out from tasks/mmlu/default/_default_template_yaml."""
    task = tasks.mmlu([{**ROWS[2], "subject": "world_history"}], shots=[{**ROWS[0], "subject": "world_history"}])
    said = task.prompt.format(**task.rows[0].inputs)[0].content
    assert said == (
        "The following are multiple choice questions (with answers) about world history.\n\n"
        "When was the bridge built?\nA. 1784\nB. in the year 1785\nC. never\nD. by the mayor\nAnswer: A\n\n"
        "Who wrote to the mayor?\nA. Nobody\nB. a carpenter\nC. the people\nD. several ladders\nAnswer:"
    )


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_choices_of_several_tokens(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    task = tasks.multiple_choice(ROWS, shots=ROWS[3:])
    lists = compared(model, task, [row["choices"] for row in ROWS])  # type: ignore[misc]  # lists of texts
    found = evaluate(model, task).metrics
    assert found["accuracy"].value == accuracy(lists)
    lengths = [[len(c) for c in row["choices"]] for row in ROWS]  # type: ignore[attr-defined]
    assert found["accuracy_by_chars"].value == accuracy(lists, lengths)


def test_white_space_at_the_end_of_a_prompt_belongs_to_the_choice(tiny_model: TinyModel) -> None:
    model = tiny_model()
    task = tasks.multiple_choice(ROWS)
    ours = scores_of(model, task.prompt, task, task.rows)
    for ending, between in (("", " "), (" ", ""), ("\n", ""), (" \n ", "")):
        prompt: Any = tasks.multiple_choice(ROWS, instruction="x").prompt
        from condition.prompts.template import TextPrompt  # noqa: PLC0415

        prompt = TextPrompt("Question: {question}\nAnswer:" + ending)
        own = scores_of(model, prompt, task, task.rows)
        contexts = [prompt.format(**row.inputs)[0].content for row in task.rows]
        pairs = [(c, between + text) for c, row in zip(contexts, task.rows, strict=True) for text in row.choices]
        theirs = by_peer(peer(model), pairs)
        assert [s.logprob for row in own for s in row] == pytest.approx(theirs, abs=2e-4), repr(ending)
    assert len(ours) == len(ROWS)


@pytest.mark.parametrize("context", [512, 64])
def test_perplexity(tiny_model: TinyModel, context: int) -> None:
    model = tiny_model(max_position_embeddings=context)
    lm = peer(model)
    theirs = lm.loglikelihood_rolling(asked("loglikelihood_rolling", [(text,) for text in TEXTS]), disable_tqdm=True)
    task = tasks.perplexity(TEXTS)
    ours = scores_of(model, task.prompt, task, task.rows)
    assert [row[0].logprob for row in ours] == pytest.approx(theirs, rel=1e-5)
    found = evaluate(model, task).metrics
    import re  # noqa: PLC0415

    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity  # noqa: PLC0415

    words = [len(re.split(r"\s+", text)) for text in TEXTS]
    sizes = [len(text.encode()) for text in TEXTS]
    assert found["word_perplexity"].value == pytest.approx(
        weighted_perplexity(list(zip(theirs, words, strict=True))), rel=1e-5
    )
    assert found["byte_perplexity"].value == pytest.approx(
        weighted_perplexity(list(zip(theirs, sizes, strict=True))), rel=1e-5
    )
    assert found["bits_per_byte"].value == pytest.approx(bits_per_byte(list(zip(theirs, sizes, strict=True))), rel=1e-5)
    tokens = sum(len(lm.tok_encode(text)) for text in TEXTS)
    assert found["token_perplexity"].value == pytest.approx(math.exp(-sum(theirs) / tokens), rel=1e-5)


SOLUTIONS = [
    "It takes 2/2=<<2/2=1>>1 bolt.\nSo 2+1=3\n#### 3",
    "so the answer is 1,200 dollars",
    "#### 1,200",
    "#### $18.00.",
    "#### 18.",
    "#### -5",
    "The total is $2.50.",
    "no number here",
    "",
    "7 apples and 8 pears",
    "#### 3\nQuestion: more\n#### 4",
    "It is .5 of 0.5",
    "3,4,5",
    "5.",
    "####3",
]
GOLD = ["#### 3", "x #### 1,200", "#### 18", "#### -5", "#### 2.50", "#### 8", "#### 4", "#### 0.5", "#### 5"]


def test_the_numbers_of_gsm8k() -> None:
    from lm_eval.api.metrics import exact_match_hf_evaluate  # noqa: PLC0415
    from lm_eval.filters.extraction import RegexFilter  # noqa: PLC0415

    ignored = [",", "\\$", "(?s).*#### ", "\\.$"]  # of tasks/gsm8k/gsm8k.yaml, as the patterns below
    strict = RegexFilter("#### (\\-?[0-9\\.\\,]+)")
    flexible = RegexFilter("(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1)
    for said in SOLUTIONS:
        for gold in GOLD:
            ours = metrics.number(said, gold)
            for name, one in (("strict", strict), ("flexible", flexible)):
                [[extracted]] = one.apply([[said]], [{}])
                theirs = exact_match_hf_evaluate([extracted], [gold], regexes_to_ignore=ignored, ignore_case=True)
                assert ours[name] == float(theirs["exact_match"]), (said, gold, name)


@pytest.mark.real
def test_the_embedded_model_on_real_rows(embedded: LocalModel, shared_data: Path) -> None:
    rows = [dict(located.row) for located in locate(shared_data / "mmlu" / "test.jsonl")][::130]
    task = tasks.mmlu(rows, shots=shared_data / "mmlu" / "dev.jsonl", k=1)
    ours = scores_of(embedded, task.prompt, task, task.rows)
    contexts = [task.prompt.format(**row.inputs)[0].content for row in task.rows]
    theirs = by_peer(peer(embedded), [(context, f" {letter}") for context in contexts for letter in "ABCD"])
    assert [s.logprob for row in ours for s in row] == pytest.approx(theirs, abs=2e-4)
