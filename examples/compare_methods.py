"""Prompting, examples, votes and tuning on the same questions: one table, and one page with charts.

python examples/compare_methods.py                                       # the shipped rows
python examples/compare_methods.py --data ../shared/data/squad_v2 --rows 200 --train 480
python examples/compare_methods.py --early                               # stop what is surely worse

Writes compare.html and compare.md into the output folder. A run that was stopped goes on: what was answered is kept
there too.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import condition as cd
from condition.data import sample
from condition.data.read import locate

PROMPT = cd.ChatPrompt(
    [
        ("system", "Answer with a few words from the passage, or say: unanswerable"),
        ("user", "{context}\n\nQuestion: {question}"),
    ]
)
SHORT = cd.Sampling(max_tokens=32, temperature=0.0)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    train, held = rows(options.data, options.train, options.rows)
    base = cd.load(options.model)
    task = cd.tasks.squad_v2(held)
    subjects = methods(base, cd.read(train), options)
    table = cd.compare(
        subjects,
        task,
        early=options.early,
        cache=output / "answers",
        keys={
            "self-consistency": f"{options.samples} votes of {base.source.fingerprint}, {PROMPT.messages!r}, {SHORT!r}"
        },
        training=train,
    )
    print(table)
    table.to_html(output / "compare.html", shown=options.shown)
    (output / "compare.md").write_text(table.to_markdown() + "\n", encoding="utf-8")
    print(f"\n{output / 'compare.html'}")


def rows(data: str | None, train: int, held: int) -> tuple[list[Any], list[Any]]:
    """Rows to tune on and rows to measure on, drawn once and for all."""
    if data is None:
        splits: list[list[Any]] = [list(sample("train")), list(sample("validation"))]
    else:
        files = [next(iter(sorted(Path(data).glob(f"{name}.json*"))), None) for name in ("train", "validation")]
        if None in files:
            raise SystemExit(f"{data} needs train.jsonl and validation.jsonl (or .json, .jsonl.gz)")
        splits = [[dict(row) for row, _ in locate(file)] for file in files]
    draw = random.Random(0)
    return tuple(  # type: ignore[return-value]  # there are two
        draw.sample(split, min(count, len(split))) for split, count in zip(splits, (train, held), strict=True)
    )


def methods(base: cd.LocalModel, train: list[cd.Example], options: argparse.Namespace) -> dict[str, Any]:
    """The subjects of the table, the plainest first."""
    shots = cd.FewShotPrompt(PROMPT, train, selector=cd.SemanticSelector(train, on=["question"]), k=4)
    once = cd.ChainOfThought(base, PROMPT, parse=vote, sampling=SHORT)
    settings = cd.Settings(epochs=options.epochs, max_steps=options.max_steps, learning_rate=5e-4, batch_size=8)
    gentle = settings.model_copy(update={"learning_rate": 0.03})  # a few vectors take far larger steps
    return {
        "zero-shot": (base, PROMPT),
        "few-shot (4, similarity)": (base, shots),
        "self-consistency": cd.SelfConsistency(once, samples=options.samples, seed=0),
        "prompt tuning": fitted("prompt tuning", cd.PromptTuning(length=20), gentle, base, train, options),
        "LoRA": fitted("LoRA", cd.LoRA(rank=16), settings, base, train, options),
    }


def fitted(
    name: str, adapter: Any, settings: cd.Settings, base: cd.LocalModel, train: list[cd.Example], options: Any
) -> cd.LocalModel:
    """Tuned, and saved, so that the next run takes it up. Other rows, settings or another base tune anew."""
    depends = repr((base.source.fingerprint, adapter, settings, PROMPT.messages, train))
    mark = hashlib.sha256(depends.encode()).hexdigest()[:8]
    folder = Path(options.output) / f"{name.replace(' ', '-')}-{mark}"
    if not folder.exists():
        print(f"{name}: training on {len(train)} rows", flush=True)
        cd.SFTTrainer(adapter=adapter, settings=settings).fit(base, train, prompt=PROMPT).save_pretrained(folder)
    return cd.load(folder)


def vote(text: str) -> str:
    """What two samples have to share to be one vote."""
    return text.strip().strip(".!\"'").lower()


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", help="a hub id, a folder or a .gguf file; the embedded model without it")
    options.add_argument("--data", help="a folder with train.jsonl and validation.jsonl in SQuAD v2 form")
    options.add_argument("--rows", type=int, default=200, help="rows to measure on")
    options.add_argument("--train", type=int, default=480, help="rows to tune on")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--max-steps", type=int, default=None)
    options.add_argument("--samples", type=int, default=8, help="votes of self-consistency")
    options.add_argument("--shown", type=int, default=100, help="rows on the page where the methods disagree")
    options.add_argument("--early", action="store_true", help="stop a method once it is surely worse")
    options.add_argument("--output", default="outputs/compare")
    return options.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except cd.ConditionError as error:
        raise SystemExit(f"{error}") from None
