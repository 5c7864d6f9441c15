"""Learning from preferences on real pairs: does a reward model find the better answer, and do answers become better?

    python tests/benchmarks/preferences.py                                         everything: hours on two cores
    python tests/benchmarks/preferences.py --set hh_rlhf --steps reward            one part of it
    python tests/benchmarks/preferences.py --set alpaca_eval --steps dpo --rows 400
    python tests/benchmarks/preferences.py --steps table                           what is there so far

The embedded model with a LoRA, on hh_rlhf (people, harmless) and alpaca_eval (GPT-4); a fifth of the prompts is held
back. `reward` trains a reward model; `base`, `dpo`, `pro` and `hindsight` are measured on the held rows and by what
they write, the last three trained on the same rows, in the same order, as often. Each step is kept in a folder of its
own: Ctrl-C leaves a checkpoint, the same command goes on from it, and what is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from _preference_table import POLICIES, is_right, table

import condition as cd
from condition.evaluation.paired import compared
from condition.evaluation.statistics import estimate
from condition.prompts.fill import fill
from condition.prompts.template import as_prompt
from condition.training.candidates import Candidates, prepare_rankings
from condition.training.fit import training_dtype
from condition.training.references import with_references

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HELD_SHARE = 0.2
ALIKE = 0.8
"""The shorter of two answers of matched length has at least this share of the longer one's characters."""
SAVED = "reward_model"


class Kind(NamedTuple):
    """A set of pairs and how it is learned from."""

    file: str
    prompt: Any
    longest: int
    """Tokens of prompt and answer; pairs with a longer one are left out and counted."""
    reward: dict[str, Any]
    policy: dict[str, Any]


SETS = {
    # What was said last, without what was said before: it is cheaper, and the judgment is of the answer to it.
    "hh_rlhf": Kind(
        "hh_rlhf/harmless_base_test.jsonl.gz",
        cd.History(last=1),
        320,
        {"learning_rate": 3e-4, "epochs": 2, "batch_size": 16, "packing": False},
        {"learning_rate": 1e-4, "epochs": 2, "batch_size": 16, "packing": False},
    ),
    # Six rows answer each instruction: side by side they share it, and the answer that is the same in all of them.
    "alpaca_eval": Kind(
        "alpaca_eval/gpt4_preferences.jsonl.gz",
        as_prompt("{instruction}"),
        512,
        {"learning_rate": 3e-4, "epochs": 1, "batch_size": 12, "packing": True},
        {"learning_rate": 1e-4, "epochs": 1, "batch_size": 12, "packing": True},
    ),
}


class Rows(NamedTuple):
    """Pairs to train on, pairs held back, and how many were left out as too long."""

    train: list[cd.Ranking]
    held: list[cd.Ranking]
    too_long: int


def asked(ranking: cd.Ranking) -> str:
    """What rows of one cluster have in common: the instruction, or what a person said first."""
    if "instruction" in ranking.inputs:
        return str(ranking.inputs["instruction"])
    return str(ranking.inputs["history"][0].content)


def read(kind: Kind, data: Path, base: cd.LocalModel, most: int | None) -> Rows:
    """Pairs with a better and a worse answer; a fifth of the prompts is held back, the same ones each time."""
    found = [r for r in cd.read_rankings(data / kind.file, unusable="skip") if r.pairs]

    def fits(ranking: cd.Ranking) -> bool:
        messages = fill(kind.prompt, ranking.inputs)
        return max(len(base.render(messages, text).ids) for text in ranking.candidates) <= kind.longest

    short = [r for r in found if fits(r)]
    prompts = sorted({asked(r) for r in found})
    random.Random(0).shuffle(prompts)
    held = round(HELD_SHARE * len(prompts))
    place = {prompt: number for number, prompt in enumerate(prompts)}
    short.sort(key=lambda r: place[asked(r)])
    first = sum(place[asked(r)] < held for r in short)
    return Rows(short[first:][:most], short[:first], len(found) - len(short))


def shares(right: Sequence[float], rows: Sequence[cd.Ranking]) -> dict[str, Any]:
    """How often the better answer is found, and what length has to do with it; intervals by prompt."""
    clusters = [asked(r) for r in rows]
    sizes = [[len(text) for text in r.candidates] for r in rows]
    longer = [0.5 if a == b else float(a > b) for a, b in sizes]

    def share(values: Sequence[float], chosen: Sequence[bool]) -> str:
        kept = [(v, c) for v, c, k in zip(values, clusters, chosen, strict=True) if k]
        if not kept:
            return "-"
        return f"{estimate([v for v, _ in kept], [c for _, c in kept], bounds=(0.0, 1.0))} of {len(kept)}"

    every = [True] * len(rows)
    alike = [min(a, b) >= ALIKE * max(a, b) for a, b in sizes]
    apart = compared(longer, right, clusters)
    return {
        "accuracy": share(right, every),
        "longer is better": share(longer, every),
        "more than the better of longer and shorter": (
            str(apart.difference)
            if sum(longer) >= len(longer) / 2
            else str(compared([1 - x for x in longer], right, clusters).difference)
        ),
        "prefers the longer": share(
            [r if x == 1 else 1 - r for r, x in zip(right, longer, strict=True)], [x != 0.5 for x in longer]
        ),
        "where the longer is better": share(right, [x == 1 for x in longer]),
        "where the shorter is better": share(right, [x == 0 for x in longer]),
        "of like length": share(right, alike),
        "of like length, longer is better": share(longer, alike),
    }


