"""The HTML report: what is in it, what must not be, and that it stands alone."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple

import pytest

from arkor_sync import Callback, ErrorPolicy, FileCursorStore, RunAborted, StopTraining, follow
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.handlers import HtmlReport, LossPlot, write_report
from arkor_sync.history import History
from arkor_sync.stream.events import TrainingEvent
from support.waiting import PATIENCE

MODEL = "unsloth/gemma-4-E4B-it"


class Page(HTMLParser):
    """The text of a page, its tags, and whatever would be loaded from elsewhere."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: List[str] = []
        self.external: List[Tuple[str, Optional[str]]] = []
        self.words: List[str] = []
        self._open: List[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append(tag)
        self.external += [(k, v) for k, v in attrs if k in ("src", "href", "xlink:href", "data")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def run_of(emulator: Emulator, client: Any, *callbacks: Any, **more: Any) -> Any:
    job = {key: more.pop(key) for key in ("name", "config") if key in more}
    job_id = emulator.create_job(**job)
    return follow(job_id, callbacks=callbacks, client=client, abort_grace=PATIENCE, **more)


@pytest.mark.arkor(engine=ScriptedEngine(steps=20, eval_loss=lambda s: 2.5, checkpoints=[10, 20]))
def test_a_finished_run_is_told_whole_in_one_file_that_needs_nothing_else(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    samples: Dict[int, Any] = {}

    class Ask(Callback):
        def on_checkpoint(self, ctx: Any) -> None:
            samples[ctx.step] = [f"<b>answer</b> {ctx.step}", "and another"]

    path = tmp_path / "deep" / "{job_id}.html"
    report = HtmlReport(path, samples=samples)
    config = {"model": MODEL, "maxSteps": 20, "dryRun": False, "gpuTypes": ["h100", "a100"]}
    run = run_of(arkor_emulator, arkor_client, Ask(), report, name="triage", config=config)
    assert run.wait(PATIENCE).status == "completed"
    [file] = (tmp_path / "deep").iterdir()
    assert file.name == f"{run.job.id}.html"
    page = Page(file)
    for expected in (
        "triage",
        "completed",
        run.job.id,
        "Best eval loss 2.5 at step 1",
        "Steps 20",
        "Checkpoints 2",
        "Trained for",
        "Queued for",
        "Step 10 , loss 2.016, eval loss 2.5 <b>answer</b> 10 and another",
        "maxSteps 20",
        "dryRun false",
        "gpuTypes h100, a100",
        "History 20 steps step loss eval loss 1 2.878 2.5",
        "train loss",
    ):
        assert expected in page.text, expected
    assert re.search(r"Created \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", page.text)
    assert "learning rate" not in page.text  # nothing was sent
    assert page.external == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    source = file.read_text("utf-8")
    assert "url(" not in source
    assert "@import" not in source
    assert "prefers-color-scheme:dark" in source


@pytest.mark.arkor(
    engine=ScriptedEngine(steps=3, fails_at=3, error="\x1b[1m<img src=x>\x1b[0m & <!-- out")
)
def test_whatever_is_written_by_others_is_escaped(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    name = "</title><script>alert('x')</script>{body}"
    config = {"model": MODEL, "<b>key</b>": "\"'><i>value</i>", "lone": "\ud800"}
    run = run_of(arkor_emulator, arkor_client, HtmlReport(path), name=name, config=config)
    assert run.wait(PATIENCE).status == "failed"
    page = Page(path)
    assert not {"script", "img", "i"} & set(page.tags)
    assert page.text.count("<script>alert('x')</script>{body}") == 3  # title, heading, chart
    assert "failed" in page.text
    assert "<img src=x> & <!-- out" in page.text
    assert "<b>key</b>" in page.text


@pytest.mark.arkor(engine=ScriptedEngine(steps=2))
def test_no_secret_of_the_configuration_is_written(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    source = {"type": "blob", "url": "https://me:hush@host/a.jsonl?sig=hush", "token": "hush"}
    config = {
        "model": MODEL,
        "datasetSource": source,
        "hub": {"apiKey": "hush", "HF_TOKEN": {"inner": "hush"}, "tokenizer": "plain"},
        "mirrors": [{"secret": "hush"}, "s3://me:hush@bucket/key?X-Amz-Signature=hush"],
        "links": ["https://host/?hush", "https://host/b#hush"],
        "HF_PAT": "hush",
        "headers": [{"name": "Authorization", "value": "Bearer hush"}, ["Cookie", "hush"]],
        "command": "train --token=hush --epochs 3",
        "empty": {},
        "nothing": [],
    }
    path = tmp_path / "report.html"
    run = run_of(arkor_emulator, arkor_client, HtmlReport(path), config=config)
    run.wait(PATIENCE)
    again = tmp_path / "again.html"
    write_report(run, again)
    for written in (path, again):
        assert "hush" not in written.read_text("utf-8")
        text = Page(written).text
        assert "datasetSource.url https://host/a.jsonl" in text
        assert "datasetSource.token" not in text
        assert "hub.tokenizer plain" in text
        assert "mirrors.1 s3://bucket/key" in text
        assert "links https://host/, https://host/b" in text
        assert "command train --token=[hidden] --epochs 3" in text


class Stop(Callback):
    def on_log(self, ctx: Any) -> None:
        if ctx.step == 2:
            raise StopTraining("good enough")


class Fail(Callback):
    def on_log(self, ctx: Any) -> None:
        if ctx.step == 2:
            raise LookupError("lost")


class Leave(Callback):
    def on_log(self, ctx: Any) -> None:
        if ctx.step == 2:
            ctx.run.abort("lunch")


@pytest.mark.arkor(engine=ScriptedEngine(steps=4, silent_at=3))
@pytest.mark.parametrize(
    ("callback", "word", "why"),
    [
        (Stop(), "stopped", "good enough"),
        (Fail(), "running", "the run ended with LookupError: lost"),
        (Leave(), "aborted", "lunch; the job goes on"),
    ],
)
def test_however_a_run_ends_the_report_says_so(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path, callback: Any, word: str, why: str
) -> None:
    run = run_of(arkor_emulator, arkor_client, callback, HtmlReport(tmp_path / "a.html"))
    with contextlib.suppress(LookupError, RunAborted):
        run.wait(PATIENCE)
    write_report(run, tmp_path / "b.html")
    for name in ("a.html", "b.html"):
        text = Page(tmp_path / name).text
        assert f" {word} {run.job.id} {why} " in text


@pytest.mark.arkor(engine=ScriptedEngine(steps=3, silent_at=2))
def test_a_run_that_goes_on_is_reported_as_it_stands(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    class Now(Callback):
        def on_log(self, ctx: Any) -> None:
            write_report(ctx.run, tmp_path / f"{ctx.step}.html", samples={1: "early"})
            if ctx.step == 2:
                ctx.run.abort()

    with pytest.raises(RunAborted):
        run_of(arkor_emulator, arkor_client, Now()).wait(PATIENCE)
    text = Page(tmp_path / "2.html").text
    assert " running " in text
    assert "History 2 steps" in text
    assert "Step 1 , loss 2.878 early" in text


@pytest.mark.arkor(engine=ScriptedEngine(events=[{"type": "training.failed", "error": "no GPU"}]))
def test_a_run_without_a_single_step_is_reported_too(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    assert run_of(arkor_emulator, arkor_client, HtmlReport(path)).wait(PATIENCE).status == "failed"
    text = Page(path).text
    assert "no GPU" in text
    assert "no loss has been logged" in text
    assert "History" not in text


@pytest.mark.arkor(
    engine=ScriptedEngine(steps=3000, loss=lambda s: 100.0 if s == 1234 else math.sin(s) + 2)
)
def test_a_long_history_is_thinned_out_and_keeps_what_stands_out(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    run_of(arkor_emulator, arkor_client, HtmlReport(path)).wait(PATIENCE)
    text = Page(path).text
    count = re.search(r"History (\d+) of 3000 steps", text)
    assert count is not None
    assert 200 < int(count[1]) <= 1000
    assert " 1234 100 " in text
    assert " 3000 " in text
    assert path.stat().st_size < 300_000


@pytest.mark.arkor(engine=ScriptedEngine(steps=30, checkpoints=[10, 20]))
def test_another_process_that_carries_on_reports_the_whole_run(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    class Die(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step == 15:
                ctx.run.abort("killed")

    job_id = arkor_emulator.create_job()
    store = FileCursorStore(tmp_path / "cursors")
    path = tmp_path / "report.html"
    more: Dict[str, Any] = {
        "client": arkor_client,
        "cursor_store": store,
        "abort_grace": PATIENCE,
    }
    with pytest.raises(RunAborted):
        follow(job_id, callbacks=[HtmlReport(path), Die()], **more).wait(PATIENCE)
    run = follow(job_id, callbacks=[HtmlReport(path)], **more)
    run.wait(PATIENCE)
    assert len(run.history) == 15
    text = Page(path).text
    assert "History 30 steps" in text
    assert "Checkpoints 2" in text


@pytest.mark.parametrize("kind", ["report.html", "loss.svg"])
def test_what_two_processes_were_told_of_one_step_is_shown_together(
    tmp_path: Path, kind: str
) -> None:
    def make(folder: str) -> Any:
        return (HtmlReport if kind == "report.html" else LossPlot)(tmp_path / folder / kind)

    def context(**more: Any) -> Any:
        job = TrainingJob("job-1", "o", "p", "triage", "running", {"model": MODEL}, "")
        run = SimpleNamespace(history=History())
        return SimpleNamespace(job=job, run=run, step=7, result=None, error=None, **more)

    first, second = make("first"), make("second")
    first.on_log(context(event=TrainingEvent("training.log", {"step": 7, "loss": 1.25})))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    ctx = context(event=TrainingEvent("training.log", {"step": 7, "evalLoss": 1.5}))
    ctx.run.history.append(ctx.event)
    second.on_log(ctx)
    second.on_end(ctx)
    text = (tmp_path / "second" / kind).read_text("utf-8")
    assert "train loss" in text
    assert "eval loss" in text


def test_a_state_that_is_none_of_ours_is_left_aside(caplog: pytest.LogCaptureFixture) -> None:
    report = HtmlReport("report.html")
    report.load_state_dict({"job-1": "[["})
    job = TrainingJob("job-1", "o", "p", "triage", "running", {"model": MODEL}, "")
    ctx: Any = SimpleNamespace(job=job, event=TrainingEvent("training.log", {"step": 7}))
    report.on_log(ctx)
    assert (
        "the saved state of job job-1 cannot be read and is ignored: JSONDecodeError" in caplog.text
    )
    report.on_log(ctx)
    assert json.loads(report.state_dict()["job-1"])[0][0][0] == 7
    assert len(caplog.records) == 1
    none: Any = []
    report.load_state_dict(none)
    assert "expected an object, got an empty list" in caplog.text


@pytest.mark.arkor(engine=ScriptedEngine(steps=10))
def test_a_folder_that_turns_into_a_file_costs_the_report_only(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Break(Callback):
        def on_log(self, ctx: Any) -> None:
            if ctx.step == 5:
                (tmp_path / "folder").write_text("")

    path = tmp_path / "folder" / "report.html"
    run = run_of(arkor_emulator, arkor_client, HtmlReport(path), Break())
    assert run.wait(PATIENCE).status == "completed"
    assert run.health().given_up == 0
    assert "HtmlReport.on_end failed" in caplog.text
    with pytest.raises(OSError, match="folder"):
        write_report(run, path)


@pytest.mark.arkor(engine=ScriptedEngine(steps=5))
def test_a_full_disk_leaves_the_older_report_as_it_is(
    arkor_emulator: Emulator,
    arkor_client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "report.html"
    path.write_text("older")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("arkor_sync._common.files.os.replace", full)
    run = run_of(arkor_emulator, arkor_client, HtmlReport(path), error_policy=ErrorPolicy.abort())
    assert run.wait(PATIENCE).status == "completed"
    assert "No space left on device" in caplog.text
    assert path.read_text() == "older"
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


HOSTILE = "a\x1b[2Jb\u202ec\x9b1md"


@pytest.mark.arkor(
    engine=ScriptedEngine(events=[{"type": "training.failed", "error": f"x{HOSTILE}\ny"}])
)
def test_nothing_in_a_report_can_act_on_a_terminal_or_turn_the_text(
    arkor_emulator: Emulator, arkor_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    config = {"model": MODEL, HOSTILE: HOSTILE}
    report = HtmlReport(path, samples={1: HOSTILE})
    run_of(arkor_emulator, arkor_client, report, name=HOSTILE, config=config).wait(PATIENCE)
    page = path.read_text("utf-8")
    assert not set(page) & {"\x1b", "\u202e", "\x9b"}
    assert page.count("abcd") >= 6
    assert "xabcd\ny" in page
