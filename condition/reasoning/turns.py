"""Going on with a conversation, whether it is chat turns or plain text that no template touches.

asked = add(messages, "Let's think step by step.")
asked = reply(asked, "2 + 2 = 4.", "Therefore, the answer is")
"""

from __future__ import annotations

from condition.types import Message, Messages


def add(messages: Messages, words: str) -> Messages:
    """The messages with words at the end of the last one."""
    *before, last = messages
    space = "\n\n" if last.role != "text" else "" if last.content[-1:].isspace() else " "
    return (*before, Message(last.role, f"{last.content}{space}{words}"))


def reply(messages: Messages, said: str, then: str) -> Messages:
    """The messages, what the model said to them, and what it is told next. It begins with the messages, unchanged."""
    if messages[-1].role != "text":
        return (*messages, Message("assistant", said), Message("user", then))
    *before, last = messages
    return (*before, Message("text", f"{last.content}{said}\n{then}"))
