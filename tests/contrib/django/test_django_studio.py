"""Studio below a path of a site, with the site's login."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import AsyncRequestFactory, Client
from django.test.utils import override_settings
from django.urls import path, reverse

from arkor_sync import ArkorUsageError
from arkor_sync.contrib.django.studio import studio_urls
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.ending import ends_with_us
from support.extras import need, need_extra
from support.studio_routes import form_token_of
from support.waiting import PATIENCE, until

need_extra("studio")

HERE = Path(__file__).parent


@pytest.fixture
def with_studio(site: str) -> Iterator[None]:
    """Have the site use its URLs with Studio."""
    with override_settings(ROOT_URLCONF="django_studio_urls"):
        yield


def client_of(*permissions: str) -> Client:
    user = User.objects.create(username=f"with {permissions}")
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


def submitted(arkor: Emulator) -> str:
    return arkor.create_job(ScriptedEngine(steps=3, manual=True), name="bot")


def text_of(answer: Any) -> str:
    return bytes(answer.content).decode()


@pytest.mark.usefixtures("with_studio", "arkor")
def test_who_is_not_signed_in_comes_back_after_the_login() -> None:
    answer = Client().get("/arkor/jobs?q=x", headers={"accept": "text/html"})
    assert answer.status_code == 302
    assert answer["Location"] == "/accounts/login/?next=/arkor/jobs%3Fq%3Dx"
    assert Client().post("/arkor/jobs/x/cancel").status_code == 401
    assert Client().get("/arkor/live", headers={"accept": "text/event-stream"}).status_code == 401
    assert client_of().get("/arkor/").status_code == 403
    assert reverse("arkor_studio:overview") == "/arkor/"


@pytest.mark.usefixtures("with_studio")
def test_a_reader_reads_and_an_editor_changes(arkor: Emulator) -> None:
    job_id = submitted(arkor)
    change = f"/arkor/jobs/{job_id}/cancel"
    reader, editor = client_of("view_run"), client_of("view_run", "change_run")
    form = {"form_token": form_token_of(text_of(reader.get("/arkor/")))}
    assert reader.post(change, form).status_code == 403
    assert editor.post(change, form).status_code == 403, "the token of somebody else"
    assert arkor.jobs[job_id].status != "cancelled"
    form = {"form_token": form_token_of(text_of(editor.get("/arkor/")))}
    multipart = editor.post(change, form)
    assert (multipart.status_code, multipart["Location"]) == (303, f"/arkor/jobs/{job_id}")
    assert arkor.jobs[job_id].status == "cancelled"
    urlencoded = editor.post(
        change, "form_token=" + form["form_token"], "application/x-www-form-urlencoded"
    )
    assert urlencoded.status_code != 403


@pytest.mark.usefixtures("with_studio", "arkor")
def test_all_links_and_files_are_below_the_prefix() -> None:
    reader = client_of("view_run")
    answer = reader.get("/arkor/")
    cookie = answer.cookies["arkor_studio_form"]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/arkor", True, "Lax")
    urls = re.findall('(?:href|src|data-root|action)="([^"#]*)"', text_of(answer))
    assert "/arkor/static/page.js" in urls
    for url in urls:
        assert url.startswith("/arkor/")
        assert reader.get(url).status_code == 200, url
    answer = reader.get("/arkor/static/page.js")
    known = {"if-none-match": answer["ETag"]}
    with contextlib.closing(reader.get("/arkor/static/page.js", headers=known)) as found:
        assert found.status_code == 304
    assert reader.head("/arkor/static/page.js")["Content-Length"] == answer["Content-Length"]


@pytest.mark.usefixtures("with_studio", "arkor")
def test_its_own_checks_hold_where_those_of_django_are_left_out() -> None:
    editor = client_of("view_run", "change_run")
    form = {"form_token": form_token_of(text_of(editor.get("/arkor/")))}
    for headers in ({"origin": "http://evil.invalid"}, {"sec-fetch-site": "cross-site"}):
        assert editor.post("/arkor/jobs/x/cancel", form, headers=headers).status_code == 403
    with override_settings(ALLOWED_HOSTS=["example.invalid"]):
        assert editor.get("/arkor/").status_code == 400
        assert editor.get("/arkor/", headers={"host": "example.invalid"}).status_code == 200
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        behind = {"x-forwarded-proto": "https", "host": "a.test", "origin": "https://a.test"}
        assert editor.post("/arkor/jobs/x/cancel", form, headers=behind).status_code != 403
        other = {**behind, "origin": "http://a.test"}
        assert editor.post("/arkor/jobs/x/cancel", form, headers=other).status_code == 403


def test_it_needs_a_function_that_decides() -> None:
    with pytest.raises(ArkorUsageError, match="authorize"):
        studio_urls(None)  # type: ignore[arg-type]


# -- the adapter, with an application of a few lines ----------------------------------------------


Wsgi = Callable[[Dict[str, Any], Any], Any]


@pytest.fixture
def mounted(
    site: str, arkor: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Wsgi], None]]:
    """Mount another application instead of Studio, in a site with transactions of requests."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    urls = types.ModuleType("urls_of_the_test")

    def mount(application: Wsgi) -> None:
        monkeypatch.setattr("arkor_sync.studio.create_app", lambda *_, **__: application)
        urls.urlpatterns = [  # type: ignore[attr-defined]
            path("some where/é/", studio_urls(lambda request, changes: True))
        ]

    with override_settings(ROOT_URLCONF=urls):
        yield mount


class Chunks(List[bytes]):
    """The body of an answer, which says whether it was closed."""

    closed = False

    def __init__(self) -> None:
        super().__init__([b"o", b"k"])

    def close(self) -> None:
        self.closed = True


