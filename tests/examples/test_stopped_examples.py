"""Examples that are stopped while their job runs: they say how to attach to it again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.example_runs import EXAMPLES
from support.waiting import PATIENCE, until


@pytest.mark.parametrize(
    ("example", "number", "status"),
    [
        (["quickstart.py", "--cloud"], signal.SIGINT, 130),
        (["nightly.py", "--cloud"], signal.SIGINT, 130),
        (["nightly.py", "--cloud"], signal.SIGTERM, 143),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else None,
)
def test_it_names_the_job_that_goes_on(
    tmp_path: Path, example: List[str], number: signal.Signals, status: int
) -> None:
    script = shutil.copy(EXAMPLES / example[0], tmp_path)  # nightly.py locks itself
    path = os.pathsep.join(sys.path)
    with Emulator(ScriptedEngine(steps=5, manual=True)) as emulator:
        with subprocess.Popen(
            [sys.executable, "-W", "error", script, *example[1:]],
            cwd=tmp_path,
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "PYTHONPATH": path,
                "ARKOR_CLOUD_API_URL": emulator.url,  # where it signs in without an account
            },
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            until(lambda: emulator.open_streams or running.poll() is not None)
            running.send_signal(number)
            said = running.communicate(timeout=PATIENCE)[1]
        (job_id,) = emulator.jobs
    assert running.returncode == status, said
    sentence = f"job {job_id} goes on; follow({job_id!r}) attaches to it again"
    assert re.findall("WARNING +arkor_sync.run: (.*again)", said) == [sentence], said
    assert "Traceback" not in said
