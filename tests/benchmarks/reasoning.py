"""Votes and trees over many problems at once, beside what people would write without. The embedded model.

    python tests/benchmarks/reasoning.py                        # both; a quarter of an hour on two free cores
    python tests/benchmarks/reasoning.py votes --peer-questions 2
    python tests/benchmarks/reasoning.py tree --problems 4 --breadth 2 --depth 1 --tokens 16
    python tests/benchmarks/reasoning.py --json reasoning.json  # what was measured there already is not measured again

votes: self-consistency of 16 samples over 20 questions behind four worked examples, beside a LangChain chain that loops
over `HuggingFacePipeline` on the same text (`pip install --no-deps langchain-huggingface`). All samples are drawn on
both sides; the line `early` is ours as it is by default, which leaves out samples that can't change the vote. The peer
is measured on `--peer-questions` of the questions only, and its seconds are scaled up by the number of questions.
Samples end where the model ends them, so what both drew differs: the ratio by tokens stands beside the one by seconds.

tree: a tree of thoughts over 10 problems, beside the very same prompts one by one.

Both sides are warm: what was loaded and asked first is not timed. What the model says is not looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

THREADS = os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

THINGS = ("a bridge", "a garden", "a kite", "a chair", "a soup", "a song", "a map", "a boat", "a lamp", "a wall")
ASKED = "{name} has {a} {what} and gets {b} more, then gives {c} away. How many {what} has {name}?"
WORKED = "{name} had {a} and got {b}: {a} + {b} = {d}. Then {name} gave {c} away: {d} - {c} = {e}."
NAMES = ("Ann", "Bo", "Eve", "Tom", "Mia")
WHAT = ("apples", "pens", "nuts", "coins")


def sums() -> list[dict[str, Any]]:
    """Twenty-four questions with how to answer them; the last four are shown."""
    found = []
    for i in range(24):
        a, b, c = 3 + i, 2 + 3 * i % 7, 1 + i % 4
        numbers = {"name": NAMES[i % 5], "what": WHAT[i % 4], "a": a, "b": b, "c": c, "d": a + b, "e": a + b - c}
        found.append({"question": ASKED.format(**numbers), "how": WORKED.format(**numbers), "answer": str(a + b - c)})
    return found


class Recorded:
    """A model that keeps what it was asked."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name = model.name
        self.asked: list[tuple[Any, Any]] = []
        self.calls = 0

    def generate(self, prompts: Sequence[Any], sampling: Any = None, *, control: Any = None) -> Any:
        self.calls += 1
        self.asked += [(prompt, sampling) for prompt in prompts]
        return self.model.generate(prompts, sampling, control=control)


def votes(given: argparse.Namespace, measured: Callable[..., dict[str, Any]]) -> None:
    import condition as cd

    rows = sums()
    shown = [cd.Example({"question": r["question"]}, r["answer"], r["how"]) for r in rows[-4:]]
    shots = cd.FewShotPrompt([("user", "{question}")], shown, rationale=True)
    asked = [{"question": r["question"]} for r in rows[: given.questions]]

    def ours(early: bool) -> Callable[[], dict[str, Any]]:
        def measure() -> dict[str, Any]:
            model = cd.load(dtype=given.dtype)
            sampling = cd.Sampling(max_tokens=given.tokens, temperature=0.7)
            once = cd.ChainOfThought(model, shots, parse=str.strip, sampling=sampling)
            chain = cd.SelfConsistency(once, given.samples, early=early, seed=0)
            chain.batch(asked[:2])
            began = time.perf_counter()
            answers = chain.batch(asked)
            seconds = time.perf_counter() - began
            drawn = sum(answer.usage.output_tokens for answer in answers)
            return {"seconds": seconds, "tokens": drawn, "samples": sum(len(answer.candidates) for answer in answers)}

        return measure

    def theirs() -> dict[str, Any]:
        from langchain_core.prompts import PromptTemplate
        from langchain_core.runnables import RunnableLambda
        from langchain_huggingface import HuggingFacePipeline
        from transformers import pipeline

        model = cd.load(dtype=given.dtype)
        model.network.set_attn_implementation("sdpa")
        options = {"max_new_tokens": given.tokens, "do_sample": True, "temperature": 0.7, "top_k": 0}
        made = pipeline(
            "text-generation", model=model.network, tokenizer=model.tokenizer, return_full_text=False, **options
        )
        texts = [model.tokenizer.decode(model.render(shots.format(**one)).ids) for one in asked[: given.peer_questions]]
        drawn: list[str] = []

        def keep(text: str) -> str:
            drawn.append(text)
            return text.strip()

        chain = PromptTemplate.from_template("{text}") | HuggingFacePipeline(pipeline=made) | RunnableLambda(keep)
        chain.invoke({"text": texts[0]})
        drawn.clear()
        began = time.perf_counter()
        for text in texts:
            Counter(chain.invoke({"text": text}) for _ in range(given.samples)).most_common(1)
        seconds = time.perf_counter() - began
        tokens = sum(len(model.tokenizer.encode(text, add_special_tokens=False)) for text in drawn)
        scale = len(asked) / len(texts)
        return {"seconds": seconds * scale, "tokens": tokens * scale, "samples": len(drawn) * scale}

    whole = measured("votes, ours", ours(early=False))
    early = measured("votes, ours, early", ours(early=True))
    peer = measured("votes, LangChain", theirs)
    print(f"votes: {len(asked)} questions x {given.samples} samples, LangChain scaled from {given.peer_questions}")
    for name, one in (("all samples", whole), ("early", early)):
        by_token = peer["seconds"] / peer["tokens"] / (one["seconds"] / one["tokens"])
        print(
            f"{name}: ours {one['seconds']:.1f} s ({one['tokens']:.0f} tokens, {one['samples']:.0f} samples), "
            f"LangChain {peer['seconds']:.1f} s ({peer['tokens']:.0f} tokens): "
            f"{peer['seconds'] / one['seconds']:.1f}x, by tokens {by_token:.1f}x"
        )


