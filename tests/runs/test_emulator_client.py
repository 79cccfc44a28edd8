"""The two ways to a signed-in client: `Emulator.client`, and the environment."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Iterator, List

import pytest
import requests

import arkor_sync.emulator
from arkor_sync import ArkorConnectionError, CloudApiClient, TokenCredentials, create_trainer
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.servers import CERTIFICATE, KEY, server_context
from support.waiting import PATIENCE

SAMPLE = {"type": "huggingface", "name": "emulator/sample"}


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=1)) as emulator:
        yield emulator
        assert emulator.errors == []


def status_of(client: Any) -> str:
    trainer = create_trainer(
        name="run", model="unsloth/gemma-4-E4B-it", dataset=SAMPLE, max_steps=2, client=client
    )
    return trainer.wait(PATIENCE).status


def test_the_client_is_signed_in_and_has_the_project(emu: Emulator) -> None:
    client = emu.client()
    assert client.me().orgs[0].slug == emu.org_slug
    assert status_of(client) == "completed"
    assert {r.query["projectSlug"] for r in emu.requests if r.route == "create_job"} == {
        emu.project_slug
    }
    assert pickle.loads(pickle.dumps(client)).jobs.list() == client.jobs.list()


def test_the_options_override_what_the_emulator_gives(emu: Emulator) -> None:
    emu.add_token("another")
    emu.client(credentials=TokenCredentials("another"), client_header="arkor/9.9.9").jobs.list()
    emu.client().jobs.list()
    first, second = emu.requests
    assert first.token_digest != second.token_digest
    assert first.headers["X-Arkor-Client"] == "arkor/9.9.9"
    with pytest.raises(TypeError, match="nope"):
        emu.client(nope=1)


def test_there_is_no_client_of_an_emulator_that_does_not_run() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        Emulator().client()


def test_the_client_trusts_the_certificate_that_the_emulator_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    with Emulator(ScriptedEngine(steps=1), tls=(CERTIFICATE, KEY)) as emulator:
        assert status_of(emulator.client()) == "completed"
        with pytest.raises(ArkorConnectionError, match="certificate"):
            emulator.client(session=requests.Session()).me()


def test_with_a_context_the_certificate_has_to_be_given() -> None:
    with Emulator(tls=server_context()) as emulator:
        with pytest.raises(ValueError, match=r"give session=.* whose verify is the file"):
            emulator.client()
        session = requests.Session()
        session.verify = CERTIFICATE
        assert emulator.client(session=session).jobs.list() == []


def test_a_proxy_of_the_environment_is_not_asked(
    emu: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert status_of(emu.client()) == "completed"


def test_the_environment_is_enough_for_a_program_and_no_file_is_written(
    emu: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in emu.environment().items():
        monkeypatch.setenv(name, value)
    assert status_of(CloudApiClient()) == "completed"
    assert status_of(None) == "completed"
    assert list(tmp_path.iterdir()) == []
    assert list(Path.home().iterdir()) == []


TYPO = """
from arkor_sync import Callbacks, HuggingFaceDataset, create_trainer
from arkor_sync.emulator import Emulator

with Emulator() as emulator:
    create_trainer(
        name="run",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("arkorlab/triage-dmeo"),
        max_steps=2,
        client=emulator.client(),
        callbacks=Callbacks(on_started=lambda ctx: print(ctx.event.data["metadata"]["note"])),
    ).wait()
"""


def test_whoever_asks_for_a_data_set_of_the_hub_reads_once_what_is_trained_on(
    tmp_path: Path,
) -> None:
    done = in_a_process(TYPO, tmp_path)
    (note,) = done.stdout.splitlines()
    (warning,) = done.stderr.splitlines()
    assert "does not download 'arkorlab/triage-dmeo'" in note
    assert warning == f"job 'run': {note}"


def in_a_process(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=True,
    )


def snippets(text: str) -> List[str]:
    """Return the Python code in a docstring: its indented blocks."""
    blocks = re.findall(r"(?:^ {4}.*\n|^\n)+", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if block.strip()]


@pytest.mark.parametrize(
    "code", snippets(inspect.getdoc(arkor_sync.emulator) or ""), ids=["client", "environment"]
)
def test_the_code_in_the_packages_docstring_runs(code: str, tmp_path: Path) -> None:
    done = in_a_process(code, tmp_path)
    assert (done.stdout, done.stderr) in (("completed\n", ""), ("[]\n", ""))
