"""Multiple choice: in general, MMLU and C-Eval. Choices are scored; a subject that can't score is asked to write one.

multiple_choice(rows)                          # the texts of the choices are scored behind the question
multiple_choice(rows, letters=True)            # they are shown behind letters, and the letters are scored
mmlu("mmlu/test.jsonl", shots="mmlu/dev.jsonl")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from condition.evaluation.metrics.choices import Choices, by_chars, by_tokens, calibrated, likeliest, pmi, read_choice
from condition.evaluation.tasks.choice_rows import LETTERS, ChoiceRow, choice_rows
from condition.evaluation.tasks.shots import Form, asked, given
from condition.evaluation.tasks.task import Measure, Reply, Task, TaskRow
from condition.prompts.calibrate import CONTENT_FREE
from condition.protocols import Prompt
from condition.types import Example, Sampling

MMLU_INSTRUCTION = "The following are multiple choice questions (with answers) about {subject}."
CEVAL_INSTRUCTION = "以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。"


def multiple_choice(
    path_or_rows: object,
    /,
    *,
    shots: object = (),
    k: int | None = None,
    letters: bool = False,
    form: Form = "text",
    instruction: str | None = None,
    pmi: bool = False,
    calibrated: bool = False,
    name: str = "multiple_choice",
) -> Task:
    """Questions with choices. See `choice_rows` for the columns; `shots` are rows too, and `k` how many are shown.

    Measures: `accuracy` by the likeliest choice; where texts are scored also by log-probability a character
    (lm-evaluation-harness' acc_norm; the headline) and a token; with `pmi` against the choice behind a bare "Answer:";
    with `calibrated` against the same prompt with words without content. Of texts that stand twice among the choices
    each is right; lm-evaluation-harness counts their places. A written reply is read by
    `metrics.read_choice` and counts for all of them; `unmatched` is how often that failed.
    """
    question = "{question}\n{options}\nAnswer:" if letters else "Question: {question}\nAnswer:"
    return _task(
        name,
        path_or_rows,
        asked(form, question, _shots(shots, letters), instruction=instruction, k=k),
        letters=letters,
        form=form,
        against=("pmi",) * pmi + ("calibrated",) * calibrated,
    )


def mmlu(
    path_or_rows: object,
    /,
    *,
    shots: object = (),
    k: int = 5,
    form: Form = "text",
    calibrated: bool = False,
) -> Task:
    """MMLU: 57 subjects, four choices, the letter is scored. Hendrycks et al. 2021, arXiv 2009.03300.

    Takes the hub's rows, the original files or their folder. `shots` are the dev rows: each question has the first `k`
    of its own subject before it. Accuracy in all and for each subject.
    """
    question = "{question}\n{options}\nAnswer:"
    prompt = asked(form, question, _shots(shots, True), instruction=MMLU_INSTRUCTION, k=k, same="subject")
    return _task("mmlu", path_or_rows, prompt, letters=True, form=form, against=("calibrated",) * calibrated)


def ceval(path_or_rows: object, /, *, shots: object = (), k: int = 5, form: Form = "text") -> Task:
    """C-Eval, and CMMLU: Chinese exams, four choices, the letter is scored. Huang et al. 2023, arXiv 2305.08322.

    Takes the original files or the hub's rows; `shots` are the dev rows, as for `mmlu`.
    """
    question = "{question}\n{options}\n答案："
    prompt = asked(form, question, _shots(shots, True), instruction=CEVAL_INSTRUCTION, k=k, same="subject")
    return _task("ceval", path_or_rows, prompt, letters=True, form=form)


def _task(
    name: str, source: object, prompt: Prompt, *, letters: bool, form: Form, against: tuple[str, ...] = ()
) -> Task:
    given = list(choice_rows(source))
    rows = [_task_row(row, letters) for row in given]
    empty = {word: _content_free(word) for word in CONTENT_FREE} if "calibrated" in against else {}
    bare = [asked(form, "Answer:")] if "pmi" in against else []
    return Task(
        name,
        rows,
        measure=_measure(letters, "pmi" in against, len(empty)),
        prompt=prompt,
        sampling=Sampling(temperature=0.0, max_tokens=16 if letters else 48, stop=("\n",) if form == "text" else ()),
        splits=lambda row: (str(row.inputs["subject"]).replace(" ", "_"),) if row.inputs["subject"] else (),
        references=[*bare, *empty.values()],
        headline="accuracy" if letters else "accuracy_by_chars",
    )


def _task_row(row: ChoiceRow, letters: bool) -> TaskRow:
    scored = tuple(LETTERS[: len(row.choices)]) if letters else row.choices
    return TaskRow(row.id, _inputs(row), scored[row.correct], choices=scored)


def _inputs(row: ChoiceRow) -> Mapping[str, Any]:
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row.choices, strict=False))
    return {"question": row.question, "options": options, "subject": row.subject}


def _content_free(word: str) -> Mapping[str, Any]:
    return {"question": word, "options": "\n".join(f"{letter}. {word}".rstrip() for letter in "ABCD")}


def _shots(source: object, letters: bool) -> list[Example]:
    if not given(source):
        return []
    rows = list(choice_rows(source))
    return [
        Example(_inputs(row), LETTERS[row.correct] if letters else row.choices[row.correct], id=row.id) for row in rows
    ]


def _measure(letters: bool, with_pmi: bool, empty: int) -> Measure:
    def measure(row: TaskRow, reply: Reply) -> Mapping[str, float]:
        correct, size = row.choices.index(row.target), len(row.choices)
        names = ["accuracy"] if letters else ["accuracy", "accuracy_by_tokens", "accuracy_by_chars"]
        names += ["accuracy_pmi"] * with_pmi + ["accuracy_calibrated"] * bool(empty)
        if reply.scores is None:
            said = read_choice(reply.text, row.choices)
            return {"unmatched": float(said is None), **dict.fromkeys(names, float(said == correct))}
        lists = [reply.scores[i : i + size] for i in range(0, len(reply.scores), size)]
        choices = Choices(row.choices, lists[0])
        found = {"accuracy": likeliest(choices)}
        if not letters:
            found |= {"accuracy_by_tokens": by_tokens(choices), "accuracy_by_chars": by_chars(choices)}
        if with_pmi:
            found["accuracy_pmi"] = pmi(choices, lists[1])
        if empty:
            found["accuracy_calibrated"] = calibrated(choices, lists[-empty:])
        return {name: float(place == correct) for name, place in found.items()}

    return measure