def tree(given: argparse.Namespace, measured: Callable[..., dict[str, Any]]) -> None:
    import condition as cd

    def both() -> dict[str, Any]:
        model = Recorded(cd.load(dtype=given.dtype))
        sampling = cd.Sampling(max_tokens=given.tokens, temperature=0.0)
        search = cd.TreeOfThoughts(model, breadth=given.breadth, depth=given.depth, thoughts=3, sampling=sampling)
        questions = [f"What are the steps to make {thing}?" for thing in THINGS[: given.problems]]
        search.invoke(questions[0])
        model.asked.clear()
        model.calls = 0
        began = time.perf_counter()
        answers = search.batch(questions)
        together = time.perf_counter() - began
        began = time.perf_counter()
        for prompt, sampling in list(model.asked):
            model.model.generate([prompt], sampling)
        return {
            "together": together,
            "apart": time.perf_counter() - began,
            "prompts": len(model.asked),
            "calls": model.calls,
            "failed": sum(answer.error is not None for answer in answers),
        }

    found = measured("tree", both)
    print(
        f"tree: {given.problems} problems, {found['prompts']} prompts in {found['calls']} calls, "
        f"{found['failed']} problems without an answer"
    )
    print(
        f"together {found['together']:.1f} s, one by one {found['apart']:.1f} s: "
        f"{found['apart'] / found['together']:.1f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["votes", "tree"], help="votes, tree, or both")
    parser.add_argument("--questions", type=int, default=20, choices=range(1, 21), metavar="1..20")
    parser.add_argument("--peer-questions", type=int, default=4, help="how many of them the peer answers; scaled up")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--problems", type=int, default=10, choices=range(1, len(THINGS) + 1), metavar="1..10")
    parser.add_argument("--breadth", type=int, default=3)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path, help="where measurements are kept, and taken from")
    given = parser.parse_args()
    given.peer_questions = min(given.peer_questions, given.questions)
    setting = {name: value for name, value in vars(given).items() if name not in ("cases", "json")}
    known = json.loads(given.json.read_text(encoding="utf-8")) if given.json and given.json.exists() else []

    def measured(what: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was measured in this setting, now or before."""
        for one in known:
            if one["what"] == what and one["setting"] == setting:
                return dict(one["found"])
        found = measure()
        known.append({"what": what, "setting": setting, "found": found})
        if given.json:
            given.json.write_text(json.dumps(known, indent=1), encoding="utf-8")
        return found

    names = ("torch", "transformers", "langchain-core")
    print(f"{given.dtype}, {THREADS} threads, {', '.join(f'{name} {version(name)}' for name in names)}", flush=True)
    for case in given.cases:
        {"votes": votes, "tree": tree}[case](given, measured)


if __name__ == "__main__":
    main()
