"""`jobs list`, `show`, `cancel` and `compare`, each as a user runs it."""

from __future__ import annotations

import signal
from typing import Any, Callable, List

import pytest

from arkor_sync._common.clock import Clock
from arkor_sync.cli.commands.jobs import sorted_jobs
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.render.job_facts import job_json, job_row
from support.command_line import CommandLine
from support.waiting import PATIENCE, shortest

HOSTILE = "bot \x1b[31m[red]\x1b]0;title\x07 two\nlines\t<script>"
SHOWN = "bot [red] two lines <script>"
TOKEN = "hf_abcdefghijklmnop"


def ended_job(emulator: Emulator, name: str = "bot", **settings: Any) -> str:
    """Create a job that ends at once, and wait for its end."""
    config = settings.pop("config", None)
    job = emulator.create_job(ScriptedEngine(**settings), config, name=name)
    emulator.wait_for(lambda: emulator.jobs[job].completed_at)
    return job


def waiting_job(emulator: Emulator, name: str = "waiting") -> str:
    """Create a job that does nothing until a test says so."""
    return emulator.create_job(ScriptedEngine(manual=True), name=name)


class TestList:
    def test_a_job_is_a_line_the_newest_first(self, cli: CommandLine, emulator: Emulator) -> None:
        first = ended_job(emulator, HOSTILE)
        second = ended_job(emulator, "other", fails_at=2)
        ended = cli("jobs", "list")
        rows = [line.split("\t") for line in ended.stdout.splitlines()]
        assert [row[:3] for row in rows] == [
            [second, "other", "failed"],
            [first, SHOWN, "completed"],
        ]
        assert ended.stderr == ""

    def test_json_is_the_whole_records_without_secrets(
        self, cli: CommandLine, emulator: Emulator
    ) -> None:
        source = {"type": "blob", "url": "https://user:pw@a.test/x?sig=abc", "token": TOKEN}
        ended_job(emulator, HOSTILE, config={"datasetSource": source})
        ended = cli("jobs", "list", "--json")
        (job,) = ended.json
        assert job["name"] == HOSTILE
        assert job["config"]["datasetSource"] == {
            "type": "blob",
            "url": "https://a.test/x",
            "token": "[hidden]",
        }
        assert ended.stdout.isascii()
        assert "\x1b" not in ended.stdout
        TrainingJob.from_dict(job)

    def test_filters_order_and_limit(self, cli: CommandLine, emulator: Emulator) -> None:
        b, a = ended_job(emulator, "b"), ended_job(emulator, "a", fails_at=1)
        waits = waiting_job(emulator, "c")

        def ids(*arguments: str) -> List[str]:
            return [job["id"] for job in cli("jobs", "list", "--json", *arguments).json]

        assert ids("--status", "failed", "--status", "queued") == [waits, a]
        assert ids("--name", "b") == [b]
        assert ids("--sort", "name", "--limit", "2") == [a, b]
        assert ids("--sort", "status") == [b, a, waits]
        assert ids("--sort", "started")[-1] == waits

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["--status", "done"], "queued, running, completed, failed, cancelled"),
            (["--sort", "age"], "'created', 'started', 'completed', 'name', 'status'"),
            (["--limit", "0"], "--limit"),
        ],
    )
    def test_what_cannot_work_is_a_usage_error(
        self, cli: CommandLine, arguments: List[str], told: str
    ) -> None:
        ended = cli("jobs", "list", *arguments, code=2)
        assert ended.stdout == ""
        assert told in " ".join(ended.stderr.split())

    def test_an_empty_list_is_said(self, cli: CommandLine) -> None:
        ended = cli("jobs", "list", "--name", "nobody")
        assert (ended.stdout, ended.stderr) == ("", "there are no such jobs in this project\n")
        assert cli("jobs", "list", "--status", "failed").stderr == ended.stderr
        ended = cli("jobs", "list")
        assert ended.stderr == "no jobs yet: `arkor-sync start` submits one\n"
        assert (ended.stdout, cli("jobs", "list", "--json").json) == ("", [])

    @pytest.mark.parametrize("columns", [40, 80, 160])
    def test_in_a_terminal(
        self, emulator: Emulator, terminal: Callable[..., Any], columns: int
    ) -> None:
        ended_job(emulator, HOSTILE)
        shown = terminal("jobs", "list", columns=columns)
        assert shown.wait() == 0
        assert "bot" in shown.text
        assert b"\x1b]0;" not in shown.printed
        assert b"[31m[red]" not in shown.printed
        if columns == 160:
            assert SHOWN in shown.text

    @pytest.mark.slow
    def test_a_thousand_jobs_are_quick(self, cli: CommandLine, emulator: Emulator) -> None:
        for number in range(1000):
            emulator.create_job(ScriptedEngine(steps=1), name=f"job {number}")
        emulator.wait_for(lambda: all(job.completed_at for job in emulator.jobs.values()), PATIENCE)
        assert len(cli("jobs", "list").stdout.splitlines()) == 1000
        jobs = emulator.client().jobs.list()

        def measure() -> float:
            begin = Clock.now()
            for job in sorted_jobs(jobs, "created"):
                job_row(job, short=True)
                job_json(job)
            return Clock.now() - begin

        assert shortest(measure, 2.0) < 2.0


