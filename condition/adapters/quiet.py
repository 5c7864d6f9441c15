"""Loading without transformers' progress bars."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
from transformers.utils import logging as transformers_logging

_turn = threading.Lock()
_inside = 0


@contextmanager
def no_weight_bars() -> Iterator[None]:
    """Without transformers' bar over the tensors of a file; bars of downloads stay.

    The switch is the process's: of threads that load at once the last one out switches the bars on again.
    """
    global _inside
    with _turn:
        ours = _inside > 0 or transformers_logging.is_progress_bar_enabled()
        if ours and not _inside:
            _weight_bars_off()
        _inside += ours
    try:
        yield
    finally:
        with _turn:
            _inside -= ours
            if ours and not _inside:
                transformers_logging.enable_progress_bar()


def _weight_bars_off() -> None:
    downloads = not are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