def settings(options: argparse.Namespace, given: dict[str, Any], folder: Path, longest: int) -> cd.Settings:
    named = {name: value for name in given if (value := getattr(options, name, None)) is not None}
    steps = {"save_every": 20, "keep": 1, "log_every": 5}
    return cd.Settings(**{**given, **named}, **steps, output=folder, max_length=longest, too_long="drop")


def reward(kind: Kind, rows: Rows, base: cd.LocalModel, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What a reward model says of held pairs; it is saved for the other steps."""
    given = settings(options, kind.reward, folder / "reward", kind.longest)
    model = cd.RewardTrainer(cd.LoRA(rank=options.rank), given).fit(base, rows.train, prompt=kind.prompt)
    model.save_pretrained(folder / SAVED)
    assert model.contract is not None
    scores = model.rewards([fill(kind.prompt, r.inputs) for r in rows.held], [r.candidates for r in rows.held])
    return {
        **shares(is_right([a - b for a, b in scores]), rows.held),
        "seconds": model.contract.metrics["seconds"],
        "loss": model.history.series("loss")[1],
        "margins": [a - b for a, b in scores],
    }


def policy(
    name: str, kind: Kind, rows: Rows, base: cd.LocalModel, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """What a method makes of the base: held pairs, answers to held prompts, and how far it went."""
    # A chain of both answers is twice as long.
    given = settings(options, kind.policy, folder / name, kind.longest * (2 if name == "hindsight" else 1))
    lora = cd.LoRA(rank=options.rank)
    trainers: dict[str, Any] = {
        "dpo": lambda: cd.DPOTrainer(options.beta, adapter=lora, settings=given),
        "pro": lambda: cd.PROTrainer(lora, given),
        "hindsight": lambda: cd.HindsightTrainer(lora, given),
    }
    model = base.with_prompt(kind.prompt)
    if name != "base":
        model = trainers[name]().fit(base, rows.train, prompt=kind.prompt)
    dtype = training_dtype(given, base.device)
    own = logprobs(model, pairs(model, rows.held, model.prompt), dtype)
    reference = logprobs(base, pairs(base, rows.held, kind.prompt), dtype)
    gained = [[sum(p) - sum(r) for p, r in zip(*both, strict=True)] for both in zip(own, reference, strict=True)]
    ratios = [better - worse for better, worse in gained]
    means = [sum(better) / len(better) - sum(worse) / len(worse) for better, worse in own]
    clusters = [asked(r) for r in rows.held]
    return {
        "log-ratio": shares(is_right(ratios), rows.held),
        "mean log-probability": shares(is_right(means), rows.held),
        "margin": estimate(ratios, clusters).model_dump(),
        "ratios": ratios,
        "means": means,
        "clusters": clusters,
        "seconds": model.contract.metrics["seconds"] if model.contract is not None else 0.0,
        "curves": {n: model.history.series(n) for n in ("loss", "margin", "accuracy") if n in model.history.names()},
        **written(model, kind, rows, base, dtype, folder, options),
    }


def written(
    model: cd.LocalModel,
    kind: Kind,
    rows: Rows,
    base: cd.LocalModel,
    dtype: Any,
    folder: Path,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Answers to held prompts at temperature 1: rewards, lengths, and the divergence from the base, which is what the
    log-ratio of an answer is on average."""
    prompts = [next(group) for _, group in groupby(rows.held, asked)][: options.prompts]
    inputs = [{n: r.inputs[n] for n in kind.prompt.variables} for r in prompts]
    ours, plain = ([fill(prompt, one) for one in inputs] for prompt in (model.prompt or kind.prompt, kind.prompt))
    sampling = cd.Sampling(max_tokens=options.tokens, temperature=1.0, n=options.samples, seed=0)
    answers = model.generate(ours, sampling)
    texts = [[one.text for one in own] for own in answers]
    rewards = cd.RewardModel.load(folder / SAVED, base=base).rewards(plain, texts)
    own, reference = (
        [value for row in logprobs(which, candidates(which, messages, answers), dtype) for value in row]
        for which, messages in ((model, ours), (base, plain))
    )
    clusters = [i for i, texts_ in enumerate(answers) for _ in texts_]
    apart = [sum(p) - sum(r) for p, r in zip(own, reference, strict=True)]
    sizes = [len(one.token_ids) for row in answers for one in row]
    stopped = [one.finish_reason == "stop" for row in answers for one in row]
    scores = [score for row in rewards for score in row]
    ended = [(score, cluster) for score, cluster, s in zip(scores, clusters, stopped, strict=True) if s]
    return {
        "rewards": [sum(row) / len(row) for row in rewards],
        "reward": estimate([sum(row) / len(row) for row in rewards]).model_dump(),
        "KL an answer": estimate(apart, clusters).model_dump(),
        "KL a token": sum(apart) / sum(map(len, own)),
        "tokens": estimate(sizes, clusters).model_dump(),
        "stopped": sum(stopped) / len(sizes),
        "where it stopped": estimate([s for s, _ in ended], [c for _, c in ended]).model_dump() if ended else None,
        "each": list(zip(scores, sizes, apart, stopped, strict=True)),
        "answers": texts[:8],
    }


def pairs(model: cd.LocalModel, held: Sequence[cd.Ranking], prompt: Any) -> list[Candidates]:
    """Held pairs as the network reads them."""
    found: Any = prepare_rankings(model, held, prompt, cd.Settings(), "held").rows
    return list(found)


def candidates(model: cd.LocalModel, prompts: Sequence[Any], answers: Sequence[Any]) -> list[Candidates]:
    """Written answers behind their prompts, token for token, with the stop token where there was one."""
    found = []
    for messages, own in zip(prompts, answers, strict=True):
        stop = (model.renderer.stop_token(messages),)
        texts = tuple(one.token_ids + stop * (one.finish_reason == "stop") for one in own)
        found.append(Candidates(model.render(messages).ids, texts))
    return found


def logprobs(model: cd.LocalModel, rows: Sequence[Candidates], dtype: Any) -> list[tuple[tuple[float, ...], ...]]:
    """Log-probability of each token of each candidate; kept as references are."""
    return [row.reference for row in with_references(rows, model, dtype)]


def done(name: str, which: str, folder: Path, options: argparse.Namespace, base: cd.LocalModel) -> None:
    """One step, unless it was done before by the same options."""
    kind, file, judge = SETS[which], folder / which / f"{name}.json", folder / which / "reward.json"
    beside = ("set", "steps", "folder", "data", *(("beta", "prompts", "samples", "tokens") if name == "reward" else ()))
    own = {n: v for n, v in sorted(vars(options).items()) if n not in beside}
    told: dict[str, Any] = {"options": own, "longest": kind.longest}
    if name == "reward":
        told |= {"settings": kind.reward}
    elif judge.is_file():
        judged = json.loads(judge.read_text())["asked"]
        told |= {"settings": kind.policy, "reward": judged, "device": base.device.type}
    else:
        raise SystemExit(f"{which} {name} is judged by a reward model, and there is none: run --steps reward first")
    if file.is_file() and json.loads(file.read_text())["asked"] == told:
        return
    rows = read(kind, options.data, base, options.rows)
    print(f"{which} {name}: {len(rows.train)} to train, {len(rows.held)} held, {rows.too_long} too long", flush=True)
    began = time.perf_counter()
    work = (kind, rows, base, folder / which, options)
    found = reward(*work) if name == "reward" else policy(name, *work)
    counts = {"train": len(rows.train), "held": len(rows.held), "prompts": len({asked(r) for r in rows.held})}
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {"asked": told, **counts, "too_long": rows.too_long, "wall": time.perf_counter() - began, **found}
    file.write_text(json.dumps(kept, indent=1))
    print(json.dumps({n: v for n, v in kept.items() if n not in LONG}, indent=1), flush=True)


LONG = ("asked", "loss", "margins", "curves", "answers", "rewards", "ratios", "means", "clusters", "each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--steps", nargs="+", choices=("reward", *POLICIES, "table"), default=None)
    parser.add_argument("--rows", type=int, help="pairs to train on; all where it is not given")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA")
    parser.add_argument("--beta", type=float, default=0.1, help="of DPO")
    parser.add_argument("--learning-rate", type=float, help="instead of the set's own")
    parser.add_argument("--epochs", type=float, help="instead of the set's own")
    parser.add_argument("--batch-size", type=int, help="instead of the set's own")
    parser.add_argument("--prompts", type=int, default=64, help="held prompts that are answered")
    parser.add_argument("--samples", type=int, default=4, help="answers to each")
    parser.add_argument("--tokens", type=int, default=192, help="most tokens of an answer")
    parser.add_argument("--folder", type=Path, default=Path("outputs") / "preferences")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    if missing := [
        kind.file for name, kind in SETS.items() if name in options.set and not (options.data / kind.file).is_file()
    ]:
        # Not an error: `make bench` runs all scripts, and these rows are not ours to ship.
        print(f"skipped: no {' and no '.join(missing)} in {options.data}; give --data FOLDER")
        return
    base = cd.load()
    print(
        f"{base.device}, {os.environ['OMP_NUM_THREADS']} threads, "
        + ", ".join(f"{n} {version(n)}" for n in ("torch", "transformers", "peft")),
        "\n",
    )
    for which in options.set:
        for name in options.steps or ("reward", *POLICIES, "table"):
            if name == "table":
                table(which, options.folder)
            else:
                done(name, which, options.folder, options, base)


if __name__ == "__main__":
    main()
