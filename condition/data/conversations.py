"""Conversations: the columns of ShareGPT (`conversations`: from, value) and ChatML (`messages`: role, content).

Each assistant turn is an Example of its own: what was said before it is the input `history`, its words are the target.
So every turn is taught, and exactly behind what a served model would have read:

    read("chats.jsonl")            # 1 row of user, assistant, user, assistant gives 2 Examples
    trainer.fit(model, "chats.jsonl", prompt=History())

With `Settings(packing=True)` the turns of a conversation are trained together and its beginning is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from condition.errors import DataError
from condition.types import Example, Message, Role

COLUMNS = {"conversations": ("from", "value"), "messages": ("role", "content")}
ROLES: dict[str, Role] = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "ai", "model", "chatgpt", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
JUDGED = ("chosen", "rejected", "label")
"""Columns that say whether an answer is good: what to teach is not the assistant's turn then."""


def is_conversation(row: Mapping[str, Any]) -> bool:
    """True for a row with a list of turns and no judgment of them."""
    return _column(row) is not None and not any(name in row for name in JUDGED)


def conversation_lack(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row that has a column of turns and is no conversation; none where nothing is."""
    column = next((name for name in COLUMNS if name in row), None)
    if column is None or is_conversation(row):
        return None
    if judged := [name for name in JUDGED if name in row]:
        return f"{judged[0]!r} judges its answers, and such rows are for read_rankings and read_feedback"
    turns, names = _listed(row[column]), " and ".join(map(repr, COLUMNS[column]))
    if not isinstance(turns, list | tuple):
        return f"{column!r} is {type(turns).__name__}, {turns!r:.80}, not a list of turns with {names}"
    return f"{column!r} holds {turns[0]!r:.80}, not turns with {names}" if turns else f"{column!r} is empty"


def conversation_examples(row: Mapping[str, Any], where: str) -> Iterator[Example]:
    """An Example for each assistant turn, but for those with OpenAI's `weight` 0.

    Other columns are inputs too. Raises DataError for turns that break the schema, and where nobody answers.
    """
    column = _column(row) or "messages"
    others = {name: value for name, value in row.items() if name not in (column, "id")}
    identity = str(row["id"]) if row.get("id") is not None else where
    history: list[Message] = []
    answers = taught = 0
    for number, turn in enumerate(row[column]):  # a list, or an array that pandas made of one
        message = _message(turn, COLUMNS[column], f"{where}: turn {number}")
        if message.role == "assistant":
            answers += 1
            if turn.get("weight", 1) != 0:
                taught += 1
                yield Example({**others, "history": tuple(history)}, message.content, id=f"{identity}#{answers}")
        history.append(message)
    if not taught:
        kind = " with another weight than 0" if answers else ""
        raise DataError(
            f"{where}: {column!r} holds no turn of the assistant{kind}, there is nothing to learn; drop the row"
        )


def _column(row: Mapping[str, Any]) -> str | None:
    for column in COLUMNS:
        turns = _listed(row.get(column))
        if isinstance(turns, list | tuple) and turns and isinstance(turns[0], Mapping):
            return column
    return None


def _listed(turns: Any) -> Any:
    return turns.tolist() if hasattr(turns, "tolist") else turns  # pandas keeps the lists of a Parquet file as arrays


def _message(turn: Any, names: tuple[str, str], where: str) -> Message:
    speaker, words = names
    if not isinstance(turn, Mapping) or not {speaker, words} <= turn.keys():
        if isinstance(turn, Mapping) and {"role", "content"} <= turn.keys():
            speaker, words = "role", "content"  # many call the column `conversations` and its parts as ChatML does
        else:
            raise DataError(f"{where}: expected {{{speaker!r}: …, {words!r}: …}}, got {turn!r:.80}")
    if turn[speaker] not in ROLES:
        raise DataError(f"{where}: unknown speaker {turn[speaker]!r}; known: {', '.join(ROLES)}")
    if not isinstance(turn[words], str):
        raise DataError(f"{where}: {words!r} is {type(turn[words]).__name__}, not text")
    return Message(ROLES[turn[speaker]], turn[words])
