"""What a hostile page, name or request can do: nothing. Most of it with bytes on a real socket."""

from __future__ import annotations

import logging
import re
import socket
from typing import Any, Dict, Tuple

import pytest

from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need_extra
from support.studio_routes import SECRET, add_routes, form_token_of
from support.waiting import PATIENCE

need_extra("studio")

from arkor_sync.studio import create_app  # noqa: E402
from arkor_sync.studio.app import LARGEST_BODY, POLICY  # noqa: E402
from arkor_sync.studio.server import StudioServer  # noqa: E402

EVIL = "<script>alert(1)<script>\"'&\u202e"


@pytest.fixture
def client(emulator: Emulator) -> Any:
    return add_routes(create_app(emulator.client(), authorize=lambda environ, changes: True))


def say(server: Any, request: bytes) -> Tuple[int, Dict[str, str], bytes]:
    """Send the bytes of a request; return status, headers and body of the answer."""
    port = int(server.url.split(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(request.replace(b"PORT", str(port).encode()))
        answer = b""
        for part in iter(lambda: sock.recv(65536), b""):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): each for name, each in headers.items()}, body


def get(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", *headers]
    if not any(each.startswith("Host:") for each in headers):
        lines.insert(1, "Host: 127.0.0.1:PORT")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@pytest.fixture
def cookie(server: Any) -> str:
    """Open the URL, and return the header with the cookie."""
    path = "/" + server.url.partition("/?")[2].join(["?", ""])
    status, headers, _ = say(server, get(path))
    assert (status, headers["location"]) == (302, "/")
    return f"Cookie: {headers['set-cookie'].partition(';')[0]}"


# -- what every answer says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/jobs/nothing", None),
        ("/not/there", 404),
        ("/static/page.js", 200),
        ("/static/not-there.js", 404),
        ("/test/mistake", 500),
        ("/test/cloud/x", 409),
        ("//jobs", 308),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_every_answer_keeps_markup_from_doing_anything(
    client: Any, path: str, status: Any, method: str
) -> None:
    answer = client.open(path, method=method, buffered=True)
    if method != "OPTIONS" and status is not None:
        assert answer.status_code == status
    headers = answer.headers
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == ("no-cache" if path.startswith("/static") else "no-store")
    assert not [name for name, _ in headers if name.startswith("Access-Control")]


def test_the_policy_allows_no_inline_script_no_other_host_and_no_frame() -> None:
    rules = dict(each.strip().split(" ", 1) for each in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["form-action"] == "'self'"


def test_a_mistake_in_a_page_shows_nothing_even_when_the_environment_asks_for_it(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    client = add_routes(create_app(emulator.client(), authorize=lambda environ, changes: True))
    client.application.testing = True
    with caplog.at_level(logging.ERROR):
        answer = client.get(f"/test/mistake?q={SECRET}-of-the-url")
    assert answer.status_code == 500
    assert answer.mimetype == "text/plain"
    assert SECRET not in answer.text
    assert "Traceback (most recent call last)" in caplog.text
    assert "of-the-url" not in caplog.text
    asked = client.get("/test/mistake", headers={"Accept": "application/json"})
    assert "log" in asked.json["error"]


def test_names_and_errors_are_shown_as_text(client: Any) -> None:
    for path in (f"/test/cloud/{EVIL}", f"/not/there/{EVIL}", f"/jobs?q={EVIL}"):
        answer = client.get(path)
        assert "<script>alert" not in answer.text
    shown = client.get(f"/test/cloud/{EVIL}").text
    assert "the cloud says &lt;script&gt;alert(1)" in shown
    answer = client.get(f"/test/cloud/{EVIL}", headers={"Accept": "application/json"})
    assert answer.mimetype == "application/json"
    assert answer.json == {"error": f"409: the cloud says {EVIL}"}


# -- another tab ----------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/", "/jobs", "/static/page.js", "/live", "/not/there"])
def test_another_site_may_link_here_and_load_nothing(client: Any, site: str, path: str) -> None:
    """`same-site` is another port of the loopback: cookies are sent there, too."""
    for mode, destination in (
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("cors", "empty"),
        ("navigate", "iframe"),
        ("navigate", "object"),
        ("websocket", "websocket"),
    ):
        headers = {
            "Sec-Fetch-Site": site,
            "Sec-Fetch-Mode": mode,
            "Sec-Fetch-Dest": destination,
        }
        assert client.get(path, headers=headers).status_code == 403
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/jobs", headers=headers).status_code == 200


def test_a_preflight_is_not_answered_with_a_permission(client: Any) -> None:
    asked = {
        "Origin": "http://evil.invalid",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-Arkor-Form",
    }
    answer = client.options("/test/change", headers=asked)
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


# -- bytes ----------------------------------------------------------------------------------------


def test_the_token_is_nowhere_but_in_the_cookie(
    server: Any, cookie: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = server.url.partition("token=")[2]
    with caplog.at_level(logging.DEBUG):
        for path in (
            "/",
            "/not/there",
            f"/jobs/{EVIL}".encode().decode("latin-1"),
            "/jobs?token=x",
        ):
            _, headers, body = say(server, get(path, cookie))
            assert token not in body.decode()
            assert token not in str(headers)
        say(server, get(f"/jobs?token={token}"))
    assert token not in caplog.text
    assert token not in repr(server)


@pytest.mark.parametrize(
    "host", ["evil.invalid:PORT", "127.0.0.1:1", "127.0.0.1:PORT, evil.invalid"]
)
def test_a_name_that_leads_here_is_not_enough(server: Any, cookie: str, host: str) -> None:
    status, headers, body = say(server, get("/", cookie, f"Host: {host}"))
    assert status == 403
    assert headers["content-security-policy"] == POLICY
    assert b"<nav" not in body
    status, _, _ = say(
        server, get("/", cookie, f"Host: {host}", "X-Forwarded-Host: 127.0.0.1:PORT")
    )
    assert status == 403


def test_a_request_without_a_name_is_refused(server: Any, cookie: str) -> None:
    request = f"GET / HTTP/1.0\r\n{cookie}\r\n\r\n".encode()
    assert say(server, request)[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/..%5capp.py",
        "/static/%2fetc/passwd",
        "/static//etc/passwd",
        "/static/....//app.py",
        "/static/page.js%00.css",
        "/static/",
        "/static/%ff",
    ],
)
def test_there_is_nothing_but_our_files_below_static(server: Any, cookie: str, path: str) -> None:
    status, _, body = say(server, get(path, cookie))
    assert status in (308, 404)
    assert b"import" not in body
    assert b"root:" not in body


@pytest.mark.parametrize(
    "path",
    ["/%", "/%zz", "/%ff%fe", "/jobs/%00", "/jobs?x=%ff&y=%", "/jobs?%ED%A0%80=%ED%A0%80", "/é"],
)
def test_a_bad_encoding_is_no_mistake(server: Any, cookie: str, path: str) -> None:
    status, headers, _ = say(server, get(path, cookie))
    assert status in (200, 400, 404)
    assert status == 400 or headers["content-security-policy"] == POLICY


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_huge_body_is_refused_before_it_is_read(server: Any, cookie: str, accept: str) -> None:
    for length in (f"Content-Length: {LARGEST_BODY + 1}", "Content-Length: 99999999999999999999"):
        status, _, _ = say(server, get("/test", cookie, length, f"Accept: {accept}", method="POST"))
        assert status == 413


def test_a_huge_body_is_refused_where_it_is_mounted(client: Any) -> None:
    token = form_token_of(client.get("/test/form").text)
    body = b"x" * (LARGEST_BODY + 1)
    answer = client.post("/test/change", data=body, headers={"X-Arkor-Form": token})
    assert answer.status_code == 413
    form = {"form_token": token, "more": "x" * LARGEST_BODY}
    assert client.post("/test/change", data=form).status_code == 413


def test_each_chunked_body_ends_somewhere(server: Any, cookie: str) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    body = chunk * (LARGEST_BODY // 0x10000 + 2)
    request = get("/jobs", cookie, "Transfer-Encoding: chunked", method="POST", body=body)
    try:
        status, _, _ = say(server, request)
    except ConnectionError:  # it was closed while more was sent
        return
    assert status == 413


def test_a_port_that_is_taken_leaves_no_socket(server: Any, emulator: Emulator) -> None:
    port = int(server.url.split(":")[2].partition("/")[0])
    with pytest.raises(OSError, match="Address already in use"):
        StudioServer(emulator.client(), port=port)


def test_no_parameter_of_an_url_is_a_mistake_of_ours(emulator: Emulator, client: Any) -> None:
    """Each page, with what no page of ours asks for."""
    job_id = emulator.create_job(ScriptedEngine(steps=3), name=EVIL)
    emulator.wait_for(lambda: emulator.jobs[job_id].status == "completed")
    rules = [
        each
        for each in client.application.url_map.iter_rules()
        if "GET" in each.methods and not each.endpoint.startswith(("static", "of_the_test"))
    ]
    names = (
        *("job", "step", "base", "x", "from", "to", "count", "filter", "watch", "poll", "created"),
        *("q", "sort", "status", "page", "to_compare", "a", "b", "target", "retention"),
    )
    hostile = ("", "nan", "inf", "-1e999", "9" * 5000, "-1", EVIL, "%ff", "\0", "job:x:0", "٣")
    for rule in rules:
        for text in hostile:
            path = re.sub("<job_id>", job_id, rule.rule)
            path = re.sub("<[^>]*>", "x", path)
            query = [(name, text) for name in names]
            query += [("watch", f"job:{job_id}:{text}"), ("job", job_id), ("poll", "1")]
            answer = client.get(path, query_string=query, buffered=True)
            assert answer.status_code < 500, f"{path} {text} {answer.text}"
            assert "<script>alert" not in answer.text or answer.mimetype != "text/html"
