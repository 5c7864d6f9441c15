"""Zero-shot, few-shot with each selector, and both calibrated, on the embedded model.

    python tests/benchmarks/few_shot.py                  # 200 rows of each set
    python tests/benchmarks/few_shot.py --rows 20 --sets sst2
    python tests/benchmarks/few_shot.py --json few_shot.json

Each row is answered with its most likely label. `vs random` is the difference to uncalibrated random examples on the
same rows. Examples come from training rows, which share no text with the rows that are measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "classification"
SHOTS = 8
OUTCOME_ROWS, OUTCOME_POOL = 40, 32


class Set(NamedTuple):
    """A classification set: `labels` maps a label of the file to the words that a model says."""

    train: str
    test: str
    text: tuple[str, ...]
    label: str
    labels: dict[str, str]
    instruction: str
    asked: str


SETS = {
    "sst2": Set(
        "sst2_train.jsonl",
        "sst2_test.jsonl",
        ("text",),
        "label_text",
        {"positive": "positive", "negative": "negative"},
        "Say whether the review is positive or negative.",
        "Review: {text}",
    ),
    "trec": Set(
        "trec_train.jsonl",
        "trec_test.jsonl",
        ("text",),
        "coarse_label",
        {
            "ABBR": "abbreviation",
            "DESC": "description",
            "ENTY": "thing",
            "HUM": "person",
            "LOC": "place",
            "NUM": "number",
        },
        "What is asked for? Answer with abbreviation, description, thing, person, place or number.",
        "Question: {text}",
    ),
    "ag_news": Set(
        "ag_news.jsonl",
        "ag_news.jsonl",
        ("title", "description"),
        "label_text",
        {"World": "world", "Sports": "sports", "Business": "business", "Sci/Tech": "technology"},
        "What is the article about? Answer with world, sports, business or technology.",
        "Article: {text}",
    ),
    "sms_spam": Set(
        "sms_spam.jsonl",
        "sms_spam.jsonl",
        ("text",),
        "label",
        {"ham": "normal", "spam": "spam"},
        "Say whether the message is normal or spam.",
        "Message: {text}",
    ),
}


def rows_of(one: Set, count: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Training examples and the rows to measure; where there is one file it is split, and no text is in both."""
    import random

    from condition import Example

    def read(name: str) -> list[Any]:
        found: dict[str, Any] = {}
        for line in (SHARED / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = " ".join(str(row[column]) for column in one.text).strip()[:400]
            found.setdefault(text, Example({"text": text}, one.labels[str(row[one.label])], id=f"{name}:{len(found)}"))
        return list(found.values())

    chance = random.Random(seed)
    train, test = read(one.train), read(one.test)
    test = chance.sample(test, min(count, len(test)))
    measured = {e.inputs["text"] for e in test}
    train = [e for e in train if e.inputs["text"] not in measured]
    return chance.sample(train, min(800, len(train))), test


def ways(one: Set, train: list[Any], model: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each prompt by name; made when its turn comes, so that its cost is counted."""
    import condition as cd
    from condition.prompts.calibrate import LabelClassifier

    labels = list(one.labels.values())
    asked = cd.ChatPrompt([("system", one.instruction), ("user", one.asked)])

    def few(selector: Any, **options: Any) -> Callable[[], Any]:
        return lambda: cd.FewShotPrompt(asked, train, selector=selector(), k=SHOTS, **options)

    def accuracy(shown: list[Any]) -> float:
        said = LabelClassifier(model, cd.FewShotPrompt(asked, shown), labels)(validation)
        return float(sum(s == e.target for s, e in zip(said, validation, strict=True)) / len(validation))

    validation, pool = train[:OUTCOME_ROWS], train[OUTCOME_ROWS : OUTCOME_ROWS + OUTCOME_POOL]
    yield "zero-shot", lambda: asked
    yield "random", few(lambda: cd.RandomSelector(train))
    yield "random, the same for all", few(lambda: cd.RandomSelector(train, each_item=False))
    yield "balanced", few(lambda: cd.BalancedSelector(train))
    yield "within 200 words", few(lambda: cd.LengthSelector(train, 200, selector=cd.RandomSelector(train)))
    yield "diverse", few(lambda: cd.DiverseSelector(train))
    yield "BM25", few(lambda: cd.BM25Selector(train))
    yield "similar", few(lambda: cd.SemanticSelector(train))
    yield "similar, nearest first", few(lambda: cd.SemanticSelector(train), order="nearest-first")
    yield "similar, balanced", few(lambda: cd.BalancedSelector(train, cd.SemanticSelector(train)))
    yield "MMR", few(lambda: cd.MMRSelector(train))
    yield "by outcome", few(lambda: cd.OutcomeSelector(pool, accuracy, size=SHOTS))


def measure(name: str, one: Set, count: int, model: Any, only: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One line a way and calibration."""
    import condition as cd
    from condition.evaluation.statistics import estimate
    from condition.prompts.calibrate import LabelClassifier

    train, test = rows_of(one, count)
    labels = list(one.labels.values())
    base: list[float] = []
    for way, make in ways(one, train, model):
        if only and way not in only and way != "random":
            continue
        began = time.perf_counter()
        prompt = make()
        made = time.perf_counter() - began
        for calibrated in (False, True):
            began = time.perf_counter()
            classifier = cd.calibrate(model, prompt, labels) if calibrated else LabelClassifier(model, prompt, labels)
            said = classifier(test)
            right = [float(s == e.target) for s, e in zip(said, test, strict=True)]
            if way == "random" and not calibrated:
                base = right
            gain = [a - b for a, b in zip(right, base, strict=True)] if base else None
            yield {
                "set": name,
                "way": way,
                "calibrated": calibrated,
                "accuracy": estimate(right, bounds=(0, 1)).model_dump(),
                "vs random": estimate(gain, bounds=(-1, 1)).model_dump() if gain else None,
                "shares": {label: said.count(label) / len(said) for label in labels},
                "bias": classifier.bias.model_dump() if classifier.bias else None,
                "seconds": round(time.perf_counter() - began, 1),
                "seconds to choose": round(made, 1),
            }


def line(found: Mapping[str, Any]) -> str:
    """A row of the table."""

    def interval(value: Mapping[str, float] | None) -> str:
        return f"{value['value']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]" if value else ""

    way = found["way"] + (", calibrated" if found["calibrated"] else "")
    cells = [found["set"], way, interval(found["accuracy"]), interval(found["vs random"]), str(found["seconds"])]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table; write all figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--sets", nargs="+", default=["sst2", "trec", "ag_news", "sms_spam"], choices=list(SETS))
    parser.add_argument("--ways", nargs="+", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        print("../shared/data is not beside this checkout", file=sys.stderr)
        return 1
    import condition as cd

    model = cd.load()
    print("| set | way | accuracy [95 %] | against random [95 %] | seconds |\n| --- | --- | --- | --- | --- |")
    every = []
    for name in arguments.sets:
        for found in measure(name, SETS[name], arguments.rows, model, arguments.ways):
            every.append(found)
            print(line(found), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(every, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
