"""The main job in one go: load, measure, tune, measure again, save, and answer through LangChain.

python examples/demo.py
python examples/demo.py --rows 40 --question "How long does the ferry crossing take?"
python examples/demo.py --quantization nf4 --data my_rows.json --output outputs/mine
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import condition as cd
from condition.data import sample
from condition.data.formats import is_squad, squad_answers
from condition.data.read import locate
from condition.models.place import check_free

PROMPT = cd.ChatPrompt(
    [
        ("system", "Answer with a few words from the passage, or say: unanswerable"),
        ("user", "{context}\n\nQuestion: {question}"),
    ]
)


def main() -> None:
    try:
        run(parsed())
    except cd.ConditionError as error:
        raise SystemExit(f"{error}") from None


def run(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    train, validation = rows(options.data, options.rows)
    passage, question = asked(validation, options.question)
    output = Path(options.output)
    check_free(output / "adapter")  # what can't be saved is not worth training
    quantization = {
        "nf4": cd.Quantization(kind="nf4"),
        "fp4": cd.Quantization(kind="fp4"),
        "int8": cd.Quantization(bits=8),
    }

    print("1. loading the model (the first time this takes half a minute)", flush=True)
    base = cd.load(options.model, quantization=quantization.get(options.quantization))
    task = cd.tasks.squad_v2(validation)
    print(f"   {base.name} on {base.device}, {len(train)} rows to train on, {len(validation)} to measure on")

    print("2. measuring it as it is", flush=True)
    before = cd.evaluate((base, PROMPT), task)

    print("3. tuning a LoRA", flush=True)
    # A folder for each kind of run: the same call after Ctrl-C goes on where it was, another call starts its own.
    told = json.dumps([options.model, options.quantization, options.epochs, train], sort_keys=True)
    own = f"run-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    settings = cd.Settings(
        epochs=options.epochs,
        learning_rate=1e-3,
        packing=True,
        output=str(output / own),
        save_every=max(1, min(10, len(train) // 20)),
        log_every=5,
    )
    tuned = cd.SFTTrainer(adapter=cd.LoRA(rank=16), settings=settings).fit(base, train, prompt=PROMPT)

    print("4. measuring it again", flush=True)
    after = cd.evaluate(tuned, task)
    print(table(before, after))
    if options.rows is not None:
        print("   few rows teach little and measure coarsely: leave --rows out for the whole run\n")

    print("5. saving it")
    tuned.save_pretrained(output / "adapter")
    tuned.history.plot(output / "loss.png")
    print(f"   adapter and contract in {output / 'adapter'}, loss curve in {output / 'loss.png'}")

    print("6. loading it through LangChain and asking", flush=True)
    llm = cd.ChatCondition(str(output / "adapter"), max_tokens=32)
    answer = (llm.prompt | llm).invoke({"context": passage, "question": question})
    print(f"\n{passage}\n\nQ: {question}\nA: {answer.content}\n\ndone in {time.perf_counter() - began:.0f} seconds")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", help="a hub id, a folder or a .gguf file; the embedded SmolLM2-135M-Instruct by default"
    )
    parser.add_argument("--quantization", choices=["nf4", "fp4", "int8"], help="load the base in 4 or 8 bits")
    parser.add_argument("--data", help="rows in SQuAD v2 form; those that the project ships by default")
    parser.add_argument(
        "--rows", type=at_least_one, help="use only so many rows to train on, and a quarter of that to measure on"
    )
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--output", default="outputs/demo")
    parser.add_argument("--question", help="asked about the measured passage that shares most words with it")
    return parser.parse_args()


def at_least_one(text: str) -> int:
    """A number of rows, for argparse."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{count} rows are too few: at least one is needed")
    return count


def rows(data: str | None, limit: int | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to train and to measure on. Own data is parted by passage, every fifth one to measure on."""
    if data is None:
        train, validation = sample("train"), sample("validation")
    else:
        train, validation = parted(data)
    if limit is None:
        return train, validation
    return train[:limit], spread(validation)[: max(8, limit // 4)]


def spread(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first row of each passage, then the second of each …: a few rows should not be of one passage."""
    passages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        passages[row["context"]].append(row)
    longest = max(map(len, passages.values()))
    return [own[i] for i in range(longest) for own in passages.values() if i < len(own)]


def parted(data: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Own rows by passage: of each five passages, the last is for measuring. At least two passages are needed."""
    found = [dict(located.row) for located in locate(data)]
    if wrong := [i for i, row in enumerate(found) if not is_squad(row)]:
        raise SystemExit(f"{data}: row {wrong[0]} lacks one of the columns context, question and answers")
    order = list(dict.fromkeys(row["context"] for row in found))
    if len(order) < 2:
        raise SystemExit(f"{data} has {len(order)} passage(s): one to train on and another to measure on are needed")
    held = set(order[4::5]) or {order[-1]}
    return [r for r in found if r["context"] not in held], [r for r in found if r["context"] in held]


def asked(validation: list[dict[str, Any]], question: str | None) -> tuple[str, str]:
    """The question with the passage that fits it best."""
    if question is None:
        first = next((row for row in validation if squad_answers(row, "row")), validation[0])
        return first["context"], first["question"]
    passages = {row["context"]: words(row["context"]) for row in validation}
    counts = Counter(word for own in passages.values() for word in own)
    # A word that few passages hold says more than one that all do.
    worth = {word: math.log((1 + len(passages)) / count) for word, count in counts.items()}
    best = max(passages, key=lambda text: sum(worth[word] for word in words(question) & passages[text]))
    if not words(question) & passages[best]:
        raise SystemExit(f"no measured passage has a word of {question!r}: ask about one of them")
    return best, question


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def table(before: Any, after: Any) -> str:
    """Both results side by side, in percent with 95 % intervals."""
    names = {
        "exact": "exact match",
        "f1": "F1",
        "f1_answerable": "F1, answerable rows",
        "f1_unanswerable": "F1, unanswerable rows",
        "constant_f1": f"F1 of always saying {after.constant!r}",
    }
    lines = [f"\n   {'':38}{'before':24}after"]
    lines += [
        f"   {label:38}{before.metrics[name]!s:24}{after.metrics[name]!s}"
        for name, label in names.items()
        if name in after.metrics
    ]
    gain = after.metrics["over_constant_f1"]
    verdict = "better" if gain.low > 0 else "not shown to be better"
    lines.append(f"   tuned, it is {verdict} than that constant: {gain} F1 over it")
    return "\n".join([*lines, f"   {len(after.rows)} rows, in percent, with 95 % intervals by passage\n"])


if __name__ == "__main__":
    main()
