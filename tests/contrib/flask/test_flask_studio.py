"""Studio below a path of an application, with the application's login."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import requests
from test_flask_servers import process

from arkor_sync import ArkorUsageError
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need, need_extra
from support.studio_routes import form_token_of
from support.waiting import PATIENCE, until

need_extra("flask")
need_extra("studio")

from flask import Flask  # noqa: E402
from studio_site import make_app  # noqa: E402

from arkor_sync.contrib.flask import Arkor  # noqa: E402

Configure = Callable[..., Flask]


@pytest.fixture
def settings(emu: Emulator) -> Dict[str, Any]:
    return {
        "ARKOR_BASE_URL": emu.url,
        "ARKOR_TOKEN": emu.token,
        "ARKOR_PROJECT": f"{emu.org_slug}/{emu.project_slug}",
    }


@pytest.fixture
def web(settings: Dict[str, Any]) -> Any:
    """A browser of the site."""
    return make_app(**settings).test_client()


@pytest.fixture
def job_id(emu: Emulator) -> str:
    return emu.create_job(ScriptedEngine(steps=3, manual=True), name="bot")


def sign_in(web: Any, user: str) -> None:
    assert web.post("/login", data={"user": user}).status_code == 302


def test_who_is_not_signed_in_comes_back_after_the_login(web: Any) -> None:
    answer = web.get("/arkor/jobs?q=x", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.location) == (302, "/login?next=/arkor/jobs?q%3Dx")
    answer = web.post(answer.location, data={"user": "reader"})
    assert answer.location == "/arkor/jobs?q=x"
    assert web.get(answer.location).status_code == 200
    assert web.get("/").text == "the site's own page"
    assert web.get("/arkor").status_code in (200, 308)


def test_a_reader_reads_and_an_editor_changes(web: Any, emu: Emulator, job_id: str) -> None:
    change = f"/arkor/jobs/{job_id}/cancel"
    assert web.post(change).status_code == 401
    sign_in(web, "somebody else")
    assert web.get("/arkor/").status_code == 403
    sign_in(web, "reader")
    form = {"form_token": form_token_of(web.get("/arkor/").text)}
    assert web.post(change, data=form).status_code == 403
    assert emu.jobs[job_id].status != "cancelled"
    sign_in(web, "editor")
    assert web.post(change).status_code == 403, "without the token"
    answer = web.post(change, data=form)
    assert (answer.status_code, answer.location) == (303, f"/arkor/jobs/{job_id}")
    assert emu.jobs[job_id].status == "cancelled"


def test_all_links_and_files_are_below_the_prefix(web: Any) -> None:
    sign_in(web, "reader")
    answer = web.get("/arkor/")
    assert "; Path=/arkor;" in answer.headers["Set-Cookie"]
    for url in re.findall('(?:href|src|data-root|action)="([^"#]*)"', answer.text):
        assert url.startswith("/arkor/")
        assert web.get(url, buffered=True).status_code == 200, url


def test_a_form_of_one_process_works_in_another(
    settings: Dict[str, Any], emu: Emulator, job_id: str
) -> None:
    one, other = (make_app(**settings).test_client() for _ in range(2))
    sign_in(one, "editor")
    token = form_token_of(one.get("/arkor/").text)
    for cookie in (one.get_cookie("session"), one.get_cookie("arkor_studio_form", path="/arkor")):
        other.set_cookie(cookie.key, cookie.value, path=cookie.path)
    answer = other.post(f"/arkor/jobs/{job_id}/cancel", data={"form_token": token})
    assert answer.status_code == 303
    assert emu.jobs[job_id].status == "cancelled"


def test_the_login_of_a_site_that_is_itself_mounted_is_found(web: Any) -> None:
    answer = web.get("/arkor/", base_url="http://localhost/shop", headers={"Accept": "text/html"})
    assert answer.location == "/shop/login?next=/arkor/?"
    web.post("/login", base_url="http://localhost/shop", data={"user": "reader"})
    assert 'href="/shop/arkor/jobs"' in web.get("/arkor/", base_url="http://localhost/shop").text


def test_asking_the_login_leaves_no_context_and_no_session_of_the_database(
    configure: Configure,
) -> None:
    from flask import current_app, g, has_request_context

    ended = []

    def may(asked: Any, changes: bool) -> bool:
        assert current_app.name == "shop"
        assert not hasattr(g, "form_token")
        return asked.path == "/arkor/jobs"

    app = configure()
    app.teardown_appcontext(lambda error: ended.append(error))
    Arkor(app).mount_studio(app, "/arkor/", authorize=may)
    assert app.test_client().get("/arkor/jobs").status_code == 200
    assert app.test_client().get("/arkor/").status_code == 403
    assert ended == [None, None]
    assert not has_request_context()


@pytest.mark.parametrize("prefix", ["", "/", "arkor", "//", "/a b", "/é", "/a//b", None, b"/a"])
def test_a_prefix_that_cannot_work_is_refused(configure: Configure, prefix: Any) -> None:
    app = configure()
    with pytest.raises(ArkorUsageError, match="prefix"):
        Arkor(app).mount_studio(app, prefix, authorize=lambda asked, changes: True)


def test_it_needs_an_authorize_and_an_application_that_knows_it(configure: Configure) -> None:
    app = configure()
    with pytest.raises(ArkorUsageError, match=r"init_app\(app\) first"):
        Arkor().mount_studio(app, "/arkor", authorize=lambda asked, changes: True)
    with pytest.raises(ArkorUsageError, match="authorize"):
        Arkor(app).mount_studio(app, "/arkor", authorize=None)  # type: ignore[arg-type]


SERVERS = {
    "gunicorn gthread": [
        *("gunicorn", "studio_site:make_app()", "-b", "127.0.0.1:0", "-w", "2"),
        *("-k", "gthread", "--threads", "8", "--preload"),
    ],
    "waitress": ["waitress", "--listen", "127.0.0.1:0", "--call", "studio_site:make_app"],
}


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_web_servers_serve_it_with_its_stream(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emu: Emulator, job_id: str
) -> None:
    need(SERVERS[server][0])
    for name, value in emu.environment().items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "web.log"
    with process(log, *SERVERS[server]), requests.Session() as web:
        web.trust_env = False
        url = until(lambda: re.search(r"http://127\.0\.0\.1:[1-9]\d*", log.read_text()))[0]
        web.post(f"{url}/login", data={"user": "editor"}, timeout=PATIENCE)
        for _ in range(8):  # whichever process answers
            page = web.get(f"{url}/arkor/jobs", timeout=PATIENCE)
            assert page.status_code == 200
        live = f"{url}/arkor/live?watch=job:{job_id}:0"
        assert web.get(live, timeout=PATIENCE).status_code == 429, "its pages poll"
        emu.step(job_id, 2)
        until(lambda: web.get(f"{live}&poll=1", timeout=PATIENCE).json()[0]["logs"])
        logs = f"{url}/arkor/jobs/{job_id}/logs.csv"
        with web.get(logs, stream=True, timeout=PATIENCE) as answer:
            assert "Content-Length" not in answer.headers
            assert len(list(answer.iter_lines())) == 2
        form = {"form_token": form_token_of(page.text)}
        cancelled = web.post(
            f"{url}/arkor/jobs/{job_id}/cancel", data=form, allow_redirects=False, timeout=PATIENCE
        )
        assert cancelled.status_code == 303
        until(lambda: emu.open_streams == [])
    assert "Traceback" not in log.read_text()
