"""What all commands share: help, errors in a line, signals, closed streams, notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from arkor_sync.cli.root import root
from arkor_sync.emulator import Emulator, Fault
from support.command_line import CommandLine
from support.waiting import PATIENCE, until

HOSTILE = "\x1b[2Jred\x1b[31m\x9b1m\u202etxt\u202c\x07\r\nsecond line\x1b]0;title\x07"
UNSAFE = "\x1b\x9b\x07\r\u202e\u202c"


def shell(user: CommandLine, script: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in which `$ARKOR` is the command."""
    return subprocess.run(
        ["bash", "-c", script, "bash", *user.program],
        capture_output=True,
        cwd=user.cwd,
        env=user.environment(extra),
        timeout=PATIENCE,
        encoding="utf-8",
        errors="surrogateescape",
    )


def test_an_error_of_a_file_is_told_without_its_number(nobody: CommandLine) -> None:
    ended = nobody.probe("open('no such file')")(code=1)
    assert ended.stderr == "arkor-sync: no such file: No such file or directory\n"


def test_a_command_that_is_unknown_is_a_usage_error(nobody: CommandLine) -> None:
    ended = nobody("docter", code=2)
    assert ended.stdout == ""
    assert ended.stderr == (
        "arkor-sync: No such command 'docter'. Did you mean 'doctor'?; see `arkor-sync --help`\n"
    )


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("help",), "--help"),
        (("jobs", "help"), "jobs --help"),
        (("train", "trainer.py"), "start"),
        (("run",), "start"),
        (("list",), "jobs list"),
        (("cancel", "bot"), "jobs cancel"),
        (("version",), "--version"),
    ],
)
def test_other_words_for_a_command_are_told_the_command(
    nobody: CommandLine, arguments: Any, meant: str
) -> None:
    assert f"Did you mean `arkor-sync {meant}`?" in nobody(*arguments, code=2).stderr


