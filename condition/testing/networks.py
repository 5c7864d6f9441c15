"""Small parts that run: a random network of two layers, the embedded model's tokenizer, a model of both."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from condition.models.contract import Source, memory_fingerprint
from condition.models.embedded import converted, embedded_file
from condition.models.local import LocalModel


def tiny_llama(vocabulary: int = 512) -> PreTrainedModel:
    """A random Llama of two layers, width 64, in fp32; each call gives the same numbers."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    network.eval()
    return network


def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """That of the embedded model. Raises ModelError where its package is missing."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(converted(embedded_file()))
    return tokenizer


def tiny_model() -> LocalModel:
    """A random model that knows the embedded model's words; it writes noise."""
    tokenizer = embedded_tokenizer()
    network = tiny_llama(len(tokenizer))
    source = Source(kind="memory", name="tiny llama", fingerprint=memory_fingerprint(network))
    return LocalModel(network, tokenizer, source=source)