class TestWatch:
    @pytest.mark.slow
    def test_a_table_follows_the_jobs_until_ctrl_c(
        self, emulator: Emulator, terminal: Callable[..., Any]
    ) -> None:
        job = waiting_job(emulator, "first")
        shown = terminal("jobs", "list", "--watch", columns=160)
        shown.until("queued")
        emulator.step(job)
        shown.until("running")
        waiting_job(emulator, "second")
        shown.until("2 jobs at")
        shown.resize(120)
        emulator.finish(job, "cancelled")
        shown.until("cancelled")
        shown.press("ctrl-c")
        assert shown.wait() == 130
        # The first screen is back, with the cursor, and the last table is on it.
        _, last = shown.printed.split(b"\x1b[?7h\x1b[?25h\x1b[?1049l")
        assert b"first" in last
        assert b"second" in last

    def test_sigterm_leaves_the_terminal_as_it_was(
        self, emulator: Emulator, terminal: Callable[..., Any]
    ) -> None:
        waiting_job(emulator, HOSTILE * 5)
        shown = terminal("jobs", "list", "--watch", columns=40, lines=6)
        shown.until("1 job at")
        assert "1 job at" in shown.screen[0]
        shown.send_signal(signal.SIGTERM)
        assert shown.wait() == 143
        assert b"\x1b[?7h\x1b[?25h\x1b[?1049l" in shown.printed
        assert b"\x1b]0;" not in shown.printed

    def test_a_line_as_wide_as_the_terminal_is_shown_to_its_end(
        self, emulator: Emulator, terminal: Callable[..., Any]
    ) -> None:
        waiting_job(emulator, "long" * 50)
        shown = terminal("jobs", "list", "--watch", columns=100)
        shown.until("queued")
        heading = shown.screen[1]
        assert len(heading) == 100
        assert heading.endswith("duration")
        shown.press("ctrl-c")
        assert shown.wait() == 130

    @pytest.mark.slow
    def test_a_cloud_that_cannot_be_reached_is_asked_again(
        self, emulator: Emulator, terminal: Callable[..., Any]
    ) -> None:
        waiting_job(emulator, "first")
        shown = terminal("jobs", "list", "--watch")
        shown.until("1 job at")
        with emulator.refusing():
            shown.until("asking again")
            assert "first" in shown.text
        shown.until("1 job at")
        shown.press("ctrl-c")
        assert shown.wait() == 130

    def test_more_jobs_than_lines_do_not_scroll(
        self, emulator: Emulator, terminal: Callable[..., Any]
    ) -> None:
        for number in range(20):
            waiting_job(emulator, f"job {number}")
        shown = terminal("jobs", "list", "--watch", columns=160, lines=10)
        shown.until("20 jobs at")
        shown.until("job 13")
        assert "20 jobs at" in shown.screen[0]
        shown.press("ctrl-c")
        assert shown.wait() == 130

    @pytest.mark.parametrize("as_json", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_elsewhere_a_line_for_each_change(
        self, cli: CommandLine, emulator: Emulator, as_json: bool
    ) -> None:
        job = waiting_job(emulator, HOSTILE)
        process = cli.start("jobs", "list", "--watch", *(["--json"] if as_json else []))
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        emulator.step(job)
        lines.append(process.stdout.readline())
        emulator.finish(job, "completed")
        lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate()
        assert process.returncode == 130
        assert rest == ""
        for line, status in zip(lines, ("queued", "running", "completed")):
            assert job in line
            assert status in line
            assert "\x1b" not in line

    def test_what_cannot_work_ends_it(self, cli: CommandLine, emulator: Emulator) -> None:
        emulator.faults.add(Fault("expire_token", route="list_jobs"))
        assert cli("jobs", "list", "--watch", code=4).stdout == ""


class TestShow:
    def test_facts(self, cli: CommandLine, emulator: Emulator) -> None:
        source = {"type": "blob", "url": "https://a.test/x?sig=abc", "token": TOKEN}
        config = {"learningRate": 1e-4, "datasetSource": source, "lora": {"r": 16}}
        job = ended_job(
            emulator, HOSTILE, fails_at=2, error="no\x1b[2Jmemory\nat all", config=config
        )
        ended = cli("jobs", "show", job)
        facts = dict(line.split(": ", 1) for line in ended.stdout.splitlines())
        assert facts["id"] == job
        assert facts["name"] == SHOWN
        assert facts["status"] == "failed"
        assert facts["error"] == "nomemory at all"
        assert facts["model"] == "unsloth/gemma-4-E4B-it"
        assert facts["config.lora.r"] == "16"
        assert facts["config.datasetSource.url"] == "https://a.test/x"
        assert {"createdAt", "startedAt", "completedAt", "duration"} <= set(facts)
        assert TOKEN not in ended.stdout
        assert ended.stderr == ""
        record = cli("jobs", "show", job, "--json").json
        assert record["config"]["datasetSource"]["token"] == "[hidden]"
        assert record["error"] == "no\x1b[2Jmemory\nat all"

    def test_of_several_with_a_name_the_newest(self, cli: CommandLine, emulator: Emulator) -> None:
        ended_job(emulator, "bot")
        newest = ended_job(emulator, "bot")
        ended = cli("jobs", "show", "bot", "--json")
        assert ended.json["id"] == newest
        assert "2 jobs are named 'bot'" in ended.stderr

    def test_a_job_that_is_not_there(self, cli: CommandLine) -> None:
        ended = cli("jobs", "show", "no\x1b[31mbody", code=2)
        assert ended.stdout == ""
        assert "no job of this project has the id or the name" in ended.stderr
        assert "\x1b" not in ended.stderr

    @pytest.mark.parametrize("columns", [40, 160])
    def test_in_a_terminal(
        self, emulator: Emulator, terminal: Callable[..., Any], columns: int
    ) -> None:
        job = ended_job(emulator, HOSTILE)
        shown = terminal("jobs", "show", job, columns=columns)
        assert shown.wait() == 0
        assert "completed" in shown.text
        assert b"\x1b]0;" not in shown.printed


class TestCancel:
    def test_it_needs_yes_where_nobody_can_be_asked(
        self, cli: CommandLine, emulator: Emulator
    ) -> None:
        job = waiting_job(emulator)
        ended = cli("jobs", "cancel", "waiting", code=2, stdin="y\n")
        assert "--yes" in ended.stderr
        assert ended.stdout == ""
        assert emulator.jobs[job].status == "queued"

    def test_several_by_id_and_name(self, cli: CommandLine, emulator: Emulator) -> None:
        one, two = waiting_job(emulator, HOSTILE), waiting_job(emulator, "two")
        ended = cli("jobs", "cancel", one, "two", "--yes")
        assert ended.stdout == f"{SHOWN} ({one}): cancelled\ntwo ({two}): cancelled\n"
        assert {emulator.jobs[each].status for each in (one, two)} == {"cancelled"}
        again = cli("jobs", "cancel", one, "--json")
        (row,) = again.json
        assert row == {
            "id": one,
            "name": HOSTILE,
            "status": "cancelled",
            "requested": False,
            "message": "it is cancelled already",
        }

    def test_one_that_has_ended_is_said_and_the_others_are_cancelled(
        self, cli: CommandLine, emulator: Emulator
    ) -> None:
        done, waits = ended_job(emulator, "done"), waiting_job(emulator)
        ended = cli("jobs", "cancel", "done", "waiting", "--yes", code=1)
        assert f"done ({done}): it is completed already\n" in ended.stdout
        assert emulator.jobs[waits].status == "cancelled"

    def test_nothing_is_cancelled_if_one_is_not_there_or_not_the_only_one(
        self, cli: CommandLine, emulator: Emulator
    ) -> None:
        jobs = [waiting_job(emulator, name) for name in ("a", "twice", "twice")]
        cli("jobs", "cancel", "a", "nobody", "--yes", code=2)
        several = cli("jobs", "cancel", "a", "twice", "--yes", code=2)
        assert "give the id of one" in several.stderr
        assert {emulator.jobs[job].status for job in jobs} == {"queued"}

    def test_one_that_the_cloud_refuses_does_not_keep_the_others(
        self, cli: CommandLine, emulator: Emulator
    ) -> None:
        one, two = waiting_job(emulator, "one"), waiting_job(emulator, "two")
        emulator.faults.add(Fault("status", route="cancel_job", job=one, status=403))
        ended = cli("jobs", "cancel", "one", "two", "--yes", "--json", code=None)
        assert ended.code in (4, 6)
        assert [row["requested"] for row in ended.json] == [False, True]
        assert ended.json[0]["message"] == "it could not be cancelled"
        assert "403" in ended.stderr
        assert emulator.jobs[two].status == "cancelled"

    def test_one_that_can_no_longer_be_cancelled(
        self, cli: CommandLine, emulator: Emulator
    ) -> None:
        job = waiting_job(emulator)
        emulator.faults.add(Fault("status", route="cancel_job", status=409))
        ended = cli("jobs", "cancel", "waiting", "--yes", code=1)
        assert ended.stdout == f"waiting ({job}): it cannot be cancelled now\n"
        assert ended.stderr == ""

    @pytest.mark.parametrize(("key", "code"), [("y", 0), ("n", 1), ("ctrl-c", 130)])
    def test_it_asks_in_a_terminal(
        self, emulator: Emulator, terminal: Callable[..., Any], key: str, code: int
    ) -> None:
        job = waiting_job(emulator, HOSTILE)
        shown = terminal("jobs", "cancel", HOSTILE, columns=160)
        shown.until(f"Cancel {SHOWN} ({job})? [y/N]")
        shown.press(key)
        if key != "ctrl-c":
            shown.press("enter")
        assert shown.wait() == code
        assert emulator.jobs[job].status == ("cancelled" if key == "y" else "queued")
        assert b"\x1b]0;" not in shown.printed


class TestCompare:
    def test_results_and_settings_that_differ(self, cli: CommandLine, emulator: Emulator) -> None:
        same = {"loraConfig": {"r": 16}}
        one = ended_job(
            emulator, HOSTILE, steps=8, checkpoints=[4, 8], config={"learningRate": 1e-4, **same}
        )
        two = ended_job(
            emulator,
            "two",
            steps=5,
            fails_at=4,
            eval_loss=lambda step: 1 / step,
            config={"learningRate": 2e-4, **same},
        )
        ended = cli("jobs", "compare", one, "two")
        table = {line.split("\t")[0]: line.split("\t")[1:] for line in ended.stdout.splitlines()}
        assert table["id"] == [one, two]
        assert table["status"] == ["completed", "failed"]
        assert table["steps"] == ["8", "3"]
        assert table["best loss step"] == ["8", "3"]
        assert table["best loss checkpoint"] == ["8", "-"]
        assert table["last eval_loss"] == ["-", "0.333333"]
        assert table["learningRate"] == ["0.0001", "0.0002"]
        assert "loraConfig.r" not in table
        assert ended.stderr == ""

        told = cli("jobs", "compare", one, two, "--json", "--metric", "loss", "--mode", "max").json
        assert told["settings"]["learningRate"] == [1e-4, 2e-4]
        first, second = told["jobs"]
        assert first["name"] == HOSTILE
        assert list(first["metrics"]) == ["loss"]
        assert first["metrics"]["loss"]["bestStep"] == 1
        assert second["error"] == "CUDA out of memory"

    def test_a_job_that_goes_on_is_compared_as_it_is(
        self, cli: CommandLine, emulator: Emulator
    ) -> None:
        ended_job(emulator, "bot")
        running = waiting_job(emulator, "bot")
        emulator.step(running, 3)
        done = ended_job(emulator, "other")
        ended = cli("jobs", "compare", running, done, "--json")
        assert [job["steps"] for job in ended.json["jobs"]] == [2, 10]
        assert "job 'bot' has not ended: this is what has come until now" in ended.stderr

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["bot"], "at least two"),
            (["bot", "bot"], "at least two"),
            (["bot", "nobody"], "nobody"),
            (["bot", "other", "--metric", "los"], "metric"),
            ([], "JOB"),
        ],
    )
    def test_what_cannot_work_is_a_usage_error(
        self, cli: CommandLine, emulator: Emulator, arguments: List[str], told: str
    ) -> None:
        for name in ("bot", "other"):
            ended_job(emulator, name)
        ended = cli("jobs", "compare", *arguments, code=2)
        assert ended.stdout == ""
        assert told in ended.stderr

    @pytest.mark.parametrize("columns", [40, 160])
    def test_in_a_terminal(
        self, emulator: Emulator, terminal: Callable[..., Any], columns: int
    ) -> None:
        one, two = ended_job(emulator, HOSTILE), ended_job(emulator, HOSTILE)
        shown = terminal("jobs", "compare", one, two, columns=columns)
        assert shown.wait() == 0
        assert "completed" in shown.text
        assert b"\x1b]0;" not in shown.printed
        assert b"[31m[red]" not in shown.printed
