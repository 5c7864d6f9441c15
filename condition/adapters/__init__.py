"""A network in, a network out: numbers added to a frozen base."""

from condition.adapters.quiet import hush

hush()  # before PEFT is imported

from condition.adapters.lora import LoRA  # noqa: E402

__all__ = ["LoRA"]
