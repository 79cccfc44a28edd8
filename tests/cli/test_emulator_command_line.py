"""`emulator` and `emulator exec`, as processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
import requests

from arkor_sync import Callbacks, create_trainer
from arkor_sync.cli.commands.emulator import emulator as command
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.emulator.serving import engine_names
from support.command_line import REPOSITORY, CommandLine
from support.waiting import PATIENCE, until

KINDS = (".md", ".py", ".txt", ".ipynb")
PRINT = "import os; print(os.environ['ARKOR_CLOUD_API_URL'], os.environ['ARKOR_TOKEN'])"
TRAIN = """
from arkor_sync import Callbacks, HuggingFaceDataset, create_trainer
trainer = create_trainer(
    name="n",
    model="unsloth/gemma-4-E4B-it",
    dataset=HuggingFaceDataset("emulator/sample"),
    callbacks=Callbacks(on_log=lambda ctx: print(ctx.loss), on_failed=lambda ctx: print(ctx.error)),
)
print(trainer.wait().status)
"""


def execute(user: CommandLine, *arguments: str, code: int = 0, **extra: str) -> Any:
    return user("emulator", "exec", *arguments, code=code, **extra)


def test_a_terminal_that_is_closed_ends_it_and_leaves_no_files(
    nobody: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    process = nobody.start("emulator", TMPDIR=str(folder))
    assert process.stdout is not None
    process.stdout.read()
    assert list(folder.iterdir())
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 129
    assert not list(folder.iterdir())


def test_nohup_keeps_it_alive(nobody: CommandLine) -> None:
    ignores = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    run = "os.execv(sys.executable, [sys.executable, '-m', 'arkor_sync', 'emulator'])"
    process = replace(nobody, program=(sys.executable, "-c", ignores + run)).start()
    assert process.stdout is not None
    url = shlex.split(process.stdout.read().splitlines()[0])[1].split("=", 1)[1]
    process.send_signal(signal.SIGHUP)
    assert requests.get(f"{url}/_emulator/health", timeout=PATIENCE).ok
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("as_json", [False, True], ids=["shell", "json"])
def test_it_serves_until_a_signal_comes(
    nobody: CommandLine, number: signal.Signals, as_json: bool
) -> None:
    process = nobody.start("emulator", *(["--json"] if as_json else []))
    assert process.stdout is not None
    text = process.stdout.read()  # its output ends, while it runs on
    if as_json:
        found: Dict[str, str] = json.loads(text)
    else:
        found = dict(shlex.split(line)[1].split("=", 1) for line in text.splitlines())
    url = found["ARKOR_CLOUD_API_URL"]
    assert requests.get(f"{url}/_emulator/health", timeout=PATIENCE).ok
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    said = f"a local Arkor is at {url} (process {process.pid}); Ctrl-C or SIGTERM stops it\n"
    assert stderr == said


def test_ctrl_c_in_a_terminal_stops_it_also_after_a_resize(terminal: Any) -> None:
    shown = terminal("emulator", columns=120)
    shown.until("SIGTERM stops it")
    shown.resize(40)
    shown.press("ctrl-c")
    assert shown.wait() == 0
    assert "Traceback" not in shown.text


def test_a_program_finds_the_emulator_and_its_exit_code_is_passed_on(nobody: CommandLine) -> None:
    ended = execute(nobody, "--", sys.executable, "-c", f"{PRINT}; raise SystemExit(7)", code=7)
    url, token = ended.stdout.split()
    assert token == "emulator-token"
    assert ended.stderr == ""
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=PATIENCE)


def test_a_program_is_run_without_dashes_and_gets_its_options(nobody: CommandLine) -> None:
    assert execute(nobody, "printf", "%s-", "--debug", "-x").stdout == "--debug--x-"


def test_a_signal_that_ended_the_program_is_in_the_code(nobody: CommandLine) -> None:
    execute(nobody, "--", "sh", "-c", "kill -KILL $$", code=137)


def test_a_program_that_there_is_not(nobody: CommandLine, tmp_path: Path) -> None:
    ended = execute(nobody, "--", "no-such\x1b[2Jprogram", code=127)
    assert ended.stderr == "arkor-sync: no-suchprogram: command not found\n"
    ended = execute(nobody, "--", str(tmp_path), code=126)
    assert ended.stderr == f"arkor-sync: {tmp_path}: cannot be run: Permission denied\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_and_the_program_is_waited_for(
    nobody: CommandLine, number: signal.Signals
) -> None:
    program = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.01)"
    )
    process = nobody.start("emulator", "exec", "--", sys.executable, "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (9, "")


def test_ctrl_c_reaches_the_program_once(nobody: CommandLine, terminal: Any) -> None:
    program = (
        "import os, signal, time\n"
        "count = 0\n"
        "def handle(*_):\n"
        "    global count; count += 1; os.write(1, b'pressed')\n"
        "signal.signal(signal.SIGINT, handle)\n"
        "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'presses %d' % count) and exit(5))\n"
        "os.write(1, b'ready')\n"
        "while True: time.sleep(0.01)"  # a signal just before `pause` is seen at the next one
    )
    shown = terminal("emulator", "exec", "--", sys.executable, "-c", program, user=nobody)
    shown.until("ready")
    shown.press("ctrl-c")
    shown.until("pressed")
    shown.send_signal(signal.SIGTERM)
    assert shown.wait() == 5
    assert "presses 1" in shown.text


def test_the_options_stand_before_or_after_exec(nobody: CommandLine, tmp_path: Path) -> None:
    with Emulator() as other:
        port = str(other.port)
    script = ("--", sys.executable, "-c", PRINT)
    first = nobody("emulator", "--port", port, "exec", *script)
    second = execute(nobody, "--port", port, *script)
    assert first.stdout == second.stdout == f"http://127.0.0.1:{port} emulator-token\n"


def test_faults_of_a_file_act_and_an_engine_is_chosen(nobody: CommandLine, tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text('{"faults": [{"kind": "status", "route": "me", "status": 503}]}')
    arguments = ("--faults", str(faults), "--", *nobody.program, "doctor", "--json")
    report = execute(nobody, *arguments, code=6).json
    assert "503" in next(each["problem"] for each in report["checks"] if not each["ok"])
    ended = execute(nobody, "--engine", "fails_at", "--", sys.executable, "-c", TRAIN)
    assert ended.stdout.endswith("\nCUDA out of memory\nfailed\n")


def test_a_recording_is_played_again(nobody: CommandLine, tmp_path: Path) -> None:
    recording = tmp_path / "run.jsonl"
    losses = [3.0, 2.5, 9.0]
    engine = ScriptedEngine(steps=3, loss=losses, fails_at=3, error="out of memory")
    with Emulator(engine) as emulator:
        client = emulator.client()
        trainer = create_trainer(
            name="n",
            model="unsloth/gemma-4-E4B-it",
            dataset={"type": "huggingface", "name": "emulator/sample"},
            client=client,
            callbacks=Callbacks(),
        )
        assert trainer.wait(PATIENCE).status == "failed"
        emulator.save_recording(trainer.start().id, recording)
    ended = execute(nobody, "--replay", str(recording), "--", sys.executable, "-c", TRAIN)
    assert ended.stdout == "3.0\n2.5\nout of memory\nfailed\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "65536"), "port must be a number from 0 to 65535, not 65536"),
        (
            ("--engine", "nope"),
            "unknown engine or scenario 'nope'; there are: ngram, lora, completes",
        ),
        (("--speed", "-1"), "speed must be a finite number, 0 or more, not -1.0"),
        (("--faults", "missing.json"), "missing.json"),
        (("--faults", "list.json"), "list.json: the top level must be an object"),
        (("--faults", "kind.json"), "kind.json: "),
        (("--faults", "bad.json"), "bad.json: "),
        (("--file", "kind.json"), "kind.json: "),
        (("--replay", "list.json"), "list.json: line 1 is not a recorded event"),
        (("--replay", "empty.json"), "empty.json: there is no event in it"),
        (("--replay", "missing.json"), "missing.json"),
        (("--replay", "list.json", "--engine", "ngram"), "give one of the two"),
        (("--model", "m"), "--model is for the engine lora: give --engine lora"),
        (
            ("--engine", "ngram", "--device", "cpu"),
            "--device is for the engine lora: give --engine",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(
    nobody: CommandLine, arguments: Tuple[str, ...], says: str
) -> None:
    (nobody.cwd / "list.json").write_text("[]")
    (nobody.cwd / "kind.json").write_text('{"faults": [{"kind": "nope"}]}')
    (nobody.cwd / "bad.json").write_text("{")
    (nobody.cwd / "empty.json").write_text("")
    before = sorted(os.listdir(nobody.cwd))
    ended = execute(nobody, *arguments, "--", "touch", "it-ran", code=2)
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert (ended.stdout, sorted(os.listdir(nobody.cwd))) == ("", before)


def test_without_its_libraries_the_engine_lora_is_refused_in_a_line(nobody: CommandLine) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from arkor_sync.cli import main; sys.exit(main())"
    )
    without = replace(nobody, program=(sys.executable, "-c", code))
    ended = execute(without, "--engine", "lora", "--", "touch", "it-ran", code=2)
    assert "LoraEngine needs " in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert list(nobody.cwd.iterdir()) == []


def test_a_port_in_use_is_refused_in_a_line(nobody: CommandLine) -> None:
    with Emulator() as other:
        ended = nobody("emulator", "--port", str(other.port), code=2)
    assert "in use; give another port, or 0 for a free one" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_example_of_its_help_waits_for_the_variables(nobody: CommandLine) -> None:
    (line,) = [each for each in command.examples.splitlines() if "eval" in each]
    started = line.replace("arkor-sync", shlex.join(nobody.program)).replace("8976", "0")
    said = nobody.cwd / "said"
    with said.open("w") as file:
        done = subprocess.run(
            ["sh", "-ec", f'{started}\nprintf %s "$ARKOR_CLOUD_API_URL"'],
            env=nobody.environment({}),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            timeout=PATIENCE,
        )
    found = until(lambda: re.search(r"\(process (\d+)\)", said.read_text()))
    try:
        assert requests.get(f"{done.stdout}/_emulator/health", timeout=PATIENCE).ok
    finally:
        os.kill(int(found[1]), signal.SIGTERM)


def test_nothing_that_is_shown_reads_a_file_while_it_is_written() -> None:
    files = [REPOSITORY / "README.md"]
    for folder in ("arkor_sync", "examples"):
        files += [each for each in (REPOSITORY / folder).rglob("*.*") if each.suffix in KINDS]
    race = re.compile(r"emulator.*[^>]>\s*[\w./]+\s*&(?!&)")
    shown = [each for each in files if race.search(each.read_text("utf-8", "replace"))]
    assert not shown


def test_help_names_every_engine() -> None:
    text = next(each.help for each in command.params if each.name == "engine")
    assert all(name in text for name in engine_names())


def test_the_program_inherits_what_is_ignored(nobody: CommandLine) -> None:
    program = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    done = subprocess.run(
        [
            *("sh", "-c", "trap '' INT; exec \"$@\"", "sh", *nobody.program),
            *("emulator", "exec", "--", sys.executable, "-c", program),
        ],
        env=nobody.environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "True\n"
