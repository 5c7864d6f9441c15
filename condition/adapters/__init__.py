"""A network in, a network out: numbers added to a frozen base."""

from condition.adapters.lora import LoRA

__all__ = ["LoRA"]
