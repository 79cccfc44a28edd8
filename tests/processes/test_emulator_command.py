"""`python -m arkor_sync.emulator`, as processes use it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import requests

from arkor_sync import (
    Callbacks,
    CloudApiClient,
    CloudApiError,
    ProjectState,
    TokenCredentials,
    create_trainer,
)
from arkor_sync.emulator import SCENARIOS, Emulator
from arkor_sync.emulator.__main__ import main
from support.waiting import PATIENCE, until

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
COMMAND = [sys.executable, "-W", "error", "-m", "arkor_sync.emulator"]
TRAIN = """
import os
from arkor_sync import create_trainer
trainer = create_trainer(
    name="from another process",
    model="unsloth/gemma-4-E4B-it",
    dataset={"type": "huggingface", "name": "emulator/sample"},
    max_steps=2,
)
print(trainer.wait(60).status, os.listdir())
"""


@contextlib.contextmanager
def emulator(*arguments: str) -> Iterator[Tuple[Any, Dict[str, str]]]:
    """Run one; yield the process, and the variables that it printed."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            assert process.stdout is not None
            lines = process.stdout.read().splitlines()  # its output ends, while it runs on
            yield process, variables(lines)
        finally:
            process.kill()


def variables(lines: List[str]) -> Dict[str, str]:
    found = {}
    for line in lines:
        export, assignment = shlex.split(line)
        assert export == "export"
        name, _, value = assignment.partition("=")
        found[name] = value
    return found


def refused(*arguments: str) -> str:
    """Run one that cannot start; return what it says."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_another_process_trains_against_it_until_a_signal_comes(
    tmp_path: Path, number: signal.Signals
) -> None:
    with emulator() as (process, found):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", TRAIN],
            cwd=tmp_path,
            env={**ENVIRONMENT, **found},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("completed []\n", "")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        (line,) = process.stderr.read().splitlines()
    assert line.startswith(f"a local Arkor is at {found['ARKOR_CLOUD_API_URL']} (process ")
    assert f"(process {process.pid})" in line
    with pytest.raises(requests.ConnectionError):
        requests.get(found["ARKOR_CLOUD_API_URL"], timeout=PATIENCE)


@pytest.mark.slow
def test_a_shell_evaluates_what_it_prints_while_it_runs_on(tmp_path: Path) -> None:
    command = " ".join(map(shlex.quote, COMMAND))
    script = f'eval "$({command} 2>said &)"; printf %s "$ARKOR_CLOUD_API_URL $ARKOR_PROJECT"'
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        timeout=2 * PATIENCE,
        check=True,
    )
    said = until(lambda: re.search(r"\(process (\d+)\)", (tmp_path / "said").read_text()))
    url, project = done.stdout.split()
    try:
        assert project == "emulator-project"
        assert requests.get(f"{url}/_emulator/health", timeout=PATIENCE).ok
    finally:
        os.kill(int(said[1]), signal.SIGTERM)
    until(lambda: refuses(url))


def refuses(url: str) -> bool:
    try:
        requests.get(url, timeout=PATIENCE).close()
    except requests.ConnectionError:
        return True
    return False


def test_the_arguments_count_and_come_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "arkor.json"
    path.write_text('{"scenario": "burst", "faults": [{"kind": "status", "route": "me"}]}')
    with Emulator() as other:
        port = other.port
    arguments = ("--port", str(port), "--file", str(path), "--scenario", "slow", "--speed", "1000")
    steps: List[int] = []
    with emulator(*arguments) as (_, found):
        assert found["ARKOR_CLOUD_API_URL"] == f"http://127.0.0.1:{port}"
        client = CloudApiClient(
            found["ARKOR_CLOUD_API_URL"],
            TokenCredentials(found["ARKOR_TOKEN"]),
            scope=ProjectState(found["ARKOR_ORG"], found["ARKOR_PROJECT"]),
            retry="none",
        )
        with pytest.raises(CloudApiError) as caught:
            client.me()
        assert caught.value.status == 503
        trainer = create_trainer(
            name="run",
            model="unsloth/gemma-4-E4B-it",
            dataset={"type": "huggingface", "name": "a/b"},
            client=client,
            callbacks=Callbacks(on_log=lambda ctx: steps.append(ctx.step)),
        )
        assert trainer.wait(PATIENCE).status == "completed"
    assert steps == list(range(1, 61))


def test_a_port_that_is_taken_is_one_line() -> None:
    with Emulator() as other:
        (line,) = refused("--port", str(other.port)).splitlines()
        assert f": port {other.port} of 127.0.0.1: " in line
    assert line.endswith("in use; give another port, or 0 for a free one")


def test_an_unknown_scenario_is_one_line_with_those_that_there_are() -> None:
    (line,) = refused("--scenario", "diverge").splitlines()
    names = ", ".join(["ngram", "lora", *SCENARIOS])
    assert line.endswith(f"unknown engine or scenario 'diverge'; there are: {names}")


def test_a_state_directory_that_is_in_use_is_one_line(tmp_path: Path) -> None:
    with Emulator(state_dir=tmp_path):
        (line,) = refused("--state", str(tmp_path)).splitlines()
    assert line.endswith(
        f"another emulator uses the state directory {tmp_path}: stop it, or give another one"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "65536"), "port must be a number from 0 to 65535, not 65536"),
        (("--port", "http"), "argument --port: invalid int value: 'http'"),
        (("--speed", "-1"), "speed must be a finite number, 0 or more, not -1.0"),
        (("--file", "no-such-file.json"), "/no-such-file.json'"),
        (("--file", "list.json"), "list.json: the top level must be an object"),
        (("--file", "faults.json"), "faults.json: "),
        (("--host", "0.0.0.0"), "unrecognized arguments: --host 0.0.0.0"),
    ],
    ids=["range", "text", "speed", "missing", "list", "faults", "host"],
)
def test_what_cannot_work_is_said_without_a_traceback(
    arguments: Tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "faults.json").write_text('{"faults": 5}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # those of the tests stay
    try:
        code: object = main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert says in said.err
