"""Every way to tune on the same questions under one budget of training seconds: trained parameters, F1, intervals.

    python tests/benchmarks/tuning.py                             all of them: an hour on two cores
    python tests/benchmarks/tuning.py --methods lora bottleneck --seconds 60
    python tests/benchmarks/tuning.py --folder FOLDER             a run that was stopped goes on from there

The embedded model on SQuAD questions that have an answer, the rows of `squad.py answerable`. What a step costs is timed
on a few steps first, which are thrown away; then each method gets as many steps as the budget pays for, so that its
learning rate comes down to zero in time. Learning rates are each method's own, out of the few that were tried on other
rows. The table is `compare`'s, beside the untuned base.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from squad import ANSWERABLE, DATA, answerable_rows, examples

import condition as cd

TIMED_STEPS = 4
SAVED = "tuned"
METHODS: dict[str, tuple[Any, float]] = {
    "lora": (cd.LoRA(rank=16, alpha=32), 1e-3),
    "adalora": (cd.AdaLoRA(), 3e-3),
    "ia3": (cd.IA3(), 1e-2),
    "bottleneck": (cd.Bottleneck(size=64), 1e-3),
    "parallel bottleneck": (cd.Bottleneck(size=64, placement="parallel", scale=4.0), 1e-3),
    "mixed": (cd.Mixed(), 1e-3),
    "ladder_side": (cd.LadderSide(), 1e-3),
    "prompt_tuning": (cd.PromptTuning(text="Answer with the fewest words from the passage. The answer is:"), 0.03),
    "p_tuning": (cd.PTuning(length=20), 1e-3),
    "prefix_tuning": (cd.PrefixTuning(text="Answer with the fewest words from the passage. The answer is:"), 1e-2),
    "last_layers": (cd.LastLayers(4), 3e-4),
    "full": (cd.FullFineTuning(), 1e-4),
}


def settings(rate: float, **options: Any) -> cd.Settings:
    return cd.Settings(learning_rate=rate, batch_size=10, packing=True, log_every=1, **options)


def fit(adapter: Any, base: cd.LocalModel, rows: list[cd.Example], **options: Any) -> tuple[cd.LocalModel, float]:
    """A tuned model, and the seconds that its steps took."""
    tuned = cd.SFTTrainer(adapter, settings(**options)).fit(base, rows, prompt=ANSWERABLE)
    assert tuned.contract is not None
    return tuned, tuned.contract.metrics["loop_seconds"]


def tuned(name: str, base: cd.LocalModel, rows: list[cd.Example], seconds: float, folder: Path) -> cd.LocalModel:
    """Trained within `seconds`, or taken from where it was saved; what it cost stands beside it."""
    home = folder / name.replace(" ", "-")
    costs = home / "costs.json"
    if not costs.exists():
        adapter, rate = METHODS[name]
        _, first = fit(adapter, base, rows, rate=rate, max_steps=1)
        _, more = fit(adapter, base, rows, rate=rate, max_steps=1 + TIMED_STEPS)
        step = (more - first) / TIMED_STEPS
        steps = max(1, int((seconds - first) / step))
        model, spent = fit(adapter, base, rows, rate=rate, max_steps=steps, epochs=1 + steps * 10 / len(rows))
        model.save_pretrained(home / SAVED)
        assert model.contract is not None
        lines = {"steps": steps, "seconds": spent, "trained": model.contract.metrics["trained_parameters"]}
        costs.write_text(json.dumps(lines))
        print(f"{name}: {steps} steps in {spent:.0f} s, one takes {step:.2f} s", flush=True)
    return cd.load(home / SAVED, base=None if name == "full" else base)  # which is a model of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seconds", type=float, default=300, help="of training, for each method")
    parser.add_argument("--folder", type=Path, default=Path("outputs") / "tuning")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train.jsonl.gz and validation.jsonl")
    options = parser.parse_args()
    if missing := [name for name in ("train.jsonl.gz", "validation.jsonl") if not (options.data / name).is_file()]:
        print(f"skipped: no {' and no '.join(missing)} in {options.data}; give --data FOLDER with both")
        return
    base = cd.load()
    train, held = answerable_rows(options.data, base)
    rows = examples(train)
    began = time.perf_counter()
    subjects: dict[str, Any] = {"base": (base, ANSWERABLE)}
    for name in options.methods:
        subjects[name] = tuned(name, base, rows, options.seconds, options.folder)
    table = cd.compare(subjects, cd.tasks.squad_v2(held), cache=options.folder / "answers", training=rows)
    print(table.to_markdown())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    print(
        f"\n{len(rows)} rows to tune on, {len(held)} to measure on; {options.seconds:.0f} s of training each, "
        f"{os.environ['OMP_NUM_THREADS']} threads, {versions}; {time.perf_counter() - began:.0f} s in all"
    )
    print("\n| method | steps | seconds of training | trained parameters |\n| --- | ---: | ---: | ---: |")
    for name in options.methods:
        cost = json.loads((options.folder / name.replace(" ", "-") / "costs.json").read_text())
        print(f"| {name} | {cost['steps']} | {cost['seconds']:.0f} | {cost['trained']:,.0f} |")


if __name__ == "__main__":
    main()
