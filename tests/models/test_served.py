"""Models behind a server: a small one of our own on loopback that can be made to fail, and `transformers serve`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_openai import ChatOpenAI, OpenAI
from safetensors import safe_open

from condition.adapters.lora import LoRA
from condition.errors import Interrupted, ModelError, UnfinishedError
from condition.models import retry
from condition.models.embedded import converted, embedded_file
from condition.models.local import LocalModel
from condition.models.remote import LangChainModel, as_model
from condition.types import Message, Sampling, Usage
from tests.conftest import TinyModel

Trouble = tuple[int, dict[str, str]] | None


class Loopback:
    """An OpenAI-shaped server. It says what it was told, after `seconds`; `trouble` gives a status and headers."""

    def __init__(self, trouble: Callable[[str, int], Trouble] = lambda *_: None, seconds: float = 0.0) -> None:
        self.trouble = trouble
        self.seconds = seconds
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.inside = self.most = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def llm(self, **settings: Any) -> ChatOpenAI:
        return ChatOpenAI(**{"model": "loop", "base_url": self.url, "api_key": "none", "max_retries": 0, **settings})

    def asked(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _answer(self, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        if "prompt" in body:
            return self._complete(body)
        text = body["messages"][-1]["content"]
        with self.lock:
            self.bodies.append(body)
            self.inside += 1
            self.most = max(self.most, self.inside)
            trouble = self.trouble(text, self.asked().count(text))
        time.sleep(self.seconds)
        with self.lock:
            self.inside -= 1
        if trouble:
            return *trouble, {"error": {"message": f"not now: {trouble[0]}"}}
        message = {"role": "assistant", "content": f"{text}, said the server"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
        return 200, {}, {"id": "1", "object": "chat.completion", "created": 0, "model": "loop", "choices": [choice],
                         "usage": usage}  # fmt: skip

    def _complete(self, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        """The endpoint for plain text: several prompts in one request."""
        self.bodies.append(body)
        choices = [
            {"index": i, "text": f"{prompt} ...", "finish_reason": "length", "logprobs": None}
            for i, prompt in enumerate(body["prompt"])
        ]
        return 200, {}, {"id": "1", "object": "text_completion", "created": 0, "model": "loop", "choices": choices,
                         "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}}  # fmt: skip

    def _handler(loopback) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = loopback._answer(body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def loopback() -> Iterator[Callable[..., Loopback]]:
    made: list[Loopback] = []

    def make(*args: Any, **settings: Any) -> Loopback:
        made.append(Loopback(*args, **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)


def remote(*llms: ChatOpenAI, **settings: Any) -> LangChainModel:
    return LangChainModel(*llms, **settings)


def rows(n: int) -> list[str]:
    return [f"row {i}" for i in range(n)]


def said(n: int) -> list[list[str]]:
    return [[f"row {i}, said the server"] for i in range(n)]


def texts(completions: list[list[Any]]) -> list[list[str]]:
    return [[c.text for c in row] for row in completions]


def test_a_busy_server_is_asked_again(loopback: Any, short_waits: None) -> None:
    server = loopback(lambda _, times: {1: (429, {"Retry-After": "0"}), 2: (500, {})}.get(times))
    ((completion,),) = remote(server.llm()).generate("Hello")
    assert completion.text == "Hello, said the server"
    assert completion.usage == Usage(input_tokens=7, output_tokens=4, seconds=completion.usage.seconds)
    assert completion.usage.seconds < 1
    assert len(server.bodies) == 3


def test_as_long_as_the_server_says(loopback: Any, short_waits: None) -> None:
    server = loopback(lambda _, times: (429, {"Retry-After": "1"}) if times == 1 else None)
    began = time.perf_counter()
    remote(server.llm()).generate("Hello")
    assert 1 <= time.perf_counter() - began < 3


def test_a_server_that_stays_busy_is_named_with_its_status(loopback: Any, short_waits: None) -> None:
    server = loopback(lambda *_: (503, {}))
    with pytest.raises(ModelError, match=r"loop did not answer: OpenAIAPIError: .*503.*; look at the service's"):
        remote(server.llm(), retries=2).generate("Hello")
    assert len(server.bodies) == 3


@pytest.mark.parametrize(("status", "what"), [(400, "refuses"), (401, "key"), (403, "key"), (404, "model's name")])
def test_what_can_not_work_is_asked_once(loopback: Any, status: int, what: str) -> None:
    server = loopback(lambda *_: (status, {}))
    with pytest.raises(ModelError, match=f"not now: {status}.*{what}"):
        remote(server.llm()).generate("Hello")
    assert len(server.bodies) == 1


def test_a_slow_server_is_a_timeout(loopback: Any, short_waits: None) -> None:
    server = loopback(seconds=1.0)
    with pytest.raises(ModelError, match=r"TimeoutError.*its timeout"):
        remote(server.llm(timeout=0.1), retries=1).generate("Hello")
    assert len(server.bodies) == 2


def test_no_server_at_all(short_waits: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    llm = ChatOpenAI(model="loop", base_url=url, api_key="none", max_retries=0)
    with pytest.raises(ModelError, match=r"ConnectionError.*refused.*a server listens there"):
        remote(llm, retries=1).generate("Hello")


def test_only_so_many_at_once(loopback: Any) -> None:
    server = loopback(seconds=0.03)
    assert texts(remote(server.llm(), concurrency=3).generate(rows(24))) == said(24)
    assert server.most == 3


def test_samples_with_seeds_are_asked_all_at_once(loopback: Any) -> None:
    server = loopback(seconds=0.5)
    found = remote(server.llm()).generate(
        rows(2), Sampling(n=4, seed=7, temperature=1.0, max_tokens=9, stop=",", top_k=3)
    )
    assert texts(found) == [[f"row {i}"] * 4 for i in range(2)]
    assert server.most == 8
    assert sorted((body["messages"][-1]["content"], body["seed"]) for body in server.bodies) == [
        (f"row {i}", seed) for i in range(2) for seed in (7, 8, 9, 10)
    ]
    body = server.bodies[0]
    assert (body["temperature"], body["max_completion_tokens"], body["stop"], body["top_k"]) == (1.0, 9, [","], 3)
    assert "top_p" not in body


def test_a_refused_row_leaves_the_others_and_the_rest_is_asked_later(loopback: Any) -> None:
    server = loopback(lambda text, _: (400, {}) if text == "row 5" else None)
    model = remote(server.llm())
    with pytest.raises(
        UnfinishedError, match=r"1 of 12 prompts are unanswered, the first at index 5; the 11"
    ) as caught:
        model.generate(rows(12))
    assert sorted(caught.value.finished) == [i for i in range(12) if i != 5]
    assert list(caught.value.failed) == [5]
    server.trouble = lambda *_: None
    assert texts(model.generate(rows(12), finished=caught.value.finished)) == said(12)
    assert server.asked().count("row 5") == 2
    assert len(server.bodies) == 13


def test_a_server_that_goes_away_leaves_what_was_finished(loopback: Any, short_waits: None) -> None:
    gone = threading.Event()

    def goes(text: str, _: int) -> Trouble:
        if text == "row 12":
            gone.set()
        return (503, {}) if gone.is_set() else None

    server = loopback(goes, seconds=0.02)
    with pytest.raises(UnfinishedError) as caught:
        remote(server.llm(), retries=2, concurrency=4).generate(rows(200))
    finished = texts(list(caught.value.finished.values()))
    assert 5 <= len(finished) <= 16
    assert finished == [[f"row {i}, said the server"] for i in caught.value.finished]
    assert len(caught.value.finished) + len(caught.value.failed) == 200
    assert len(server.bodies) <= 16 + 4 * 3


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Python's own answer to Ctrl-C: test processes side by side switch it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_keeps_what_was_finished(loopback: Any, hears_ctrl_c: None) -> None:
    def interrupts(text: str, _: int) -> Trouble:
        if text == "row 12":
            os.kill(os.getpid(), signal.SIGINT)
        return None

    server = loopback(interrupts, seconds=0.05)
    with pytest.raises(Interrupted) as caught:
        remote(server.llm(), concurrency=2).generate(rows(200))
    assert 1 <= len(caught.value.finished) <= 13
    assert caught.value.total == 200
    time.sleep(0.2)
    assert len(server.bodies) <= 20  # nothing more was asked for
    server.trouble = lambda *_: None
    assert texts(remote(server.llm()).generate(rows(20), finished=caught.value.finished)) == said(20)


def test_rows_are_spread_over_servers_and_a_dead_ones_go_to_the_others(loopback: Any, short_waits: None) -> None:
    first, second, dead = loopback(seconds=0.02), loopback(seconds=0.02), loopback()
    dead.close()
    model = as_model([first.llm(), second.llm(), dead.llm()], concurrency=4)
    assert texts(model.generate([(Message("user", row),) for row in rows(60)])) == said(60)
    assert min(len(first.bodies), len(second.bodies)) >= 5
    assert sorted(first.asked() + second.asked()) == sorted(rows(60))


def test_the_clients_own_retries_come_inside(loopback: Any, short_waits: None) -> None:
    server = loopback(lambda *_: (500, {}))
    with pytest.raises(ModelError):
        remote(server.llm(max_retries=1), retries=1).generate("Hello")
    assert len(server.bodies) == 4


def test_text_prompts_go_as_they_are_to_the_endpoint_for_text(loopback: Any) -> None:
    server = loopback()
    model = as_model(OpenAI(model="loop", base_url=server.url, api_key="none", max_retries=0), concurrency=2)
    found = model.generate(
        [(Message("text", "once "), Message("text", row)) for row in rows(3)], Sampling(n=2, top_k=4)
    )
    assert texts(found) == [[f"once row {i} ..."] * 2 for i in range(3)]
    assert [body["prompt"] for body in server.bodies] == [[f"once row {i}"] * 2 for i in range(3)]
    assert server.bodies[0]["top_k"] == 4


# `transformers serve`: a real server that anybody has, with the embedded model.


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a server of its own, and its process."""
    command = shutil.which("transformers", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if command is None or not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn")):
        pytest.skip("needs the command `transformers serve`: pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [command, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its children end with it
        )
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail(f"the server ended: {log.read_text()[-2000:]}")
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (URLError, OSError):
                time.sleep(0.2)
        else:
            pytest.fail(f"the server is not up after two minutes: {log.read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@pytest.fixture(scope="module")
def folder() -> Path:
    return converted(embedded_file())


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatOpenAI]:
    """The embedded model behind a real server, for the tests of this file."""
    with serving(folder, tmp_path_factory.mktemp("served") / "log") as (url, _):
        yield client(url, folder)


def client(url: str, folder: Path) -> ChatOpenAI:
    return ChatOpenAI(model=str(folder), base_url=url, api_key="none", max_retries=0, timeout=120)


QUESTIONS = ["What is the capital of France?", "Name a colour.", "Say hello.", "Count to three."]
GREEDY = Sampling(max_tokens=12, temperature=0.0)


@pytest.mark.real
def test_served_text_is_the_local_models(served: ChatOpenAI, embedded: LocalModel) -> None:
    prompts = [*QUESTIONS, (Message("system", "Answer in one word."), Message("user", "Is snow white?"))]
    far, near = as_model(served).generate(prompts, GREEDY), embedded.generate(prompts, GREEDY)
    assert texts(far) == texts(near)
    for (there,), (here,) in zip(far, near, strict=True):
        assert there.finish_reason == here.finish_reason
        assert there.usage is not None
        assert here.usage is not None
        assert there.usage.input_tokens == here.usage.input_tokens
        assert there.usage.seconds > 0


@pytest.mark.real
def test_served_samples_and_stops(served: ChatOpenAI, embedded: LocalModel) -> None:
    near = embedded.generate("Count to three.", Sampling(max_tokens=12))[0][0].text
    stop = near.split()[2]
    found = as_model(served).generate(["Count to three."], Sampling(max_tokens=12, temperature=0.0, n=3, stop=(stop,)))
    assert texts(found) == [[near[: near.index(stop)]] * 3]
    assert {c.finish_reason for c in found[0]} == {"stop"}


@pytest.mark.real
def test_an_unknown_model_is_a_clear_error(served: ChatOpenAI) -> None:
    wrong = served.model_copy(update={"model_name": "nobody/nothing"})
    began = time.perf_counter()
    with pytest.raises(ModelError, match=r"nobody/nothing did not answer: .*pinned to.*the model's name"):
        as_model(wrong).generate(["Hello"], GREEDY)
    assert time.perf_counter() - began < 5  # without a second try


class Third(BaseCallbackHandler):
    """Does something before the third call."""

    def __init__(self, does: Callable[[], None]) -> None:
        self.does = does
        self.calls = count(1)

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        if next(self.calls) == 3:
            self.does()


@pytest.mark.real
def test_a_server_killed_in_the_middle(
    served: ChatOpenAI, embedded: LocalModel, folder: Path, tmp_path: Path, short_waits: None
) -> None:
    prompts, sampling = [f"Say the number {i}." for i in range(12)], Sampling(max_tokens=6, temperature=0.0)
    expected = texts(embedded.generate(prompts, sampling))
    with serving(folder, tmp_path / "log") as (url, process):
        second = client(url, folder).model_copy(update={"callbacks": [Third(lambda: kill(process))]})
        both = remote(served, second, retries=2, concurrency=2)
        assert texts(both.generate(prompts, sampling)) == expected
        assert process.poll() is not None
        kept = {3: both.generate(prompts[3:4], sampling)[0]}
        with pytest.raises(UnfinishedError, match="a server listens there") as caught:
            remote(second, retries=2).generate(prompts, sampling, finished=kept)
    assert caught.value.finished == kept
    assert len(caught.value.failed) == 11


# What vLLM's loader of adapters refuses (vllm/lora/peft_helper.py, lora_model.py, utils.py and vllm/config/lora.py,
# the newest and the older rules together).

LARGEST_RANK = 512
"""Of --max-lora-rank."""
NOT_IN_VLLM = (
    "modules_to_save",
    "use_dora",
    "lora_bias",
    "alora_invocation_tokens",
    "layer_replication",
    "use_bdlora",
    "use_qalora",
    "trainable_token_indices",
    "rank_pattern",
    "alpha_pattern",
)


def refused_by_vllm(folder: Path, linear: set[str]) -> list[str]:
    """Why vLLM would refuse a folder for a base whose linear layers have these names."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    found = [f"no {name}" for name in ("r", "lora_alpha", "target_modules") if name not in config]
    found += [name for name in NOT_IN_VLLM if config.get(name)]
    if not 0 < config["r"] <= LARGEST_RANK:
        found.append("rank")
    if config.get("bias", "none") != "none" or isinstance(config.get("init_lora_weights"), str):
        found.append("bias or weights of the base changed")
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no dict
            module, _, kind = name.removeprefix("base_model.model.").rpartition(".lora_")
            if kind not in ("A.weight", "B.weight") or not name.startswith("base_model.model."):
                found.append(f"tensor {name}")
            elif module.rpartition(".")[2] not in linear:
                found.append(f"layer {module}")
    return found


LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def saved(model: LocalModel, lora: LoRA, folder: Path) -> Path:
    LocalModel(lora.attach(model.network), model.tokenizer, source=model.source).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("lora", [LoRA(rank=8), LoRA(rank=4, rank_stabilised=True), LoRA(targets=["q_proj", "v_proj"])])
def test_vllm_takes_a_saved_adapter(family: str, lora: LoRA, tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = saved(tiny_model(family), lora, tmp_path / "qa-lora")
    assert refused_by_vllm(folder, LINEAR) == []
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as tensors:
        assert len(tensors.keys()) == 2 * 2 * (7 if lora.targets == "all-linear" else 2)  # A and B, two blocks
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.pt"))


def test_vllm_takes_no_dora(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = saved(tiny_model(), LoRA(weight_decomposed=True), tmp_path / "dora")
    why = refused_by_vllm(folder, LINEAR)
    assert why[0] == "use_dora"
    assert "lora_magnitude_vector" in why[1]
