"""What a notebook shows of jobs, results and histories: byte by byte, and with hostile texts."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync import CloudApiError, RunAborted, TrainingJob, TrainingResult
from arkor_sync._common.html import card_html, table_html
from arkor_sync.errors import still_runs
from arkor_sync.history import History
from arkor_sync.render.chart import PALETTES, Chart
from arkor_sync.render.html import chart_html, history_html, run_html
from arkor_sync.result import Metrics
from arkor_sync.stream.events import TrainingEvent

HOSTILE = "</style></div><script>alert('1')</script>&\"\x1b[2J\u202e"
ESCAPED = "&lt;/style&gt;&lt;/div&gt;&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;&quot;"
JOB = TrainingJob(
    id="job-1",
    org_id="org",
    project_id="project",
    name="support <bot>",
    status="completed",
    config={"model": "unsloth/gemma-4-E4B-it", "datasetSource": {"token": "hush"}},
    created_at="2026-01-02T03:04:05.678Z",
    started_at="2026-01-02T03:05:05Z",
    completed_at="2026-01-02T04:05:05Z",
)
FACTS = (
    "<div><dt>Trained for</dt><dd>1 h 0 min</dd></div>"
    "<div><dt>Queued for</dt><dd>59 s</dd></div>"
    "<div><dt>Created</dt><dd>2026-01-02 03:04:05 UTC</dd></div>"
    "<div><dt>Started</dt><dd>2026-01-02 03:05:05 UTC</dd></div>"
    "<div><dt>Ended</dt><dd>2026-01-02 04:05:05 UTC</dd></div>"
)


class Unshown(Exception):
    """What has no text."""

    def __str__(self) -> str:
        raise LookupError


def shown(value: Any) -> str:
    """Return what a notebook shows of a value, without the style."""
    html: str = value if isinstance(value, str) else value._repr_html_()
    return re.sub(r"<style>[^<]*</style>", "", html)


class Tags(HTMLParser):
    """The tags of a piece of HTML, each of which must be closed, and what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: List[str] = []
        self.loaded: List[str] = []
        self._open: List[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.seen.append(tag)
        self._open.append(tag)
        names = {name for name, _ in attrs}
        self.loaded += names & {"src", "href", "xlink:href", "data", "srcset"}
        assert not [name for name in names if name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def is_safe(html: str) -> bool:
    tags = Tags(html)
    bad = {"script", "img", "link", "iframe", "object", "b", "i"}
    return not bad & set(tags.seen) and not tags.loaded and not set(html) & {"\x1b", "\u202e"}


def history_of(*logs: Dict[str, Any], checkpoints: Tuple[int, ...] = ()) -> History:
    history = History()
    for log in logs:
        history.append(TrainingEvent("training.log", log))
    for step in checkpoints:
        history.append(TrainingEvent("checkpoint.saved", {"step": step}))
    return history


def test_a_job() -> None:
    assert shown(JOB) == (
        '<div class="arkor-card">'
        '<div class="name">support &lt;bot&gt;</div>'
        '<span class="status good">completed</span> <span class="id">job-1</span>'
        "<dl>"
        "<div><dt>Model</dt><dd>unsloth/gemma-4-E4B-it</dd></div>"
        "<div><dt>Created</dt><dd>2026-01-02 03:04:05 UTC</dd></div>"
        "<div><dt>Started</dt><dd>2026-01-02 03:05:05 UTC</dd></div>"
        "<div><dt>Ended</dt><dd>2026-01-02 04:05:05 UTC</dd></div>"
        "</dl></div>"
    )


def test_a_result() -> None:
    result = TrainingResult(JOB, [{"pathname": "a"}], Metrics(1.23456, 100, 3600.0))
    assert shown(result) == (
        '<div class="arkor-card">'
        '<div class="name">support &lt;bot&gt;</div>'
        '<span class="status good">completed</span> <span class="id">job-1</span>'
        "<dl>"
        "<div><dt>Final train loss</dt><dd>1.235</dd></div>"
        "<div><dt>Steps</dt><dd>100</dd></div>"
        f"{FACTS}"
        "<div><dt>Artifacts</dt><dd>1</dd></div>"
        "</dl></div>"
    )


@pytest.mark.parametrize(
    ("status", "stop_reason", "error", "expected"),
    [
        (
            "failed",
            None,
            None,
            '"status bad">failed</span> <span class="id">job-1</span><div class="reason">x',
        ),
        ("running", None, None, '"status other">running</span> <span class="id">job-1</span><div'),
        (
            "cancelled",
            "too slow",
            None,
            '"status other">stopped</span> <span class="id">job-1</span><div',
        ),
        (
            "running",
            None,
            RunAborted(f"stopped; {still_runs('job-1')}", "lunch"),
            '"status bad">aborted</span> <span class="id">job-1</span>'
            '<div class="reason">lunch; the job goes on</div>',
        ),
        (  # the cloud had said that it cancels the job
            "running",
            None,
            RunAborted("stopped following job job-1", "lunch"),
            '<div class="reason">lunch</div>',
        ),
        (
            "running",
            None,
            RunAborted("stopped following job job-1", Unshown()),
            '<div class="reason">(a Unshown whose text cannot be made: LookupError)</div>',
        ),
        (
            "running",
            None,
            Unshown(),
            "ended with Unshown: (a Unshown whose text cannot be made: LookupError)</div>",
        ),
        (
            "completed",
            None,
            LookupError("<lost>"),
            '"status bad">completed</span> <span class="id">job-1</span>'
            '<div class="reason">the run ended with LookupError: &lt;lost&gt;</div>',
        ),
    ],
)
def test_however_a_run_ended_it_is_said(
    status: str, stop_reason: Optional[str], error: Optional[BaseException], expected: str
) -> None:
    job = dataclasses.replace(JOB, status=status, error="x")
    result = TrainingResult(job, stop_reason=stop_reason) if stop_reason else None
    assert expected in run_html(job, result, error, [])


def test_a_run_with_its_curve() -> None:
    logs = [{"step": 2, "loss": 1.0, "evalLoss": 2.0}, {"step": 1, "loss": 3.0}]
    html = run_html(JOB, None, None, logs, [2])
    for expected in (
        "<dt>Final train loss</dt><dd>1</dd>",
        "<dt>Best eval loss</dt><dd>2 at step 2</dd>",
        "<dt>Steps</dt><dd>2</dd>",
        "<dt>Checkpoints</dt><dd>1</dd>",
        "<title>support &lt;bot&gt;: loss over 2 steps that were logged, completed</title>",
        ">train loss</text>",
        ">eval loss</text>",
        ">checkpoint</text>",
    ):
        assert expected in html, expected
    assert "no loss has been logged" in run_html(JOB, None, None, [])


@pytest.mark.parametrize("status", ["running", "failed", "cancelled"])
def test_the_last_loss_of_a_job_that_has_not_completed_is_not_called_final(status: str) -> None:
    job = dataclasses.replace(JOB, status=status)
    html = run_html(job, None, RunAborted("stopped"), [{"step": 1, "loss": 3.0}])
    assert "<dt>Last train loss</dt><dd>3</dd>" in html
    assert "Final" not in html


def test_a_history() -> None:
    history = history_of(
        {"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5, "learningRate": 0.1}, checkpoints=(2,)
    )
    assert "<title>History: loss over 2 steps that were logged</title>" in shown(history)
    html = shown(history)
    assert html.startswith(
        '<div class="arkor-card"><div class="name">History</div>'
        "<dl><div><dt>Steps</dt><dd>2</dd></div><div><dt>Checkpoints</dt><dd>1</dd></div></dl>"
        '<div class="arkor-live"><svg '
    )
    assert html.endswith(
        "</svg></div><details><summary>2 steps</summary>"
        '<div class="wide"><table class="figures">'
        "<thead><tr><th>step</th><th>loss</th><th>learning rate</th></tr></thead><tbody>"
        "<tr><td>1</td><td>2</td><td></td></tr><tr><td>2</td><td>1.5</td><td>0.1</td></tr>"
        "</tbody></table></div></details></div>"
    )
    assert "no loss has been logged" in shown(History())
    assert "<table" not in shown(History())


def test_a_long_history_does_not_fill_the_notebook() -> None:
    logs = [{"step": step, "loss": 1 / step} for step in range(1, 5001)]
    html = history_html(logs, range(1, 5001))
    assert re.search(r"<summary>\d+ of 5000 steps</summary>", html)
    assert html.count("<tr>") <= 201
    assert len(html) < 200_000
    assert is_safe(html)


def test_nothing_that_others_wrote_acts_on_the_notebook() -> None:
    config = {"model": HOSTILE, "<b>": HOSTILE}
    job = TrainingJob(*[HOSTILE] * 5, config, *[HOSTILE] * 4)
    result = TrainingResult(job, [HOSTILE], stop_reason=HOSTILE)
    error = CloudApiError(500, HOSTILE)
    for html in (
        job._repr_html_(),
        result._repr_html_(),
        run_html(job, result, error, [{"step": 1, "loss": 1.0, HOSTILE: HOSTILE}], [1]),
        chart_html(Chart(HOSTILE, HOSTILE, {})),
        card_html(HOSTILE, [(HOSTILE, HOSTILE)], more=table_html([HOSTILE], [[HOSTILE]], "a")),
    ):
        assert ESCAPED in html
        assert is_safe(html)


@given(st.text(), st.text(), st.text())
def test_any_text_leaves_the_html_whole(name: str, status: str, reason: str) -> None:
    job = dataclasses.replace(JOB, name=name, status=status, error=reason, id=name)
    Tags(run_html(job, None, None, [{"step": 1, "loss": 1.0}]))
    Tags(job._repr_html_())


def test_no_secret_is_shown() -> None:
    reason = "GET https://me:hush@host/data.jsonl?sig=hush: tok\x1b[0men=hush12"
    job = dataclasses.replace(JOB, status="failed", error=reason)
    result = TrainingResult(job, stop_reason=reason)
    error = OSError(reason)
    for html in (
        job._repr_html_(),
        result._repr_html_(),
        run_html(job, None, None, []),
        run_html(job, None, error, []),
    ):
        assert "https://host/data.jsonl" in html
        assert "token=[hidden]" in html
        assert "hush" not in html


def test_a_long_text_does_not_fill_the_notebook() -> None:
    long = "n" * 100_000
    job = dataclasses.replace(JOB, name=long, id=long, error=long, config={"model": long})
    assert len(job._repr_html_()) < 10_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chart_follows_the_theme_of_the_notebook_or_of_the_system(theme: str) -> None:
    html = chart_html(Chart("a", "running", {}))
    [style] = re.findall(r"<style>(.*?)</style>", html)
    colors = "".join(f"--arkor-{role}:{color};" for role, color in PALETTES[theme].items())
    assert style.count(colors) == 2
    assert f"[data-jp-theme-light={str(theme == 'light').lower()}]" in style
    assert ("@media(prefers-color-scheme:dark){.arkor-live{" + colors in style) is (theme == "dark")
    for role in PALETTES[theme]:
        assert f".arkor-live .{role}{{color:var(--arkor-{role})}}" in style
    assert "url(" not in style
    assert "@import" not in style


def luminance(color: str) -> float:
    """Return the relative luminance of a colour, as WCAG defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("tone", ["good", "bad", "other"])
@pytest.mark.parametrize("paper", ["#ffffff", "#111111"])
def test_the_colour_of_a_status_can_be_seen_on_light_and_on_dark(tone: str, paper: str) -> None:
    color = re.findall(rf"\.{tone}{{border-color:(#\w+)}}", JOB._repr_html_())[0]
    darker, lighter = sorted((luminance(color), luminance(paper)))
    assert (lighter + 0.05) / (darker + 0.05) > 3  # the least for what is no text, by WCAG
