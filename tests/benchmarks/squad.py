"""Question answering over passages, before and after tuning, on real SQuAD 2.0 rows: exact match and F1 with intervals.

    python tests/benchmarks/squad.py [answerable]  questions that have an answer, prompts under 260 tokens
    python tests/benchmarks/squad.py all           every question; half have no answer, and saying so is a decision

The embedded model with a LoRA of rank 16 on all linear layers. For `all`, passages held back from the training file
choose the threshold at which the model answers (`Abstain`); the validation rows are read once, by the evaluation.
No passage and no question is in two parts, but the parts come from the same articles.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import condition as cd
from condition.data.formats import is_abstention
from condition.evaluation.evaluate import Result
from condition.reasoning.abstain import Abstain

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "squad_v2"
NO_ANSWER = "unanswerable"
ANSWERABLE = cd.ChatPrompt(
    [("system", "Answer with the fewest words from the passage."), ("user", "{context}\n\nQuestion: {question}")]
)
OR_NOT = f"Answer with words from the passage. If the answer is not in the passage, say: {NO_ANSWER}"
ALL = cd.ChatPrompt([("system", OR_NOT), ("user", "{context}\n\nQuestion: {question}")])
LONGEST_PROMPT, TRAINING_ROWS, VALIDATION_ROWS = 260, 1200, 160  # of `answerable`; the first in tokens
HELD_PASSAGES = 44  # of `all`: kept out of training, they choose the threshold

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Rows of a JSON Lines file."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return [json.loads(line) for line in lines]


def shuffled(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each passage, passages in a random order that is always the same."""
    passages: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        passages[row["context"]].append(row)
    groups = list(passages.values())
    random.Random(0).shuffle(groups)
    return groups


def flat(groups: Sequence[Sequence[Row]]) -> list[Row]:
    return [row for group in groups for row in group]


def examples(rows: Sequence[Row]) -> list[cd.Example]:
    """What is trained: the answer that agrees best with the other annotators' ones."""
    found = []
    for row in rows:
        texts = row["answers"]["text"] or [NO_ANSWER]
        target = max(texts, key=lambda text: (sum(cd.metrics.squad_v2(text, [t])["f1"] for t in texts), -len(text)))
        found.append(cd.Example({"context": row["context"], "question": row["question"]}, target, id=row["id"]))
    return found


def answerable_rows(data: Path, base: cd.LocalModel) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to measure on: questions that have an answer, behind prompts that are not long."""

    def fits(row: Row) -> bool:
        messages = ANSWERABLE.format(context=row["context"], question=row["question"])
        return bool(row["answers"]["text"]) and len(base.render(messages).ids) < LONGEST_PROMPT

    train = flat(shuffled([row for row in read(data / "train.jsonl.gz") if fits(row)]))[:TRAINING_ROWS]
    return train, flat(shuffled([row for row in read(data / "validation.jsonl") if fits(row)]))[:VALIDATION_ROWS]


def answerable(data: Path, base: cd.LocalModel) -> tuple[dict[str, Result], float]:
    """Base and tuned model on questions that have an answer."""
    train, validation = answerable_rows(data, base)
    task = cd.tasks.squad_v2(validation)
    before = cd.evaluate((base, ANSWERABLE), task)
    began = time.perf_counter()
    settings = cd.Settings(epochs=2, learning_rate=1e-3, batch_size=10, packing=True)
    tuned = cd.SFTTrainer(cd.LoRA(rank=16, alpha=32), settings).fit(base, examples(train), prompt=ANSWERABLE)
    seconds = time.perf_counter() - began
    return {"base": before, "tuned": cd.evaluate(tuned, task)}, seconds


def everything(data: Path, base: cd.LocalModel) -> tuple[dict[str, Result], float]:
    """Base, tuned model, and tuned model behind a threshold, on all questions."""
    groups = shuffled(read(data / "train.jsonl.gz"))
    held, train = flat(groups[:HELD_PASSAGES]), flat(groups[HELD_PASSAGES:])
    task = cd.tasks.squad_v2(data / "validation.jsonl")
    before = cd.evaluate((base, ALL), task)
    began = time.perf_counter()
    settings = cd.Settings(epochs=2, learning_rate=1e-3, batch_size=10, packing=True, max_length=340, too_long="drop")
    tuned = cd.SFTTrainer(cd.LoRA(rank=16, alpha=32), settings).fit(base, examples(train), prompt=ALL)
    seconds = time.perf_counter() - began
    chain = Abstain(tuned).calibrate(held, cd.metrics.squad_v2)
    return {
        "base": before,
        "tuned, greedy": cd.evaluate(tuned, task),
        f"tuned, answers above {chain.threshold:.2f}": cd.evaluate(chain, task),
    }, seconds


def table(results: dict[str, Result], seconds: float) -> str:
    """Markdown: a line a subject, 95 % intervals by passage."""
    names = ("exact", "f1", "f1_answerable", "f1_unanswerable", "constant_f1", "over_constant_f1")
    heads = (
        "EM",
        "F1",
        "F1, answerable",
        "F1, unanswerable",
        "constant F1",
        "over the constant",
        "abstains",
        "seconds",
    )
    lines = [f"| subject | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for subject, result in results.items():
        cells = [str(result.metrics.get(name, "-")) for name in names]
        says = Counter(is_abstention(row.prediction) for row in result.rows)
        lines.append(
            f"| {subject} | {' | '.join(cells)} | {says[True] / len(result.rows):.0%} | {result.seconds:.0f} |"
        )
    rows = len(next(iter(results.values())).rows)
    return "\n".join([*lines, "", f"{rows} validation rows; {seconds:.0f} s of training on {os.cpu_count()} cores"])


PARTS: dict[str, Callable[[Path, cd.LocalModel], tuple[dict[str, Result], float]]] = {
    "answerable": answerable,
    "all": everything,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, nargs="?", default="answerable")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train.jsonl.gz and validation.jsonl")
    options = parser.parse_args()
    if missing := [name for name in ("train.jsonl.gz", "validation.jsonl") if not (options.data / name).is_file()]:
        # Not an error: `make bench` runs all scripts, and these rows are not ours to ship.
        print(f"skipped: no {' and no '.join(missing)} in {options.data}; give --data FOLDER with both")
        return
    print(table(*PARTS[options.part](options.data, cd.load())))


if __name__ == "__main__":
    main()
