"""Scripts that a launcher starts in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import ROOT

# As `accelerate launch` does for GPUs; for the CPU it starts more than one process by MPI only.
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def run_launched(
    launch: Sequence[str], env: Mapping[str, str], folder: Path, text: str, arguments: Sequence[str]
) -> str:
    """Run a script's text by a launcher's arguments of Python, in one thread each; what it said where all went well."""
    script = folder / "script.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *launch, str(script), *arguments],
        cwd=ROOT,
        env={
            **env,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "CONDITION_CACHE": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    said = done.stdout[-3000:] + done.stderr[-6000:]
    assert done.returncode == 0, said
    return said
