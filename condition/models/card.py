"""The card of a saved model, README.md: what its contract says, for people, with the lines to load and use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condition.models.contract import Contract
from condition.models.origin import origin
from condition.prompts.saved import prompt_from_json

CARD = "README.md"
OURS = "<!-- Written from condition.json. Without this line the card is yours, and is kept when the model is saved. -->"
PLAIN = ("output", "report_to", "resume", "log_every", "keep")
"""Settings that say nothing of the result."""
MEANINGS = {
    "seconds": "of the whole training, with what is made ready before its first step",
    "loop_seconds": "of the loop over the steps alone, with its validations and checkpoints",
    "trained_parameters": "numbers that training could change",
    "rows_dropped": "rows left out for their length",
    "rows_trimmed": "rows whose prompt was cut to fit",
    "final_loss": "of the last line that was logged",
    "best_eval_loss": "lowest loss on validation rows",
    "best_step": "step with the lowest loss on validation rows",
    "best_watch": "highest value of the measure that was watched",
}
"""What training counts, in words."""


def write_card(contract: Contract, folder: Path, before: Path, name: str) -> None:
    """Write the card to a folder; the one of the folder `before`, where a person has made it theirs, is kept."""
    try:
        old = (before / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        old = OURS
    (folder / CARD).write_text(card(contract, name) if OURS in old else old, encoding="utf-8")


def card(contract: Contract, name: str) -> str:
    """The card of a model, in Markdown with the header that the hub reads."""
    base = contract.base
    kind = contract.adapter_kind
    shown = Path(base.name).name if base.kind in ("folder", "gguf") else base.name
    head = [f"library_name: {'peft' if kind else 'transformers'}", "pipeline_tag: text-generation", "tags:"]
    head += [f"- {tag}" for tag in ("condition", *([kind] if kind else ()))]
    head += [f"base_model: {base.name}"] if base.kind == "hub" else []
    what = f"`{kind}` on `{shown}`" if kind else f"`{shown}`"
    parts = [
        "---\n" + "\n".join(head) + "\n---",
        OURS,
        f"# {name}",
        f"{what}{f', tuned by `{contract.trainer}`' if contract.trainer else ''}.",
        _use(contract, name),
        f"## Base\n\n{origin(base, name, kind is not None)}",
        _prompt(contract),
        _training(contract),
        _table("Results", contract.metrics, MEANINGS),
        "The file `condition.json` holds the whole contract: fingerprints of base, tokenizer and chat template, a hash "
        "of each file, and a short text with the numbers that this model must give again. `load` checks them all.",
        _table("Made with", contract.versions),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _use(contract: Contract, name: str) -> str:
    where = "" if "/" in name else "  # the path of this folder, or its id on the hub"
    lines = ["import condition as cd", "", f'model = cd.load("{name}"){where}']
    fields = contract.prompt and sorted(_variables(contract.prompt))
    if fields:
        values = ", ".join(f'"{field}": "…"' for field in fields)
        lines.append(f"model.invoke({{{values}}}).text")
    lines += ["", f'llm = cd.ChatCondition("{name}")  # a LangChain chat model']
    return "## Use\n\n```python\n" + "\n".join(lines) + "\n```"


def _variables(saved: Any) -> set[str]:
    return set(prompt_from_json(saved).variables)


def _prompt(contract: Contract) -> str:
    if contract.prompt is None:
        return ""
    return "## Prompt\n\n```json\n" + json.dumps(dict(contract.prompt), indent=1, ensure_ascii=False) + "\n```"


def _training(contract: Contract) -> str:
    settings = {name: value for name, value in contract.settings.items() if name not in PLAIN and value is not None}
    told: dict[str, Any] = {
        **({"rows": contract.rows, "data (SHA-256)": contract.data} if contract.data else {}),
        **({"quantization of the base": json.dumps(contract.quantization)} if contract.quantization else {}),
        **{f"adapter: {k}": v for k, v in (contract.adapter or {}).items() if k != "kind"},
        **settings,
    }
    return _table("Training", told)


def _table(title: str, values: Any, meanings: Mapping[str, str] | None = None) -> str:
    """A table of names and values, with what they mean in a column of its own where that is given."""
    if not values:
        return ""
    told = {name: "" if meanings is None else f" {meanings.get(name, '')} |" for name in values}
    rows = [f"| {name} | {_shown(value)} |{told[name]}" for name, value in values.items()]
    head = "| | |\n| --- | --- |" if meanings is None else "| | | |\n| --- | --- | --- |"
    return f"## {title}\n\n{head}\n" + "\n".join(rows)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
