"""Two processes on the CPU train what one trains, and write one folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env

from condition.adapters.attach import trainable
from condition.training.checkpoints import load_trainable
from condition.training.processes import is_first, number_of_processes, one_folder, together, warn_alone
from tests.conftest import TinyModel
from tests.training.launching import TWO, run_launched
from tests.training.test_fit import ROWS, fit
from tests.training.test_kto import THUMBS
from tests.training.test_kto import fit as kto
from tests.training.test_preference import PLAIN, alike, last

HELD = [{"q": f"When was {i}?", "target": "blue " * (1 + i)} for i in range(5)]
SCRIPT = """
import json, os, sys
from tests.conftest import _tiny, _tiny_tokenizer
from tests.training import test_fit as t
from tests.training import test_kto as k
from tests.training.test_processes import HELD
from condition.models.contract import Source, memory_fingerprint

network = _tiny("llama")
source = Source(kind="memory", name="tiny llama", fingerprint=memory_fingerprint(network))
base = t.LocalModel(network, _tiny_tokenizer(), source=source)
folder = sys.argv[1]
tuned = t.fit(base, held=HELD, batch_size=2, epochs=2, learning_rate=1e-3, eval_every=2, output=folder)
fleeting = t.fit(base, held=HELD, batch_size=2, max_steps=2, learning_rate=1e-3, eval_every=1)
thumbs = k.fit(base, k.THUMBS[:8], k.PLAIN | {"batch_size": 2, "max_steps": 3, "output": f"{folder}-thumbs"}, beta=0.5)
lines = [tuned.history.series("loss"), tuned.history.series("eval_loss"), fleeting.history.series("eval_loss")]
lines += [thumbs.history.series("loss"), thumbs.history.series("divergence")]
with open(f"{folder}-{os.environ['RANK']}.json", "w") as file:
    json.dump(lines, file)
"""


def test_two_processes_give_the_result_of_one(tiny_model: TinyModel, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run_launched(TWO, {**os.environ, "ACCELERATE_USE_CPU": "true"}, tmp_path, SCRIPT, [str(output)])
    base = tiny_model()
    options = {"held": HELD, "batch_size": 4, "learning_rate": 1e-3}
    one = fit(base, epochs=2, eval_every=2, **options)
    fleeting = fit(base, max_steps=2, eval_every=1, **options)
    two = fit(base, max_steps=1)
    load_trainable(two.network, output / "finished")
    for name, parameter in trainable(two.network).items():
        torch.testing.assert_close(parameter, trainable(one.network)[name], rtol=0, atol=1e-5, msg=name)
    # KTO compares with a divergence that is a mean over the step, whichever process has its rows.
    thumbs = kto(base, THUMBS[:8], PLAIN | {"batch_size": 4, "max_steps": 3}, beta=0.5)
    assert last(thumbs, "divergence") > 1e-3
    again = kto(base, THUMBS[:8], PLAIN | {"max_steps": 1})
    load_trainable(again.network, tmp_path / "run-thumbs" / "finished")
    alike(thumbs, again)
    expected = [one.history.series("loss"), one.history.series("eval_loss"), fleeting.history.series("eval_loss")]
    expected += [thumbs.history.series("loss"), thumbs.history.series("divergence")]
    for rank in (0, 1):
        found = json.loads((tmp_path / f"run-{rank}.json").read_text())
        for (steps, values), (own_steps, own_values) in zip(found, expected, strict=True):
            assert steps == own_steps
            assert values == pytest.approx(own_values, abs=1e-5)


def test_alone(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert (number_of_processes(), is_first()) == (1, True)
    together(cpu)
    with one_folder(None, cpu) as folder:
        assert Path(folder).is_dir()
    assert not Path(folder).exists()
    with one_folder(str(tmp_path / "mine"), cpu) as folder:
        assert folder == str(tmp_path / "mine")
    assert len(ROWS) == 12


def test_who_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (number_of_processes(), is_first()) == (2, False)


def test_several_were_asked_for_and_one_was_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What `accelerate launch --cpu --num_processes 2` leaves in the environment of the only process."""
    args = launch_command_parser().parse_args(["--cpu", "--num_processes", "2", "train.py"])
    args.num_machines, args.mixed_precision, args.dynamo_backend, args.num_cpu_threads_per_process = 1, "no", "no", 1
    for number, warned in ((1, False), (2, True)):
        args.num_processes = number
        _, environment = prepare_simple_launcher_cmd_env(args)
        with monkeypatch.context() as process:
            for name in environment.keys() - os.environ.keys():
                process.setenv(name, environment[name])
            caplog.clear()
            warn_alone()
            assert ("asked for several processes and started one" in caplog.text) == warned
            process.setenv("WORLD_SIZE", "2")
            caplog.clear()
            warn_alone()
            assert not caplog.text
    warn_alone()
    assert not caplog.text
