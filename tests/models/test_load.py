"""Loading, and what is said where it fails. The hub here is a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from condition.adapters.lora import LoRA
from condition.adapters.registry import save_adapter
from condition.errors import ConditionError, ModelError, SettingsError
from condition.models import hub
from condition.models.load import load
from condition.models.quantize import Quantization
from condition.types import Sampling
from tests.training.test_sft import fit


def test_a_folder(tiny_folder: Path) -> None:
    model = load(tiny_folder)
    assert model.source.kind == "folder"
    assert model.source.name == str(tiny_folder)
    assert model.source.fingerprint
    assert not model.network.training
    assert model.network.dtype == torch.float32
    assert load(str(tiny_folder)).source == model.source
    assert len(model.generate("x", Sampling(max_tokens=2))) == 1


def test_a_relative_folder_is_found_again(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit(load("tiny-llama"), max_steps=1).save_pretrained("saved")
    monkeypatch.chdir("/")
    assert load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("dtype", "expected"), [("bf16", torch.bfloat16), ("auto", torch.float32), (torch.float16, torch.float16)]
)
def test_precisions(tiny_folder: Path, dtype: Any, expected: torch.dtype) -> None:
    assert load(tiny_folder, dtype=dtype).network.dtype == expected


def test_loading_says_nothing(tiny_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit(load(tiny_folder), max_steps=1).save_pretrained(tiny_folder.parent / "saved")
    capfd.readouterr()
    load(tiny_folder.parent / "saved").save_pretrained(tiny_folder.parent / "again")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"device": "gpu"}, SettingsError, "unknown device 'gpu'"),
        ({"dtype": "int3"}, SettingsError, "unknown dtype 'int3'"),
    ],
)
def test_settings_that_do_not_fit(tiny_folder: Path, options: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load(tiny_folder, **options)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        ModelError, match=r"holds no model: no config\.json and no condition\.json \(it holds notes\.txt\)"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "nonsense"}'),
        ("model.safetensors", b"\x00" * 40),
        ("tokenizer.json", b"{}"),
    ],
)
def test_a_damaged_folder(tiny_folder: Path, name: str, content: bytes) -> None:
    (tiny_folder / name).write_bytes(content)
    with pytest.raises(ModelError, match="tiny-llama"):
        load(tiny_folder)


def test_weights_that_are_missing_or_cut_off(tiny_folder: Path) -> None:
    file = tiny_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ModelError, match="tiny-llama"):
        load(tiny_folder)
    file.unlink()
    with pytest.raises(ModelError, match="tiny-llama"):
        load(tiny_folder)


def test_pickles_are_not_read(tiny_folder: Path) -> None:
    network = load(tiny_folder).network
    (tiny_folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), tiny_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="tiny-llama"):
        load(tiny_folder)


def test_a_plain_peft_folder(tiny_folder: Path, tmp_path: Path) -> None:
    base = load(tiny_folder)
    adapted = LoRA(rank=2).attach(base.network)
    save_adapter(adapted, tmp_path / "plain", str(tiny_folder))
    model = load(tmp_path / "plain")
    ids = torch.arange(3, 20)[None]
    torch.testing.assert_close(model.network(input_ids=ids).logits, adapted(input_ids=ids).logits)
    assert load(tmp_path / "plain", base=base).network is not base.network
    save_adapter(adapted, tmp_path / "nameless", "")
    with pytest.raises(ModelError, match=r"does not say which base it belongs to: load\(folder, base"):
        load(tmp_path / "nameless")
    (tmp_path / "plain" / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="plain"):
        load(tmp_path / "plain")


def test_quantized_and_saved_it_is_loaded_quantized(tiny_folder: Path, tmp_path: Path) -> None:
    base = load(tiny_folder, quantization=Quantization())
    tuned = fit(base, max_steps=2)
    tuned.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.quantization == Quantization()
    assert again.score(["x"], [["blue"]]) == tuned.score(["x"], [["blue"]])
    assert load(tmp_path / "saved", quantization=Quantization(bits=8)).quantization == Quantization(bits=8)
    assert load(tmp_path / "saved", base=load(tiny_folder)).quantization is None


def test_a_name_that_is_nothing_here() -> None:
    with pytest.raises(
        ModelError, match=r"'org/model' is no folder here, .*Offline you can load\(\) the embedded model"
    ):
        load("org/model")
    with pytest.raises(ModelError, match="is no folder here and no hub id"):
        load("./no/such/folder")


SCRIPT = """
import json, os, sys, time, condition
from transformers import LlamaForCausalLM
condition.load
for line in sys.stdin:
    name, revision = json.loads(line)
    if os.fork():
        if os.wait()[1]:
            print(json.dumps(["it broke", 0.0]), flush=True)
        continue
    began = time.perf_counter()
    try:
        said = repr(condition.load(name, revision=revision).source)
    except condition.ConditionError as error:
        said = f"{type(error).__name__}: {error}"
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    print(json.dumps([said, time.perf_counter() - began]), flush=True)
    os._exit(0)
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for models that can't be had, and has what was pushed."""

    pushed: ClassVar[dict[str, Path]] = {}
    """Names, and the folders that they hold."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        for name, folder in self.pushed.items():
            if name in self.path:
                self._file(name, folder)
                return
        status, code = 404, "RepoNotFound"
        body: Any = {}
        if "gated" in self.path:
            status, code = 403, "GatedRepo"
        if "private" in self.path:
            status, code = 401, ""
        if "refusing" in self.path:
            status, code = 418, ""
        if "dated" in self.path and "revision/old" in self.path:
            code = "RevisionNotFound"
        if self.path == "/api/models/org/gated-files":
            status, code, body = 200, "", {"id": "org/gated-files", "sha": "a" * 40}
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        content = json.dumps(body).encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _file(self, name: str, folder: Path) -> None:
        """The repository's list of files, or one of them."""
        commit, status = "c" * 40, 200
        files = list(folder.iterdir())
        answer: Any = {"id": name, "sha": commit, "siblings": [{"rfilename": path.name} for path in files]}
        if "/tree/" in self.path:
            answer = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name} for p in files]
        content = json.dumps(answer).encode()
        if "/resolve/" in self.path:
            path = folder / self.path.rpartition("/")[2]
            status, content = (200, path.read_bytes()) if path in files else (404, b"")
        self.send_response(status)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hash(content)}"', "Content-Length": str(len(content))}
        for header, value in (({"X-Error-Code": "EntryNotFound"} if status == 404 else {}) | headers).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class Network:
    """The hub on loopback, and a process that believes in it: whatever it loads, it loads in a fork of its own.

    One start for all, as importing takes seconds; nothing that a load remembers is there for the next.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server: ThreadingHTTPServer | None = None
        self.port = 0
        self.up()
        environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**environment, "HF_ENDPOINT": f"http://127.0.0.1:{self.port}", "HF_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def up(self) -> None:
        if self.server is None:
            self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Hub)
            self.port = self.server.server_port
            threading.Thread(target=self.server.serve_forever, args=(0.05,)).start()

    def down(self) -> None:
        """From now on nobody listens there."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def load(self, name: str, revision: str | None = None) -> str:
        """What `load` says."""
        return self.timed(name, revision)[0]

    def timed(self, name: str, revision: str | None = None) -> tuple[str, float]:
        """What `load` says, and after how many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, revision]) + "\n")
        self.process.stdin.flush()
        said, seconds = json.loads(self.process.stdout.readline())
        return said, seconds

    def close(self) -> None:
        self.down()
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def _network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if not hasattr(os, "fork"):
        pytest.skip("it forks, so that each load does not take a start")
    network = Network(tmp_path_factory.mktemp("home"))
    yield network
    network.close()


@pytest.fixture
def network(_network: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(Hub, "pushed", {})
    _network.up()
    return _network


def test_what_the_hub_answers(network: Network) -> None:
    names = ("gated", "gated-files", "missing", "private", "refusing")
    said = {f"org/{name}": network.load(f"org/{name}") for name in names}
    said |= {"org/dated": network.load("org/dated", "old"), "a b/c": network.load("a b/c")}
    for name in ("org/gated", "org/gated-files"):
        assert (
            f"'{name}' is gated: accept its terms on huggingface.co/{name}, then log in with `hf auth login`"
            in said[name]
        )
    for name in ("org/missing", "org/private"):
        assert f"no model '{name}' on the hub, or it is private" in said[name]
    assert "'org/dated' has no revision 'old'" in said["org/dated"]
    assert "the hub refused 'org/refusing'" in said["org/refusing"]
    assert "is no folder here and no hub id" in said["a b/c"]
    assert all(words.startswith("ModelError: ") for words in said.values()), said


def test_what_was_pushed_is_loaded_with_its_contract(tiny_folder: Path, tmp_path: Path, network: Network) -> None:
    fit(load(tiny_folder), max_steps=1).save_pretrained(tmp_path / "pushed")
    Hub.pushed["org/tuned"] = tmp_path / "pushed"
    source = repr(load(tmp_path / "pushed").source)
    assert network.load("org/tuned") == source
    # Once it is in the cache no network is needed, and the contract is still checked.
    network.down()
    assert network.load("org/tuned") == source
    (held,) = network.home.rglob("models--org--tuned/snapshots/*/chat_template.jinja")
    text = held.read_text()
    held.unlink()
    held.write_text(text + " ")
    assert "the chat template was edited" in network.load("org/tuned")


def test_a_base_that_was_loaded_once_needs_no_network(tiny_folder: Path, network: Network) -> None:
    Hub.pushed["org/base"] = tiny_folder
    expected = f"Source(kind='hub', name='org/base', revision='{'c' * 40}', fingerprint='"
    assert expected in network.load("org/base")
    network.down()
    assert expected in network.load("org/base")


def test_without_a_network_it_says_so_in_seconds(network: Network) -> None:
    network.down()
    said, seconds = network.timed("org/model")
    assert "the hub can't be reached" in said
    assert "Offline you can load() the embedded model, a folder, or a .gguf file" in said
    assert seconds < 15


def test_the_hubs_cache_needs_no_network(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "b" * 40
    place = tmp_path / "hub" / "models--org--tiny"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots").mkdir()
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    assert hub.cached("org/tiny", None) is None
    tiny_folder.rename(place / "snapshots" / commit)
    model = load("org/tiny")
    assert (model.source.kind, model.source.name, model.source.revision) == ("hub", "org/tiny", commit)
    assert model.source.fingerprint
    tuned = fit(model, max_steps=1)
    tuned.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").source == model.source
    assert json.loads((tmp_path / "saved" / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/tiny"


def test_every_error_is_ours(tmp_path: Path) -> None:
    for name in (" ", "\n", "\0", "~nobody-at-all/x", "org/../etc", "x" * 300, "ünïcode/模型"):
        with pytest.raises(ConditionError):
            load(name)
    with pytest.raises(ConditionError):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", r"load\(''\) names no model: give a hub id, a folder or a \.gguf file, or nothing"),
        (5, r"load takes a hub id, a folder or a \.gguf file, not 5"),
        (["a", "b"], r"not \['a', 'b'\]"),
    ],
)
def test_what_is_no_name(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, name: Any, said: str) -> None:
    monkeypatch.chdir(tiny_folder)  # an empty name must not read the folder that one is in
    with pytest.raises(ModelError, match=said):
        load(name)


def test_a_loaded_model_is_loaded(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="is loaded already"):
        load(load(tiny_folder))  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("given", "call"),
    [
        ("nf4", "kind='nf4'"),
        ("fp4", "kind='fp4'"),
        (8, "bits=8"),
        ("int8", "kind='int8'"),
        ({"bits": 4}, "bits=4"),
        (True, "kind='nf4'"),
    ],
)
def test_quantization_of_another_type(tiny_folder: Path, given: Any, call: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tiny_folder, quantization=given)
    assert str(caught.value).endswith(f"is no Quantization: give cd.Quantization({call})")


def test_a_file_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.csv").write_text("a,b")
    monkeypatch.chdir(tmp_path)
    for name in ("own.csv", tmp_path / "own.csv"):
        with pytest.raises(ModelError, match=r"own\.csv is a file, not a model: give a folder, a hub id or a \.gguf"):
            load(name)


def test_a_mistyped_folder_is_told_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "qa-lora").mkdir(parents=True)
    (tmp_path / "runs" / "base.gguf").write_text("x")
    (tmp_path / "runs" / "qa-log").write_text("a file, which is no model")
    monkeypatch.chdir(tmp_path)
    for name, near in (("runs/qa-lor", "runs/qa-lora"), (tmp_path / "runs" / "qa-lor", tmp_path / "runs" / "qa-lora")):
        with pytest.raises(ModelError) as caught:
            load(name)
        assert f"is no folder here (did you mean {str(near)!r}?)" in str(caught.value)
    with pytest.raises(ModelError, match=r"no such file \(did you mean 'runs/base\.gguf'\?\)"):
        load("runs/bse.gguf")
    monkeypatch.chdir(tmp_path / "runs")
    with pytest.raises(ModelError, match=r"'qa-lor' is no folder here \(did you mean 'qa-lora'\?\), not in the hub"):
        load("qa-lor")
    with pytest.raises(ModelError, match="'unlike' is no folder here, not in the hub"):
        load("unlike")


def test_a_training_folder(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(load(tiny_folder), max_steps=2, save_every=1, output=str(tmp_path / "run"))
    for name in ("", "checkpoint-1", "finished"):
        with pytest.raises(ModelError, match=r"is a training folder: call the same fit again, .* then save_pretrained"):
            load(tmp_path / "run" / name)
    monkeypatch.chdir(tmp_path / "run" / "finished")
    with pytest.raises(ModelError, match="is a training folder"):
        load(".")


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_folder_without_a_tokenizer(tiny: Any, tiny_folder: Path, tmp_path: Path, kept: tuple[str, ...]) -> None:
    for family in ("llama", "gpt2", "qwen2"):  # of the last two transformers makes a tokenizer without words
        folder = tmp_path / family
        tiny(family).save_pretrained(folder)
        for name in kept:
            (folder / name).write_bytes((tiny_folder / name).read_bytes())
        with pytest.raises(ModelError) as caught:
            load(folder)
        said = str(caught.value)
        assert said == f"{folder} holds no tokenizer files (tokenizer.json …): copy them beside the weights"


def test_options_that_say_nothing_here_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"base= goes with the folder of a tuned model"):
        load(tiny_folder, base=tmp_path)
    with pytest.raises(SettingsError, match=r"revision='v9' is of a hub model"):
        load(tiny_folder, revision="v9")


def test_an_adapter_without_a_contract_says_so(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(load(tiny_folder), max_steps=1).save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "condition.json").unlink()
    assert load(tmp_path / "saved").prompt is None
    assert "has no contract (condition.json): base, template and numbers were not checked" in caplog.text
