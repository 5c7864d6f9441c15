"""What LangChain wants to know of a completion: why it ended, how likely it was, and what it cost."""

from __future__ import annotations

from typing import Any

from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from condition.models.local import LocalModel
from condition.types import Completion


def metadata(model: LocalModel, completion: Completion, *, logprobs: bool) -> dict[str, Any]:
    """`response_metadata` of a message and `generation_info` of a text; log-probabilities in the form of OpenAI's."""
    told: dict[str, Any] = {
        "model_name": model.name,
        "finish_reason": completion.finish_reason,
        "logprob": completion.logprob,
    }
    if logprobs:
        told["logprobs"] = {
            "content": [
                {"token": str(model.tokenizer.decode([token])), "token_id": token, "logprob": logprob}
                for token, logprob in zip(completion.token_ids, completion.logprobs, strict=True)
            ]
        }
    return told


def usage(completion: Completion) -> UsageMetadata | None:
    """Tokens of a completion; those that sharing did not compute again are `cache_read`."""
    spent = completion.usage
    if spent is None:
        return None
    told = UsageMetadata(
        input_tokens=spent.input_tokens, output_tokens=spent.output_tokens, total_tokens=spent.total_tokens
    )
    if spent.saved_tokens:
        told["input_token_details"] = InputTokenDetails(cache_read=min(spent.saved_tokens, spent.input_tokens))
    return told
