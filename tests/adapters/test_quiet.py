"""Bars are off inside, and come back."""

from __future__ import annotations

from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging as transformers_logging

from condition.adapters.quiet import no_weight_bars


def test_bars_of_weights_are_off_inside_and_downloads_stay() -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        with no_weight_bars():
            assert not transformers_logging.is_progress_bar_enabled()
            assert not are_progress_bars_disabled()
        assert transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        with no_weight_bars():
            assert not transformers_logging.is_progress_bar_enabled()
        assert not transformers_logging.is_progress_bar_enabled()
    finally:
        (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()


def test_of_threads_the_last_one_switches_bars_on_again() -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        first, second = no_weight_bars(), no_weight_bars()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not transformers_logging.is_progress_bar_enabled()
        second.__exit__(None, None, None)
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        (transformers_logging.enable_progress_bar if shown else transformers_logging.disable_progress_bar)()
