"""The overview: mounted it shows jobs and who asks; on the loopback it also runs the trainer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.extras import need_extra
from support.projects import write_project
from support.waiting import until

HOSTILE = "<script>alert(1)</script>"


class Browser:
    """A browser without scripts, on a server's application."""

    def __init__(self, web: Any, base: str) -> None:
        self._web = web
        self._base = base

    def get(self, path: str = "/") -> Any:
        return self._web.get(path, base_url=self._base)

    def text(self) -> str:
        answer = self.get()
        assert answer.status_code == 200
        return str(answer.text)

    def post(self, path: str, **fields: Any) -> Any:
        token = re.search(r'data-form-token="([^"]+)"', self.text())
        assert token
        form = {"form_token": token[1], **fields}
        return self._web.post(path, data=form, base_url=self._base)

    def until(self, text: str) -> str:
        found: List[str] = []
        until(lambda: found.append(self.text()) or text in found[-1])
        return found[-1]


@pytest.fixture
def mounted(web: Any) -> Browser:
    """Return a browser on the application as a program mounts it."""
    return Browser(web, "http://localhost")


@pytest.fixture
def here(emulator: Emulator, project: Path) -> Iterator[Browser]:
    """Return a browser on the application of the loopback, with the cookie of its launch."""
    need_extra("studio")
    from arkor_sync.studio.access import Launch
    from arkor_sync.studio.app import build_app
    from arkor_sync.studio.state import KEY

    access = Launch(4000)
    app = build_app(emulator.client(), access, Path("trainer.py"))
    browser = Browser(app.test_client(), "http://127.0.0.1:4000")
    assert browser.get(f"/?token={access.token}").status_code == 302
    yield browser
    app.extensions[KEY].run.close()


# -- mounted --------------------------------------------------------------------------------------


def test_the_newest_five_jobs_are_shown(mounted: Browser, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=1)
    jobs = [emulator.create_job(name=f"bot {number}") for number in range(7)]
    until(lambda: all(emulator.jobs[each].status == "completed" for each in jobs))
    shown = re.findall(r"bot \d", mounted.text())
    assert sorted(shown) == ["bot 2", "bot 3", "bot 4", "bot 5", "bot 6"]


def test_a_project_without_jobs_says_so(mounted: Browser) -> None:
    assert "This project has no jobs yet." in mounted.text()


def test_a_hostile_name_is_text(mounted: Browser, emulator: Emulator) -> None:
    emulator.create_job(ScriptedEngine(silent_at=1), name=HOSTILE)
    text = mounted.text()
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_who_asks_is_shown(mounted: Browser, emulator: Emulator) -> None:
    text = mounted.until("Signed in")
    client = emulator.client()
    org = client.me().orgs[0].slug
    assert str(org) in text
    assert emulator.url in text
    assert "an anonymous identity" in text
    assert emulator.token not in text


def test_a_cloud_that_refuses_is_a_text_on_the_page(mounted: Browser, emulator: Emulator) -> None:
    emulator.faults.add(Fault("status", route="me", status=403, value=HOSTILE, count=None))
    text = mounted.until("403")
    assert HOSTILE not in text
    assert "This project has no jobs yet." in text


def test_a_notice_of_the_cloud_is_shown(
    mounted: Browser, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.cloud.client_version._latest", None)
    emulator.settings.deprecation = "this version is old"
    mounted.text()
    text = mounted.text()
    assert "this version is old" in text


@pytest.mark.parametrize("path", ["/run", "/run/stop"])
def test_mounted_there_is_no_run(mounted: Browser, project: Path, path: str) -> None:
    assert "Trainer" not in mounted.text()
    assert "~/.arkor" not in mounted.text()
    assert mounted.post(path, answer="leave", run=1).status_code == 404
    assert mounted.get("/run/output").status_code == 404


# -- on the loopback ------------------------------------------------------------------------------


def test_the_trainer_is_named_and_run_without_scripts(here: Browser, emulator: Emulator) -> None:
    emulator.engine = ScriptedEngine(steps=2)
    here.until("Run bot</button>")
    assert here.get("/run/output").status_code == 404
    assert re.search(r'<input type="hidden" name="form_token" value="[^"]{40,}">', here.text())
    answer = here.post("/run")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/#run"
    text = here.until("It has ended: all went well.")
    (job,) = emulator.jobs
    assert f"job {job} (bot) is submitted" in text
    assert f'href="/jobs/{job}"' in text
    assert "Run bot</button>" in text
    assert "Stop…" not in text


def test_a_run_can_be_left_or_its_job_cancelled(
    here: Browser, emulator: Emulator, project: Path
) -> None:
    emulator.engine = ScriptedEngine(silent_at=1)
    for number, answer in ((1, "leave"), (2, "cancel")):
        here.post("/run")
        here.until("Cancel the job</button>")
        assert "Run bot</button>" not in here.text()  # one at a time
        here.post("/run/stop", answer=answer, run=number - 1)  # an old page
        assert here.post("/run/stop", answer=answer, run=number).status_code == 303
        until(lambda: not here.get("/run/output").json["running"])
        job = here.get("/run/output").json["job"]
        left = answer == "leave"
        assert emulator.jobs[job].status == ("running" if left else "cancelled")
        said = "It was stopped: the job goes on." if left else "exit code 3: the job was cancelled"
        assert said in here.text()


def test_the_output_is_text_and_is_read_from_a_line_on(here: Browser, project: Path) -> None:
    write_project(project, f"print({HOSTILE!r})\nprint('second')\nraise SystemExit(2)")
    here.post("/run")
    until(lambda: not here.get("/run/output").json["running"])
    news = here.get("/run/output?from=1").json
    assert news["lines"][0] == "second"
    assert news["next"] == 1 + len(news["lines"])
    assert news["state"] == "It has ended with exit code 2: its last lines say why."
    assert HOSTILE not in here.text()
    assert "&lt;script&gt;" in here.text()
    assert here.get(f"/run/output?from={news['next']}").json["lines"] == []
    assert here.get("/run/output?from=nonsense").json["from"] == 0


def test_without_a_file_there_is_no_button(here: Browser, project: Path) -> None:
    (project / "trainer.py").unlink()
    assert "There is no <code>trainer.py</code> in this directory." in here.text()
    assert "</button>\n      <span" not in here.text()
    assert here.post("/run").status_code == 404


def test_a_change_of_the_file_is_seen(here: Browser, project: Path) -> None:
    here.until("Run bot</button>")
    write_project(project, "1 / 0")
    assert "ZeroDivisionError" in here.until("ZeroDivisionError")


def test_nobody_else_starts_anything(here: Browser, project: Path) -> None:
    stranger = Browser(here._web.application.test_client(), "http://127.0.0.1:4000")
    assert stranger._web.post("/run", base_url=stranger._base).status_code == 403
    assert stranger.get("/run/output").status_code == 403
    # With the cookie of the launch, but not from one of its pages.
    assert here._web.post("/run", base_url=here._base).status_code == 403
    assert here.post("/run", form_token="wrong").status_code == 403
    assert here.get("/run").status_code == 405
    assert here.get("/run/output").status_code == 404


def test_the_disk_is_shown_to_who_runs_the_server(here: Browser, project: Path) -> None:
    (project / ".arkor").mkdir()
    (project / ".arkor" / "state.json").write_text("x" * 1234)
    text = here.text()
    assert "1.2 kB" in text
    assert "Free disk" in text
