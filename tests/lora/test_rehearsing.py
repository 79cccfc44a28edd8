"""`Trainer.rehearse` and `arkor-sync start --rehearse` with a tiny model."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from arkor_sync import Callbacks, DatasetSplit, LoraConfig, create_trainer
from support.command_line import CommandLine
from support.extras import need
from support.projects import write_project
from support.tiny_model import make_tiny_model
from support.waiting import PATIENCE, until

ANSWER = "Yes, we will send another one."


def records(count: int = 24, answer: str = ANSWER) -> List[Dict[str, Any]]:
    asked = "The invoice is wrong, and the customer asks for help."
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return [{"messages": messages}] * count


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_the_jobs_own_configuration_is_trained_here_and_nothing_is_called_or_sent(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://127.0.0.1:9")
    called: List[Any] = []
    trainer = create_trainer(
        name="bot",
        model="unsloth/gemma-4-E4B-it",
        dataset=records(),
        lora=LoraConfig(r=4, alpha=8, load_in_4bit=True),
        max_steps=5000,
        learning_rate=1e-2,
        warmup_steps=2,
        optim="adamw_8bit",
        dataset_split=DatasetSplit(test_size=0.25),
        eval_steps=500,
        save_steps=500,
        train_on_responses_only=True,
        gpu_types=["h100"],
        callbacks=Callbacks(on_started=called.append, on_log=called.append, on_end=called.append),
    )
    found = trainer.rehearse(8, model=tiny)
    assert (found.ok, found.error, found.warnings) == (True, None, ())
    assert (found.model, found.license, found.steps, found.records) == ("tiny", "unknown", 8, 24)
    assert found.first_loss is not None
    assert found.last_loss is not None
    assert found.eval_loss is not None
    assert found.last_loss < found.first_loss
    assert found.first_record_learnt == f"{ANSWER}<|im_end|>\n"
    assert (
        found.notes[0] == "not tried here: loadIn4bit True, gpuTypes ['h100'], optim 'adamw_8bit'"
    )
    assert str(found).startswith("the rehearsal is good\ntrained: tiny (licence: unknown), 8 steps")
    assert called == []


def test_the_command_says_what_would_fail_and_its_exit_code_does_too(
    tiny: Path, tmp_path: Path
) -> None:
    need("click")
    (tmp_path / "home").mkdir()
    user = CommandLine(tmp_path / "home", tmp_path)
    data = tmp_path / "data.jsonl"
    lines = [*records(3), *records(1, answer="no " * 3000)]
    data.write_text("".join(json.dumps(record) + "\n" for record in lines))
    write_project(
        tmp_path,
        'print("hello")\ntrainer = create_trainer(**{**settings, "dataset": "data.jsonl"})\n',
    )
    ended = user("start", "--rehearse", "--local-model", str(tiny), code=1)
    assert ended.stdout.startswith("hello\nthe rehearsal FAILED: the data set's line 4 has ")
    assert "shorten the record, or raise max_length" in ended.stdout
    assert ended.stderr == "arkor-sync: bot is rehearsed here; nothing is submitted\n"
    data.write_text("".join(json.dumps(record) + "\n" for record in lines[:3]))
    ended = user("start", "--rehearse", "--local-model", str(tiny), "--json")
    assert (ended.json["ok"], ended.json["model"], ended.json["steps"]) == (True, "tiny", 1)
    assert not list((tmp_path / "home").rglob("*.json"))


def children_of(pid: int) -> List[str]:
    """List the child processes of a process, whichever thread started them."""
    lists = Path("/proc", str(pid)).glob("task/*/children")
    return [child for each in lists for child in each.read_text().split()]


def test_ctrl_c_ends_it_and_leaves_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    program = (
        "import signal, sys\n"
        "from arkor_sync import create_trainer\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        'source = {"type": "huggingface", "name": "emulator/sample"}\n'
        'settings = {"name": "n", "model": "unsloth/gemma-4-E4B-it", "num_train_epochs": 1e6}\n'
        "trainer = create_trainer(**settings, dataset=source)\n"
        "trainer.rehearse(10**6, model=sys.argv[1])\n"
    )
    process = CommandLine(tmp_path, tmp_path, program=(sys.executable, "-c", program)).start(
        str(tiny), TMPDIR=str(folder)
    )
    try:
        until(lambda: list(folder.glob("arkor-emulator-*/*")), 2 * PATIENCE)
        (child,) = until(lambda: children_of(process.pid))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGINT
    assert list(folder.iterdir()) == []
    assert not Path("/proc", child).exists()


def test_the_local_arkor_of_the_command_line_trains_a_real_model(
    tiny: Path, tmp_path: Path
) -> None:
    need("click")
    (tmp_path / "home").mkdir()
    user = CommandLine(tmp_path / "home", tmp_path)
    write_project(tmp_path, "trainer = create_trainer(**settings, max_steps=2)\n")
    options = ("--engine", "lora", "--model", str(tiny), "--device", "cpu")
    start = [*user.program, "start", "--json"]
    ended = user("emulator", "exec", *options, "--", *start)
    events = [json.loads(line["data"]) for line in ended.json_lines]
    assert events[0]["metadata"]["engine"] == "lora"
    assert events[0]["metadata"]["model"] == "tiny"
    assert events[-1]["type"] == "training.completed"