def test_each_word_for_a_command_leads_to_one_that_there_is(nobody: CommandLine) -> None:
    for meant in root.meant.values():
        nobody(*meant.split(), *([] if meant.startswith("--") else ["--help"]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json", "jobs", "list"), "'--json' here; put it after the command: `arkor-sync COMMAN"),
        (("--debug", "start"), "`arkor-sync COMMAND --debug`"),
        (("--timeout=5", "start"), "`arkor-sync COMMAND --timeout`"),
        (("jobs", "--json", "list"), "put it after the command: `arkor-sync jobs COMMAND --json`"),
    ],
)
def test_an_option_before_the_command_is_told_its_place(
    nobody: CommandLine, arguments: Any, said: str
) -> None:
    ended = nobody(*arguments, code=2)
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_an_option_that_is_misspelt_or_of_no_command_is_not_sent_elsewhere(
    nobody: CommandLine,
) -> None:
    misspelt = nobody("--verison", code=2).stderr
    assert "Did you mean" in misspelt
    assert "--version" in misspelt
    of_the_group = nobody("emulator", "--nope", code=2).stderr
    assert "COMMAND" not in misspelt + of_the_group


@pytest.mark.parametrize("group", [(), ("jobs",)], ids=["root", "jobs"])
def test_a_group_without_a_command_shows_its_help_as_an_error(
    nobody: CommandLine, group: Any
) -> None:
    ended = nobody(*group, code=2)
    assert ended.stdout == ""
    assert ended.stderr.startswith("Usage: arkor-sync")


def test_help_is_read_in_a_terminal(terminal: Any) -> None:
    shown = terminal("--help")
    assert shown.wait() == 0
    assert "doctor" in shown.text


@pytest.mark.parametrize("columns", [40, 160])
def test_help_fits_the_terminal(terminal: Any, columns: int) -> None:
    shown = terminal("emulator", "--help", columns=columns, lines=60)
    assert shown.wait() == 0
    lines = shown.printed.decode().splitlines()
    options = lines[: lines.index("Examples:")]
    assert columns // 2 < max(map(len, options)) <= min(columns, 100)
    assert b"\x1b" not in shown.printed


@pytest.mark.parametrize(
    "arguments",
    [(HOSTILE,), ("jobs", HOSTILE), ("doctor", f"--{HOSTILE}"), ("completion", HOSTILE)],
)
def test_a_hostile_argument_is_repeated_without_harm(nobody: CommandLine, arguments: Any) -> None:
    ended = nobody(*arguments, code=2)
    assert not set(UNSAFE) & set(ended.stderr)
    assert len(ended.stderr.splitlines()) == 1


def test_an_error_is_one_harmless_line_and_debug_shows_where_it_came_from(
    nobody: CommandLine,
) -> None:
    user = nobody.probe(f"raise RuntimeError({HOSTILE!r})")
    ended = user(code=1)
    assert ended.stderr == "arkor-sync: redtxt second line\n"
    done = shell(user, '"$@" --debug')
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback (most recent call last)" in done.stderr
    assert "in probe\n    raise RuntimeError(" in done.stderr
    assert not set(UNSAFE) & set(done.stderr)


def test_a_log_line_of_the_library_has_the_form_of_the_command(nobody: CommandLine) -> None:
    user = nobody.probe(
        "import logging",
        f"logging.getLogger('arkor_sync.http').warning('of %s', {HOSTILE!r})",
        "logging.getLogger('arkor_sync.run').info('not shown')",
    )
    assert user().stderr == "arkor-sync: of redtxt second line\n"
    assert "arkor_sync.run INFO not shown" in user("--debug").stderr


def test_the_deprecation_is_told_once_at_the_end(cli: CommandLine, emulator: Emulator) -> None:
    emulator.settings.deprecation = "this version \x1b[31mis old"
    emulator.settings.sunset = "Wed, 31 Dec 2031 00:00:00 GMT"
    ended = cli("doctor", "--json")
    assert ended.json["ok"] is True
    assert ended.stderr == (
        "arkor-sync: this version is old (accepted until Wed, 31 Dec 2031 00:00:00 GMT); "
        "install a newer version of arkor-sync, from where you got this one\n"
    )


def test_a_version_that_is_too_old_says_so(cli: CommandLine, emulator: Emulator) -> None:
    emulator.settings.supported_range = ">=999.0.0"
    user = cli.probe("from arkor_sync.cli.client import make_client", "make_client().jobs.get('x')")
    ended = user(code=6)
    assert "no longer accepts" in ended.stderr
    assert "install a newer version of arkor-sync" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("in_terminal", [False, True], ids=["pipe", "terminal"])
def test_ctrl_c_ends_any_command_with_one_line(
    cli: CommandLine, emulator: Emulator, terminal: Any, in_terminal: bool
) -> None:
    emulator.faults.add(Fault("stall_before_headers", route="cli_config"))
    if in_terminal:
        shown = terminal("doctor", columns=160)
        until(lambda: emulator.requests)
        shown.press("ctrl-c")
        assert shown.wait() == 130
        assert "arkor-sync: interrupted" in shown.screen
        assert "Traceback" not in shown.text
        return
    process = cli.start("doctor")
    until(lambda: emulator.requests)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (130, "arkor-sync: interrupted\n")


def test_ctrl_c_while_the_command_is_imported(nobody: CommandLine) -> None:
    code = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "arkor_sync.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from arkor_sync.cli import main
sys.exit(main())
"""
    user = nobody.probe()
    done = subprocess.run(
        [sys.executable, "-c", code], env=user.environment({}), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "arkor-sync: interrupted\n")


def test_sigterm_leaves_the_command_in_order(nobody: CommandLine) -> None:
    user = nobody.probe(
        "import time",
        "try:",
        "    output.line('ready')",
        "    while True: time.sleep(0.01)",
        "finally:",
        "    output.line('left in order')",
    )
    process = user.start()
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout, stderr) == (143, "left in order\n", "")


MANY = "for number in range(100_000): output.line(f'line {number} ' + 'x' * 80)"


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    ("redirection", "code", "says"),
    [
        ("| head -n 1", 141, ""),
        ("| true", 141, ""),
        (">/dev/full", 1, "standard output cannot be written: No space left on device"),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("2>/dev/full >/dev/null", 0, ""),
        ("2> >(true) >/dev/null", 0, ""),
    ],
)
def test_where_the_output_goes(
    nobody: CommandLine, redirection: str, code: int, says: str, unbuffered: str
) -> None:
    user = nobody.probe("output.note('to standard error')", MANY, "output.note('again')")
    script = f'"$@" {redirection}; echo "${{PIPESTATUS[0]}}" >code'
    done = shell(user, script, PYTHONUNBUFFERED=unbuffered)
    assert (user.cwd / "code").read_text() == f"{code}\n"
    shown = {"to standard error", "again"}
    notices = [line for line in done.stderr.splitlines() if line not in shown]
    assert notices == ([f"arkor-sync: {says}"] if says else [])


def test_help_into_a_full_disk(nobody: CommandLine) -> None:
    done = shell(nobody, '"$@" --help >/dev/full')
    assert done.returncode == 1
    assert done.stderr == (
        "arkor-sync: standard output cannot be written: No space left on device\n"
    )


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONIOENCODING": "", "PYTHONUTF8": "0"}],
    ids=["ascii", "c"],
)
def test_no_text_fails_to_be_encoded(nobody: CommandLine, environment: Any) -> None:
    user = nobody.probe("output.line('gr\\u00fc\\u00df \\udcff')", "output.note('\\u20ac')")
    done = shell(user, '"$@"', **environment)
    assert (done.returncode, done.stdout[:2], done.stderr[-1:]) == (0, "gr", "\n")
    user = nobody.probe("raise ValueError('\\u20ac')")
    assert shell(user, '"$@"', **environment).returncode == 1


def test_an_argument_that_is_no_text_is_repeated(nobody: CommandLine) -> None:
    done = shell(nobody, "\"$@\" $'\\xff\\xfe'")
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_without_the_extra_it_says_what_to_install(nobody: CommandLine) -> None:
    code = "import sys; sys.modules['click'] = None; from arkor_sync.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}"],
        env={**os.environ, **nobody.environment({})},
        capture_output=True,
        text=True,
    )
    assert "needs the extra 'cli'" in done.stderr
