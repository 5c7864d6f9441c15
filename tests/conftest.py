"""What every test stands on: few threads, no network, tiny random networks, the shared data where there is some."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side do not fight for cores
    os.environ["OMP_NUM_THREADS"] = "1"
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
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from condition.models.local import LocalModel

ROOT = Path(__file__).resolve().parent.parent
DEVICE = os.environ.get("TEST_DEVICE", "cpu")
"""Where tiny networks lie: `TEST_DEVICE=cuda make test`."""
FAMILIES = ("llama", "gpt2", "qwen2", "gpt_neox")
SLOW = (
    "tests/examples/",
    "tests/test_docs.py",
    "tests/models/test_canary.py",
    "tests/models/test_served.py",
    "tests/models/test_load.py",
    "tests/evaluation/tasks/test_programs.py",
    "tests/evaluation/test_asking.py",
    "tests/evaluation/test_sandbox.py",
    "tests/training/test_processes.py",
    "tests/training/test_sharded.py",
    "tests/integrations/test_langchain.py",
)
"""Where tests of many seconds are."""

# Times differ between machines: no deadline. On CI the same examples every time.
settings.register_profile(
    "condition",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("condition")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: of processes side by side, none is left with one when the others have ended."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))


def pytest_collection_finish() -> None:
    """Each training collects garbage, and need not look through all that was imported."""
    gc.collect()
    gc.freeze()


class Tiny(Protocol):
    """Builds a tiny random network of a family; the same arguments give the same weights."""

    def __call__(self, family: str, **changes: Any) -> PreTrainedModel: ...


class TinyModel(Protocol):
    """Builds a model of a tiny random network and the tiny tokenizer; keywords change its configuration."""

    def __call__(self, family: str = "llama", **changes: Any) -> LocalModel: ...


@cache
def _threads() -> None:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """`tiny("llama")`: a new random network in fp32 and evaluation mode; keywords change its configuration."""
    return _tiny


@pytest.fixture
def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer of 512 tokens with a ChatML template; a new one each time."""
    return _tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    """`tiny_model("llama")`: a LocalModel in milliseconds, of kind `memory`; it writes noise."""

    def build(family: str = "llama", **changes: Any) -> LocalModel:
        from condition.models.contract import Source, memory_fingerprint
        from condition.models.local import LocalModel

        network = _tiny(family, **changes)
        source = Source(kind="memory", name=f"tiny {family}", fingerprint=memory_fingerprint(network))
        return LocalModel(network, _tiny_tokenizer(), source=source)

    return build


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    """oneDNN's products are tried again, in the test and behind it."""
    from condition import onednn

    onednn.works.cache_clear()
    yield
    onednn.works.cache_clear()


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A folder with a tiny Llama and its tokenizer, as `save_pretrained` of transformers writes it."""
    folder = tmp_path / "tiny-llama"
    _tiny("llama").save_pretrained(folder)
    _tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each family of networks in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def embedded() -> LocalModel:
    """The embedded model, loaded once. Tests leave it as it is."""
    from condition.models.load import load

    _threads()
    return load()


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
    return network.to(DEVICE).eval()


CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WORDS = """Answer from the passage. When was the bridge first built? The bridge at Orla was built of oak in 1784 and
rebuilt in stone. What is the colour of the sky, the grass and the sea? It is blue, green and grey. Who wrote the letter
to the mayor? Nobody knows which carpenter made these wooden ladders, although several people in that village remember
hearing hammers every morning before sunrise. Bread needs flour, water, salt, yeast and patience; a potter needs clay,
a wheel and two steady hands. During winter most travellers stayed indoors, reading newspapers or mending fishing nets.
Please choose between yes, no and perhaps; explain your reasons in one short sentence."""


@cache
def _tiny_tokenizer_json() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],  # ids 0, 1 and 2, as in the tiny networks
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_WORDS] * 4, trainer)
    return str(tokenizer.to_str())


def _tiny_tokenizer() -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tiny_tokenizer_json()),
        pad_token="<pad>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )
