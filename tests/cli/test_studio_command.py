"""`studio`, as a process: its URL, who may use it, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, Tuple

import pytest
import requests

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.command_line import CommandLine
from support.extras import need_extra
from support.projects import write_project
from support.waiting import PATIENCE, shortest, until

SAID = "Studio is served there; Ctrl-C or SIGTERM stops it\n"


@pytest.fixture(autouse=True)
def _extra() -> None:
    need_extra("studio")


@contextmanager
def served(user: CommandLine, *arguments: str, **extra: str) -> Iterator[Tuple[Any, str]]:
    """Start the command, and yield its process and its URL; kill what is left of it."""
    process = user.start("studio", "--port", "0", *arguments, **extra)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().rstrip("\n")
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def ended(process: Any, number: int = signal.SIGTERM) -> Tuple[int, str, str]:
    """Send a signal; return the exit code, and what was said meanwhile."""
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stdout, stderr


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=PATIENCE)


def test_the_url_opens_the_pages_and_nothing_else_does(cli: CommandLine) -> None:
    with served(cli) as (process, url):
        base, token = url.split("?token=")
        with requests.Session() as browser:
            opened = browser.get(url, timeout=PATIENCE)
            assert opened.status_code == 200
            assert opened.url == base  # the token has left the URL
            assert "<h1>Overview</h1>" in opened.text
            assert token not in opened.text
            assert browser.get(f"{base}jobs", timeout=PATIENCE).status_code == 200
        wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
        for address in (base, f"{base}?token={wrong}", f"{base}?token=", f"{base}jobs"):
            assert get(address).status_code == 403
        code, stdout, stderr = ended(process)
        assert (code, stdout, stderr) == (0, "", SAID)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_comes(cli: CommandLine, number: signal.Signals) -> None:
    with served(cli, "--json") as (process, line):
        url = json.loads(line)["url"]
        assert get(url).status_code == 200
        assert ended(process, number) == (0, "", "")
        with pytest.raises(requests.ConnectionError):
            get(url)


def test_a_terminal_that_is_closed_ends_it(cli: CommandLine) -> None:
    with served(cli) as (process, url):
        assert get(url).status_code == 200  # all has been printed
        assert ended(process, signal.SIGHUP) == (129, "", SAID)


def test_ctrl_c_in_a_terminal_ends_it(terminal: Any) -> None:
    shown = terminal("studio", "--port", "0", columns=120)
    shown.until("stops it")
    shown.press("ctrl-c")
    assert shown.wait() == 0
    assert "Traceback" not in shown.text


def test_it_ends_soon(cli: CommandLine) -> None:
    """Within a few milliseconds, and then the interpreter ends, which is slow on a busy machine."""

    def seconds() -> float:
        with served(cli) as (process, url):
            assert get(url).status_code == 200
            began = time.monotonic()
            assert ended(process)[0] == 0
            return time.monotonic() - began

    assert shortest(seconds, 3.0) < 3.0


@contextmanager
def running(cli: CommandLine) -> Iterator[Tuple[Any, str, int]]:
    """Start the command and a run; yield its process, the job, and what the run holds open."""
    write_project(
        cli.cwd,
        """
held = os.open("held", os.O_WRONLY)
trainer = create_trainer(**settings)
trainer.on_log(lambda ctx: print("mine", ctx.step))
""",
    )
    os.mkfifo(cli.cwd / "held")
    pipe = os.open(cli.cwd / "held", os.O_RDONLY | os.O_NONBLOCK)
    with served(cli) as (process, url), requests.Session() as browser:
        base = url.partition("?")[0]
        page = browser.get(url, timeout=PATIENCE).text
        token = re.findall(r'data-form-token="([^"]+)"', page)[0]
        started = browser.post(f"{base}run", {"form_token": token}, timeout=PATIENCE)
        assert started.status_code == 200

        def job() -> Any:
            return browser.get(f"{base}run/output", timeout=PATIENCE).json()["job"]

        submitted = until(job)
        with pytest.raises(BlockingIOError):  # somebody has it open
            os.read(pipe, 1)
        yield process, submitted, pipe
    os.close(pipe)


def is_released(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def test_its_end_is_that_of_a_run_and_not_of_its_job(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    with running(cli) as (process, job, pipe):
        assert ended(process, signal.SIGINT)[0] == 0
        until(lambda: is_released(pipe))
    assert emulator.jobs[job].status == "running"


def test_a_run_of_a_killed_server_ends_when_it_prints(cli: CommandLine, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=9, manual=True)
    with running(cli) as (process, job, pipe):
        assert ended(process, signal.SIGKILL)[0] == -9
        emulator.step(job, 2)
        until(lambda: is_released(pipe))
    assert emulator.jobs[job].status == "running"


def test_a_browser_is_opened_with_the_url(cli: CommandLine, tmp_path: Path) -> None:
    browser, said = tmp_path / "browser", tmp_path / "said"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {said}.part && mv {said}.part {said}\n')
    browser.chmod(0o755)
    with served(cli, "--open", BROWSER=f"{browser} %s") as (process, url):
        until(said.exists)
        assert said.read_text() == url
        assert ended(process) == (0, "", SAID)


def test_without_a_screen_none_is_opened(cli: CommandLine) -> None:
    with served(cli, "--open") as (process, _):
        stderr = ended(process)[2]
    assert stderr == f"{SAID}there is no screen to open a browser on: open the URL elsewhere\n"


def test_a_port_in_use_is_refused_in_a_line(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        refused = cli("studio", "--port", str(port), code=2)
    told = f"port {port} cannot be used: it is in use; give --port {port + 1}, or --port 0"
    assert told in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stdout == ""


@pytest.mark.parametrize("file", ["missing.py", "trainer.py:bot", "outside.py", ".", "text.txt"])
def test_a_file_that_cannot_be_run_is_refused_in_a_line(
    cli: CommandLine, tmp_path: Path, file: str
) -> None:
    write_project(cli.cwd)
    (cli.cwd / "text.txt").touch()
    (tmp_path / "outside.py").touch()
    (cli.cwd / "outside.py").symlink_to(tmp_path / "outside.py")
    refused = cli("studio", "--port", "0", file, code=2)
    assert f"{file}: no Python file of the working directory; give FILE.py" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_missing_extra_is_named(cli: CommandLine) -> None:
    for library in ("flask", "waitress"):
        code = (
            f"import sys; sys.modules[{library!r}] = None; "
            "from arkor_sync.cli import main; sys.exit(main())"
        )
        without = replace(cli, program=(sys.executable, "-c", code))
        refused = without("studio", code=2)
        assert "Studio needs the extra 'studio': pip install 'Flask>=2.3'" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_it_starts_with_no_network_and_says_so_on_the_page(cli: CommandLine) -> None:
    with served(cli, ARKOR_CLOUD_API_URL="http://127.0.0.1:1") as (process, url):
        with requests.Session() as browser:
            assert browser.get(url, timeout=PATIENCE).status_code == 200
            base = url.partition("?")[0]
            until(lambda: "127.0.0.1:1" in browser.get(base, timeout=PATIENCE).text)
        assert ended(process)[0] == 0


def test_nohup_and_a_full_disk_are_heeded(cli: CommandLine) -> None:
    ignores = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *cli.program]
    with served(replace(cli, program=ignores)) as (process, url):
        process.send_signal(signal.SIGINT)
        assert get(url).status_code == 200
        assert ended(process)[0] == 0
    full = ["sh", "-c", '"$@" >/dev/full', "sh", *cli.program, "studio", "--port", "0"]
    done = subprocess.run(
        full, cwd=cli.cwd, env=cli.environment({}), capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 1
