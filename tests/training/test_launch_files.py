"""The launch files under examples/accelerate, as accelerate itself reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin, patch_environment
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from tests.conftest import ROOT, Tiny

FOLDER = ROOT / "examples" / "accelerate"
FILES = {"gpus": (8, 1), "two_machines": (16, 2), "deepspeed": (8, 1), "fsdp2": (8, 1)}
"""By name: processes and machines."""


def launched(name: str, *more: str) -> Any:
    """What `accelerate launch` makes of a file."""
    given = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), *more, "train.py"])
    return _validate_launch_command(given)[0]


def test_every_file_is_looked_at() -> None:
    assert {path.stem for path in FOLDER.glob("*")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_accelerate_reads_it(name: str) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.num_processes, config.num_machines) == FILES[name]
    args = launched(name)
    assert (args.num_processes, args.num_machines) == FILES[name]
    assert args.mixed_precision == "no"  # else accelerate would compute in another type than the contract says
    assert not args.use_cpu


def test_machines_find_each_other() -> None:
    for rank in (0, 1):
        args = launched("two_machines", "--machine_rank", str(rank))
        prepare_multi_gpu_env(args)
        assert (args.nproc_per_node, args.nnodes, int(args.node_rank)) == ("8", "2", rank)
        assert args.rdzv_endpoint == "10.0.0.1:29500"


def test_fsdp_is_of_the_second_version_and_knows_the_blocks(tiny: Tiny) -> None:
    with patch_environment(**prepare_multi_gpu_env(launched("fsdp2"))):
        plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert "FULL" in str(plugin.state_dict_type)
    network = tiny("llama")
    plugin.set_auto_wrap_policy(network)
    assert plugin.transformer_cls_names_to_wrap == [type(network.model.layers[0]).__name__]


def test_deepspeed_keeps_what_is_trained_whole() -> None:
    args = launched("deepspeed")
    args.deepspeed_fields_from_accelerate_config = ""  # `accelerate launch` lists those of the file, for its warnings
    _, env = prepare_deepspeed_cmd_env(args)
    with patch_environment(**{name: value for name, value in env.items() if name.startswith("ACCELERATE")}):
        plugin = DeepSpeedPlugin()
    told = plugin.hf_ds_config.config
    assert told["zero_optimization"]["stage"] == plugin.zero_stage == 2
    assert told["zero_optimization"]["offload_optimizer"]["device"] == "none"
    assert told["gradient_accumulation_steps"] == "auto"
    assert Path(ROOT / "docs" / "several-processes.md").read_text().count("examples/accelerate/") >= len(FILES)
