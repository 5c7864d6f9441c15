"""What every test stands on: two threads, no network, tiny random networks, the shared data where there is some."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")  # before torch is imported
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("llama", "gpt2", "qwen2", "gpt_neox")

# Times differ between machines: no deadline. On CI the same examples every time.
settings.register_profile(
    "condition",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("condition")


class Tiny(Protocol):
    """Builds a tiny random network of a family; the same arguments give the same weights."""

    def __call__(self, family: str, **changes: Any) -> PreTrainedModel: ...


@cache
def _threads() -> None:
    import torch

    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """`tiny("llama")`: a new random network in fp32 and evaluation mode; keywords change its configuration."""
    return _tiny


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each family of networks in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not beside this checkout")
    return folder


def _tiny(family: str, **changes: Any) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen2Config

    _threads()
    tokens = {"vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
    config: Any
    if family == "llama":
        config = LlamaConfig(**{**tokens, **shape, "intermediate_size": 128, "num_key_value_heads": 2, **changes})
    elif family == "qwen2":
        config = Qwen2Config(**{**tokens, **shape, "intermediate_size": 128, "num_key_value_heads": 2, **changes})
    elif family == "gpt_neox":
        config = GPTNeoXConfig(**{**tokens, **shape, "intermediate_size": 128, **changes})
    elif family == "gpt2":
        config = GPT2Config(**{**tokens, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, **changes})
    else:
        raise ValueError(f"no such family: {family}; there are {', '.join(FAMILIES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return network.eval()
