"""The table of `preferences.py`.

held-out accuracy         the better answer has gained more log-probability against the base than the worse one, whole
                          answers: DPO's own reward. The base has gained nothing: a coin, by definition and not measured
by mean log-probability   a token of the better answer is likelier than one of the worse; the base has an opinion here,
                          so this is where a method can be compared with it, pair by pair
reward                    of answers drawn at temperature 1 to held prompts, by the reward model trained on the same
                          pairs: what both have learned wrongly counts as good. An answer that was cut at --tokens is
                          judged as if it ended there; "where it stopped" leaves those out
by length alone           what the gain would be if the rewards of the base's own answers depended on their length only
KL an answer              the mean of log p - log p_base over those answers: unbiased, for answers of at most --tokens
seconds                   of training, with reading the reference, unless an earlier run has left it in the cache
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condition.evaluation.paired import compared

POLICIES = ("base", "dpo", "pro", "hindsight")


def is_right(differences: Sequence[float]) -> list[float]:
    """Of what the better one is above the worse one; half where there is nothing but rounding between them."""
    return [0.5 if abs(difference) < 1e-4 else float(difference > 0) for difference in differences]


def table(which: str, folder: Path) -> None:
    """Markdown of what is there."""
    found = {
        name: json.loads((folder / which / f"{name}.json").read_text())
        for name in ("reward", *POLICIES)
        if (folder / which / f"{name}.json").is_file()
    }
    if "reward" in found:
        one = found["reward"]
        names = [n for n, said in one.items() if isinstance(said, str)]
        print(f"{which}: {one['train']} pairs to train, {one['held']} held of {one['prompts']} prompts\n")
        print("| the reward model | % |\n| --- | --- |")
        print("\n".join(f"| {n} | {one[n]} |" for n in names), "\n")
    heads = ("method", "held-out accuracy", "prefers the longer", "by mean log-probability", "over the base", "reward")
    gains = ("gained", "by length alone", "where it stopped")
    more = ("KL an answer, nats", "KL a token", "tokens", "stopped", "seconds")
    print(f"| {' | '.join((*heads, *gains, *more))} |\n{'| --- ' * 14}|")
    base = found.get("base")
    for name in POLICIES:
        if name not in found:
            continue
        one = found[name]
        beside = base if base is not None and name != "base" and alike(one["asked"], base["asked"]) else None
        cells = [
            name,
            *([one["log-ratio"][n] for n in ("accuracy", "prefers the longer")] if name != "base" else ["50", "50"]),
            one["mean log-probability"]["accuracy"],
            *over(beside, one),
            plain(one["where it stopped"]) if one["where it stopped"] else "",
            plain(one["KL an answer"]),
            f"{one['KL a token']:.3f}",
            plain(one["tokens"], 0),
            f"{one['stopped']:.0%}",
            f"{one['seconds']:.0f}",
        ]
        print(f"| {' | '.join(cells)} |")
    print()


def alike(one: dict[str, Any], base: dict[str, Any]) -> bool:
    """Whether a method was asked and judged as the base was."""
    options = all(one["options"][n] == base["options"][n] for n in ("prompts", "samples", "tokens"))
    return options and one["reward"] == base["reward"] and one["device"] == base["device"]


def over(base: dict[str, Any] | None, one: dict[str, Any]) -> list[str]:
    """Accuracy by mean log-probability above the base's, the reward, what it gained, and what length explains of it."""
    reward = plain(one["reward"])
    if base is None:  # or it was asked something else
        return ["", reward, "", ""]
    accuracy = compared(is_right(base["means"]), is_right(one["means"]), one["clusters"]).difference
    gained = compared(base["rewards"], one["rewards"]).difference
    mean, size = base["reward"]["value"], base["tokens"]["value"]
    spread = sum((tokens - size) ** 2 for _, tokens, *_ in base["each"])
    slope = sum((score - mean) * (tokens - size) for score, tokens, *_ in base["each"]) / spread if spread else 0.0
    return [str(accuracy), reward, plain(gained.model_dump()), f"{slope * (one['tokens']['value'] - size):.2f}"]


def plain(found: dict[str, float], digits: int = 2) -> str:
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
