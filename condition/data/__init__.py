"""Rows and where they come from. No torch here."""

from condition.data.formats import NO_ANSWER
from condition.data.read import read
from condition.data.shipped import sample

__all__ = ["NO_ANSWER", "read", "sample"]
