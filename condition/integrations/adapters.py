"""Several adapters on one base in memory, one for each request.

    adapters = Adapters({"qa": "qa-lora", "summary": "summary-lora"})
    adapters.on(base, "qa").generate("When was Ada born?")

Each is loaded when it is first asked for, over the base's own weights, with all checks of its contract.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import final
from weakref import WeakKeyDictionary

from condition.errors import ConditionError, SettingsError
from condition.models.contract import FILE, memory_fingerprint
from condition.models.load import load
from condition.models.local import LocalModel

BASE = "base"
"""The name under which the base itself is asked for."""


@final
class Adapters:
    """Folders of adapters, or models tuned on the base, by name.

    Raises SettingsError for what is no such mapping.
    """

    def __init__(self, given: Mapping[str, str | Path | LocalModel] | None = None) -> None:
        given = {} if given is None else given
        if not isinstance(given, Mapping) or not all(isinstance(v, str | Path | LocalModel) for v in given.values()):
            raise SettingsError(f'adapters are folders by name, such as {{"qa": "qa-lora"}}, not {given!r:.80}')
        if BASE in given:
            raise SettingsError(f"{BASE!r} is the base itself: give that adapter another name")
        self.given = dict(given)
        self._loaded: dict[str, tuple[LocalModel, LocalModel]] = {}  # a base with the adapted model over it
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Adapters({', '.join(self.given)})"

    def ready(self, base: LocalModel, name: str | Path | None) -> bool:
        """Whether `on` gives it at once."""
        known = self._loaded.get(str(name))
        return name is None or str(name) == BASE or (known is not None and known[0] is base)

    def on(self, base: LocalModel, name: str | Path | None) -> LocalModel:
        """The base with an adapter, by its name or its folder; the base itself for none and for `base`.

        Raises SettingsError for an unknown adapter, and what `load` raises: ContractError where it is on another base.
        """
        if name is None or str(name) == BASE:
            return base
        if not isinstance(name, str | Path) or not str(name).strip():
            raise SettingsError(f"adapter={name!r:.80} is neither the name of an adapter nor a folder")
        with self._lock:
            if not self.ready(base, name):
                self._loaded[str(name)] = base, self._tuned(base, name)
            return self._loaded[str(name)][1]

    def _tuned(self, base: LocalModel, name: str | Path) -> LocalModel:
        found = self.given.get(str(name), name)
        if isinstance(found, LocalModel):
            if found.source != base.source:
                raise SettingsError(f"the adapter {name!r} is on {found.source.name!r}, not on {base.source.name!r}")
            return found
        is_saved = any((Path(found) / file).is_file() for file in _FILES)
        if str(name) not in self.given and not is_saved:
            known = ", ".join(map(repr, (*self.given, BASE)))
            raise SettingsError(f"no adapter {str(name)!r}: known are {known}, and folders of saved adapters")
        if Path(found).is_dir() and not is_saved:
            raise SettingsError(f"the adapter {str(name)!r} is said to be in {found}, which holds no saved adapter")
        try:
            return load(found, base=base)
        except ConditionError as error:
            raise type(error)(f"the adapter {str(name)!r}: {error}") from error


_FILES = (FILE, "adapter_config.json")
_FINGERPRINTS: WeakKeyDictionary[LocalModel, str] = WeakKeyDictionary()


def fingerprint(model: LocalModel) -> str:
    """Tells models apart that have the same name: the key of caches."""
    if model not in _FINGERPRINTS:
        contract = None if model.contract is None else model.contract.model_dump(mode="json")
        parts = [contract, model.source.model_dump(), str(model.quantization), memory_fingerprint(model.network)]
        _FINGERPRINTS[model] = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return _FINGERPRINTS[model]
