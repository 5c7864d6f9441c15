"""Zero-shot, few-shot with each selector, and both calibrated, on the embedded model.

    python tests/benchmarks/few_shot.py                  # 200 rows of each of three sets
    python tests/benchmarks/few_shot.py --rows 20 --sets sst2 --ways random similar
    python tests/benchmarks/few_shot.py --json few_shot.json        # a run that was stopped goes on from there

Each row is answered with its most likely label. `against random` is the difference to uncalibrated random examples on
the same rows. Examples come from training rows, which share no text with the rows that are measured. What a row's
prompt gives is scored once, for the calibrated answer and the uncalibrated one. The requirement is printed last:
similar examples, and calibration, each above random examples without it on two of three sets.
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


def ways(one: Set, train: list[Any], model: Any) -> dict[str, Callable[[], Any]]:
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
    return {
        "random": few(lambda: cd.RandomSelector(train)),
        "similar": few(lambda: cd.SemanticSelector(train)),
        "zero-shot": lambda: asked,
        "random, the same for all": few(lambda: cd.RandomSelector(train, each_item=False)),
        "balanced": few(lambda: cd.BalancedSelector(train)),
        "within 200 words": few(lambda: cd.LengthSelector(train, 200, selector=cd.RandomSelector(train))),
        "diverse": few(lambda: cd.DiverseSelector(train)),
        "by outcome": few(lambda: cd.OutcomeSelector(pool, accuracy, size=SHOTS)),
        "BM25": few(lambda: cd.BM25Selector(train)),
        "MMR": few(lambda: cd.MMRSelector(train)),
        "similar, nearest first": few(lambda: cd.SemanticSelector(train), order="nearest-first"),
        "similar, balanced": few(lambda: cd.BalancedSelector(train, cd.SemanticSelector(train))),
    }


class Remembered:
    """A scorer that is asked the same only once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.known: dict[Any, Any] = {}

    def score(self, prompts: Sequence[Any], continuations: Sequence[Sequence[str]]) -> list[Any]:
        keys = [(tuple(messages), tuple(words)) for messages, words in zip(prompts, continuations, strict=True)]
        new = list(dict.fromkeys(key for key in keys if key not in self.known))
        found = self.model.score([messages for messages, _ in new], [words for _, words in new])
        self.known.update(zip(new, found, strict=True))
        return [self.known[key] for key in keys]


def measure(one: Set, way: str, count: int, model: Any) -> Iterator[dict[str, Any]]:
    """A way without calibration and with it: whether each row is right, and what it took."""
    import condition as cd

    train, test = rows_of(one, count)
    began = time.perf_counter()
    prompt = ways(one, train, model)[way]()
    made = time.perf_counter() - began
    began = time.perf_counter()
    labels = list(one.labels.values())
    with_it = cd.calibrate(Remembered(model), prompt, labels)
    said = {True: with_it(test)}
    said[False] = with_it.uncalibrated(test)
    seconds = time.perf_counter() - began
    for calibrated in (False, True):
        yield {
            "way": way,
            "calibrated": calibrated,
            "right": [int(s == e.target) for s, e in zip(said[calibrated], test, strict=True)],
            "shares": {label: said[calibrated].count(label) / len(test) for label in labels},
            "bias": with_it.bias.model_dump() if with_it.bias else None,
            "seconds": round(seconds, 1),
            "seconds to choose": round(made, 1),
        }


def gain(found: Sequence[Mapping[str, Any]], one: Mapping[str, Any]) -> Any:
    """How much better a line is than uncalibrated random examples on the same rows; None before these are there."""
    from condition.evaluation.statistics import estimate

    base = next((f for f in found if (f["set"], f["way"], f["calibrated"]) == (one["set"], "random", False)), None)
    if base is None:
        return None
    return estimate([a - b for a, b in zip(one["right"], base["right"], strict=True)], bounds=(-1, 1))


def line(found: Sequence[Mapping[str, Any]], one: Mapping[str, Any]) -> str:
    """A row of the table."""
    from condition.evaluation.statistics import estimate

    better = gain(found, one)
    way = one["way"] + (", calibrated" if one["calibrated"] else "")
    cells = [one["set"], way, str(estimate(one["right"], bounds=(0, 1))), str(better or ""), f"{one['seconds']:.0f}"]
    return f"| {' | '.join(cells)} |"


def verdict(found: Sequence[Mapping[str, Any]]) -> str:
    """On how many sets similar examples, and calibration, are above uncalibrated random examples, and surely so."""
    lines = []
    for name, way, calibrated in (("similar", "similar", False), ("calibrated", "random", True)):
        gains = {f["set"]: gain(found, f) for f in found if (f["way"], f["calibrated"]) == (way, calibrated)}
        known = {name: value for name, value in gains.items() if value is not None}
        above = [one for one, value in known.items() if value.value > 0]
        surely = [one for one in above if known[one].low > 0]
        lines.append(
            f"{name}: above random on {len(above)} of {len(known)} sets ({', '.join(above) or 'none'}), "
            f"with all of the interval on {len(surely)} ({', '.join(surely) or 'none'})"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; write all figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--sets", nargs="+", default=["sst2", "trec", "ag_news"], choices=list(SETS))
    parser.add_argument("--ways", nargs="+", default=[], help="some of the ways only; random is always among them")
    parser.add_argument("--dtype", default="auto", help="of the model: float32 on the CPU unless it says otherwise")
    parser.add_argument("--json", type=Path, help="where lines are kept, and taken from")
    given = parser.parse_args()
    if not SHARED.is_dir():
        print("../shared/data is not beside this checkout", file=sys.stderr)
        return 1
    import condition as cd

    model = cd.load(dtype=given.dtype)
    setting = {"rows": given.rows, "dtype": str(next(model.network.parameters()).dtype), "base": model.name}
    kept = json.loads(given.json.read_text(encoding="utf-8")) if given.json and given.json.exists() else []
    every: list[dict[str, Any]] = [f for f in kept if f["setting"] == setting]
    print(setting, file=sys.stderr)
    names = [
        way for way in ways(SETS[given.sets[0]], [], model) if not given.ways or way in given.ways or way == "random"
    ]
    for way in names:  # all sets of a way first: a run that is stopped has whole lines to compare
        for name in given.sets:
            if any((f["set"], f["way"]) == (name, way) for f in every):
                continue
            new = [{"setting": setting, "set": name, **found} for found in measure(SETS[name], way, given.rows, model)]
            every += new
            for one in new:
                print(line(every, one), file=sys.stderr, flush=True)
            if given.json:
                given.json.write_text(json.dumps(every), encoding="utf-8")
    print("| set | way | correct, % [95 %] | against random [95 %] | seconds |\n| --- | --- | --- | --- | --- |")
    for name in given.sets:
        print("\n".join(line(every, f) for way in names for f in every if (f["set"], f["way"]) == (name, way)))
    print(f"\n{verdict(every)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