class Stream:
    """An application that streams, and says what the database was doing."""

    def __init__(self) -> None:
        self.connected: List[bool] = []
        self.closed = False

    def __call__(self, environ: Dict[str, Any], start: Any) -> Any:
        assert not connection.in_atomic_block
        start("200 OK", [("Content-Type", "text/event-stream"), ("X-Own", "1")])
        return self

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.connected.append(connection.connection is not None)
            yield b"data: x\n\n"

    def close(self) -> None:
        self.closed = True


def test_a_stream_holds_neither_a_transaction_nor_a_connection(mounted: Any) -> None:
    stream = Stream()
    mounted(stream)
    reader = client_of()
    answer = reader.get("/some where/é/live")
    assert answer.streaming
    assert (answer["X-Own"], answer["Content-Encoding"]) == ("1", "identity")
    chunks = iter(answer)
    assert [next(chunks), next(chunks)] == [b"data: x\n\n"] * 2
    assert stream.connected == [False, False]
    answer.close()
    assert stream.closed


def test_a_stream_that_nobody_reads_is_closed(mounted: Any) -> None:
    stream = Stream()
    mounted(stream)
    Client().get("/some where/é/live").close()
    assert stream.closed
    assert stream.connected == []


def test_over_asgi_an_answer_is_whole(mounted: Any) -> None:
    from django.urls import resolve

    def application(environ: Dict[str, Any], start: Any) -> Any:
        start("200 OK", [("Content-Type", "application/jsonl")])
        return Chunks()

    mounted(application)
    found = resolve("/some where/é/chat")
    request = AsyncRequestFactory().get("/some where/é/chat")
    answer = found.func(request, *found.args, **found.kwargs)
    assert (answer.streaming, answer.content) == (False, b"ok")


def test_the_application_is_told_of_the_request_as_wsgi_says(mounted: Any) -> None:
    seen: Dict[str, Any] = {}
    chunks = Chunks()

    def application(environ: Dict[str, Any], start: Any) -> Any:
        seen.update(environ, body=environ["wsgi.input"].read())
        cookies = ("a=1; Path=/x; HttpOnly", "b=2; SameSite=Lax; Secure")
        start("201 Created", [("Content-Length", "2"), *(("Set-Cookie", each) for each in cookies)])
        return chunks

    mounted(application)
    answer = Client().post(
        "/some where/é/a/ü//b?c=%20", b"\xff\x00", "application/octet-stream", SCRIPT_NAME="/site"
    )
    raw = "é".encode().decode("latin-1")
    assert seen["SCRIPT_NAME"] == f"/site/some where/{raw}"
    assert seen["PATH_INFO"] == "/a/" + "ü".encode().decode("latin-1") + "//b"
    assert (seen["QUERY_STRING"], seen["body"], seen["CONTENT_LENGTH"]) == (
        "c=%20",
        b"\xff\x00",
        "2",
    )
    assert chunks.closed
    assert (answer.status_code, answer.content) == (201, b"ok")
    assert "Content-Type" not in answer
    assert (answer.cookies["a"]["path"], answer.cookies["a"]["httponly"]) == ("/x", True)
    assert (answer.cookies["b"]["samesite"], answer.cookies["b"]["secure"]) == ("Lax", True)


# -- servers --------------------------------------------------------------------------------------


SERVERS = {
    "gunicorn gthread": [
        *("-m", "gunicorn", "django_studio_urls:application", "-b", "127.0.0.1:0"),
        *("-w", "2", "-k", "gthread", "--threads", "8"),
    ],
    "runserver": ["django_studio_urls.py", "127.0.0.1:0"],
}


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_web_servers_serve_it_with_its_stream(
    server: str, site: str, arkor: Emulator, tmp_path: Path
) -> None:
    need("gunicorn")
    job_id = submitted(arkor)
    editor = client_of("view_run", "change_run")
    log = tmp_path / "web.log"
    environment = {
        **os.environ,
        **arkor.environment(),
        "STUDIO_DATABASE": str(connection.settings_dict["NAME"]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        ),
    }
    with log.open("wb") as output:
        web = subprocess.Popen(
            ends_with_us([sys.executable, *SERVERS[server]]),
            cwd=HERE, env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        url = until(lambda: re.search(r"http://127\.0\.0\.1:[1-9]\d*", log.read_text()))[0]
        with requests.Session() as session:
            session.trust_env = False
            session.cookies.set("sessionid", editor.cookies["sessionid"].value)
            for _ in range(8):  # whichever process answers
                page = session.get(f"{url}/arkor/jobs", timeout=PATIENCE)
                assert page.status_code == 200, log.read_text()
            live = f"{url}/arkor/live?watch=job:{job_id}:0"
            assert session.get(live, timeout=PATIENCE).status_code == 429, "its pages poll"
            arkor.step(job_id, 2)
            until(lambda: session.get(f"{live}&poll=1", timeout=PATIENCE).json()[0]["logs"])
            logs = f"{url}/arkor/jobs/{job_id}/logs.csv"
            with session.get(logs, stream=True, timeout=PATIENCE) as answer:
                assert "Content-Length" not in answer.headers
                assert len(list(answer.iter_lines())) == 2
            form = {"form_token": form_token_of(page.text)}
            cancelled = session.post(
                f"{url}/arkor/jobs/{job_id}/cancel", form, allow_redirects=False, timeout=PATIENCE
            )
            assert cancelled.status_code == 303
            until(lambda: arkor.open_streams == [])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(web.pid, signal.SIGKILL)
        web.wait()
    assert "Traceback" not in log.read_text(), log.read_text()
