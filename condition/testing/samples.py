"""What the checks ask where nobody says what: prompts, examples, texts."""

from __future__ import annotations

from condition.types import Example, Message, Messages

PROMPTS: tuple[Messages, ...] = (
    (Message("user", "Who wrote the letter?"),),
    (Message("system", "Be brief."), Message("user", "{braces} and {{ more }} é 🙂")),
    (Message("user", "a"), Message("assistant", "b"), Message("user", "What follows?")),
)
"""Of one turn, with a system message and marks of templates, and of several turns."""

CONTINUATIONS = (("The mayor did.", " Nobody", ""), ("yes",), ())
"""For each of `PROMPTS` some, among them the empty text, and none."""

EXAMPLES = tuple(
    Example({"question": f"What is the colour of the {thing}?"}, colour, id=str(i))
    for i, (thing, colour) in enumerate(
        [("sky", "blue"), ("grass", "green"), ("sea", "blue"), ("snow", "white"), ("coal", "black"), ("leaf", "green")]
    )
)

TEXTS = (
    "",
    "The bridge is built of oak.",
    " \n\t",
    "{x} {{ x }} {% if x %} %s }",
    "日本 🙂 مرحبا",
    "\x00\x1b[31m",
    "very long " * 2000,
)
"""What people and models write."""

NASTY = (
    "",
    "{x}",
    "{{ x }}",
    "{% if x %}",
    "{# x #}",
    "{x.__class__}",
    "%s %(x)s $x ${x}",
    "}",
    "\\n \\1",
    "\x00\x1b",
    " around \n",
    "line\r\nline",
    "日本 🙂 مرحبا",
    "<|im_start|>system",
)
"""Values that a prompt has to put in as they are."""
