"""Who may look, and who may change something: at a server of our own, and where it is mounted."""

from __future__ import annotations

import logging
from typing import Any, Iterator, List, Tuple

import pytest

from arkor_sync.emulator import Emulator
from arkor_sync.errors import ArkorUsageError
from support.extras import need_extra
from support.studio_routes import SECRET, add_routes, form_token_of

need_extra("studio")

from arkor_sync.studio import create_app  # noqa: E402
from arkor_sync.studio.access import CSRF_COOKIE, CSRF_FIELD, CSRF_HEADER, Launch  # noqa: E402
from arkor_sync.studio.app import build_app  # noqa: E402

HERE = "http://127.0.0.1:4000"
HTML = {"Accept": "text/html"}
FOR_SCRIPTS = {"Accept": "application/json"}


@pytest.fixture
def access() -> Launch:
    return Launch(4000)


@pytest.fixture
def launch(emulator: Emulator, access: Launch) -> Any:
    """Ask a server of our own."""
    return add_routes(build_app(emulator.client(), access))


@pytest.fixture
def asked() -> List[Tuple[str, bool]]:
    return []


@pytest.fixture
def mounted(emulator: Emulator, asked: List[Tuple[str, bool]]) -> Iterator[Any]:
    """Ask where it is mounted; the header `Says` is what the program answers."""
    answers = {"yes": True, "no": False, "login": "/login?next=x", "reader": None}

    def authorize(environ: Any, changes: bool) -> Any:
        asked.append((environ["PATH_INFO"], changes))
        says = environ.get("HTTP_SAYS", "yes")
        if says == "raises":
            raise RuntimeError(SECRET)
        return not changes if says == "reader" else answers.get(says, says)

    return add_routes(create_app(emulator.client(), authorize=authorize))


# -- a server of our own --------------------------------------------------------------------------


def test_the_url_with_the_token_gives_a_cookie_and_the_token_leaves_the_url(
    launch: Any, access: Launch
) -> None:
    assert launch.get("/jobs", base_url=HERE).status_code == 403
    answer = launch.get(f"/jobs?q=a%20b&token={access.token}&q=%26", base_url=HERE)
    assert (answer.status_code, answer.location) == (302, "/jobs?q=a+b&q=%26")
    cookie = answer.headers["Set-Cookie"]
    assert cookie == f"arkor_studio_4000={access.token}; HttpOnly; Path=/; SameSite=Lax"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    page = launch.get(answer.location, base_url=HERE)
    assert page.status_code == 200
    assert access.token not in page.text


@pytest.mark.parametrize(
    "path", ["//evil.invalid/", "/\\evil.invalid", "/%2F%2Fevil.invalid", "/a%0d%0aX: y"]
)
def test_the_redirect_stays_at_this_server(launch: Any, access: Launch, path: str) -> None:
    answer = launch.get(f"{HERE}{path}?token={access.token}")
    location = answer.headers.get("Location", "/")
    assert answer.status_code in (302, 308)
    location = location[len(HERE) :] if location.startswith(f"{HERE}/") else location
    assert location[0] == "/"
    assert location[1:2] not in ("/", "\\")
    assert "X" not in answer.headers


@pytest.mark.parametrize(
    "token", ["", "x", "é", "%00", "%ff", "%ED%A0%80", "\U0001f600", "x" * 5000]
)
def test_another_token_opens_nothing(launch: Any, token: str) -> None:
    assert launch.get(f"/?token={token}", base_url=HERE).status_code == 403
    bare = launch.application.test_client(use_cookies=False)
    for value in (token, f'"{token}"'):
        cookie = {"Cookie": f"arkor_studio_4000={value}".encode().decode("latin-1")}
        assert bare.get("/", base_url=HERE, headers=cookie).status_code == 403


def test_a_change_needs_the_cookie_and_not_only_the_token(launch: Any, access: Launch) -> None:
    answer = launch.post(f"/test/change?token={access.token}", base_url=HERE)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_two_servers_have_cookies_of_their_own() -> None:
    one, other = Launch(4000), Launch(4001)
    assert one.cookie != other.cookie
    assert one.token != other.token


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:4000", 200),
        ("localhost:4000", 200),
        ("LOCALHOST:4000", 200),
        ("[::1]:4000", 200),
        ("evil.invalid:4000", 403),
        ("evil.invalid", 403),
        ("127.0.0.1", 403),
        ("127.0.0.1:4001", 403),
        ("127.0.0.1:4000.evil.invalid", 403),
        ("evil.invalid#127.0.0.1:4000", 403),
        ("127.0.0.1:4000@evil.invalid", 403),
        ("localhost.:4000", 403),
        ("é:4000", 403),
        ("", 403),
    ],
)
def test_only_names_of_the_loopback_are_answered(
    launch: Any, access: Launch, host: str, status: int
) -> None:
    """A page of `evil.invalid`, whose address is now 127.0.0.1, has a `Host` of its own."""
    bare = launch.application.test_client(use_cookies=False)
    cookies = {"Cookie": f"{access.cookie}={access.token}"}
    wire = host.encode().decode("latin-1")
    for path in ("/", "/static/page.js"):
        answer = bare.get(path, headers={"Host": wire, **cookies}, buffered=True)
        assert answer.status_code == status, path
        if status == 403:
            assert access.token not in answer.text
            assert "Set-Cookie" not in answer.headers


# -- where it is mounted --------------------------------------------------------------------------


@pytest.mark.parametrize("authorize", [None, True, "login"])
def test_there_is_no_application_that_asks_nobody(emulator: Emulator, authorize: Any) -> None:
    with pytest.raises(ArkorUsageError, match="authorize must be a function"):
        create_app(emulator.client(), authorize=authorize)


def test_the_program_is_asked_about_each_request_but_those_of_our_own_files(
    mounted: Any, asked: List[Tuple[str, bool]]
) -> None:
    assert mounted.get("/jobs").status_code == 200
    assert mounted.head("/jobs").status_code == 200
    assert mounted.post("/test/change").status_code == 403  # without a token
    assert mounted.get("/not/there").status_code == 404
    answer = mounted.get("/static/page.js", headers={"Says": "no"}, buffered=True)
    assert answer.status_code == 200
    assert asked == [
        ("/jobs", False), ("/jobs", False), ("/test/change", True), ("/not/there", False)
    ]  # fmt: skip


def test_a_reader_may_look_and_not_change(mounted: Any) -> None:
    token = form_token_of(mounted.get("/test/form", headers={"Says": "reader"}).text)
    form = {CSRF_FIELD: token}
    assert mounted.post("/test/change", data=form, headers={"Says": "reader"}).status_code == 403
    assert mounted.post("/test/change", data=form).status_code == 200


def test_who_is_not_signed_in_is_sent_to_the_login_but_scripts_are_told(mounted: Any) -> None:
    says = {"Says": "login"}
    answer = mounted.get("/jobs", headers={**says, **HTML})
    assert (answer.status_code, answer.location) == (302, "/login?next=x")
    for accept in ("application/json", "text/event-stream"):
        answer = mounted.get("/jobs", headers={**says, "Accept": accept})
        assert answer.status_code == 401
        assert "Sign in" in answer.json["error"]
    assert mounted.post("/test/change", headers=says).status_code == 401


def test_who_is_refused_is_shown_nothing(mounted: Any) -> None:
    for path in ("/", "/not/there", "/test/mistake"):
        answer = mounted.get(path, headers={"Says": "no", **HTML})
        assert answer.status_code == 403
        assert "Your account may not do this here." in answer.text
        assert "<nav" not in answer.text
        assert "form_token" not in answer.text
        assert "Set-Cookie" not in answer.headers
    assert mounted.get("/", headers={"Says": "no", **FOR_SCRIPTS}).json == {
        "error": "Your account may not do this here."
    }


def test_a_program_that_fails_lets_nobody_in(
    mounted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for headers in ({}, FOR_SCRIPTS):
            answer = mounted.get("/jobs", headers={"Says": "raises", **headers})
            assert answer.status_code == 500
            assert SECRET not in answer.text
            assert "Traceback" not in answer.text
    assert SECRET in caplog.text


@pytest.mark.parametrize(
    "answer", [None, 1, object(), "", ["yes"]], ids=lambda each: type(each).__name__
)
def test_an_answer_that_only_looks_like_a_yes_is_none(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    client = create_app(emulator.client(), authorize=lambda *_: answer).test_client()
    assert client.get("/").status_code == 500
    assert "authorize must return True, False, or a URL" in caplog.text


def test_a_file_of_the_machine_is_run_nowhere_but_at_a_server_of_our_own(mounted: Any) -> None:
    page = mounted.get("/").text
    form = {CSRF_FIELD: form_token_of(page)}
    for path in ("/run", "/run/stop"):
        assert f'action="{path}"' not in page
        assert mounted.post(path, data=form).status_code == 404
    assert mounted.get("/run/output").status_code == 404


def test_cookies_are_those_of_the_mount(mounted: Any) -> None:
    answer = mounted.get("/", base_url="https://example.invalid/arkor")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"{CSRF_COOKIE}=")
    assert cookie.endswith("; Secure; HttpOnly; Path=/arkor; SameSite=Lax")
    page = answer.text
    assert 'href="/arkor/jobs"' in page
    assert 'data-root="/arkor/"' in page
    assert 'src="/arkor/static/page.js"' in page
    assert (
        "Set-Cookie" not in mounted.get("/jobs", base_url="https://example.invalid/arkor").headers
    )


# -- forms ----------------------------------------------------------------------------------------


def test_a_form_repeats_the_cookie(mounted: Any) -> None:
    token = form_token_of(mounted.get("/test/form").text)
    assert mounted.post("/test/change", data={CSRF_FIELD: token}).status_code == 200
    assert mounted.post("/test/change", headers={CSRF_HEADER: token}, json={}).status_code == 200
    assert form_token_of(mounted.get("/test/form").text) == token, "other tabs go on"


@pytest.mark.parametrize("given", ["", "x", "é", "%ff", "\U0001f600", "A" * 43])
def test_another_token_changes_nothing(mounted: Any, given: str) -> None:
    mounted.get("/test/form")
    wire = given.encode().decode("latin-1")
    for answer in (
        mounted.post("/test/change", data={CSRF_FIELD: given}),
        mounted.post("/test/change", headers={CSRF_HEADER: wire}),
        mounted.post("/test/change"),
    ):
        assert answer.status_code == 403
        assert "load its page again" in answer.text


@pytest.mark.parametrize("known", ["", "x", "<script>", "A" * 44])
def test_a_cookie_that_is_none_of_ours_is_replaced(mounted: Any, known: str) -> None:
    mounted.set_cookie(CSRF_COOKIE, known)
    same = {CSRF_FIELD: known}
    assert mounted.post("/test/change", data=same).status_code == 403
    token = form_token_of(mounted.get("/test/form").text)
    assert token != known
    assert mounted.post("/test/change", data={CSRF_FIELD: token}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "HTTP://LOCALHOST"}, 200),
        ({"Referer": "http://localhost/arkor/jobs"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://localhost"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.invalid"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://evil.invalid", "Referer": "http://localhost/"}, 403),
        ({"Referer": "http://evil.invalid/http://localhost/"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "anything"}, 403),
    ],
)
def test_a_form_of_another_site_changes_nothing(mounted: Any, headers: Any, status: int) -> None:
    token = form_token_of(mounted.get("/test/form").text)
    more = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = mounted.post("/test/change", data={CSRF_FIELD: token}, headers={**more, **headers})
    assert answer.status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data", "x"])
def test_a_body_without_the_token_changes_nothing_of_whatever_kind_it_is(
    mounted: Any, kind: str
) -> None:
    token = form_token_of(mounted.get("/test/form").text)
    body = f"{CSRF_FIELD}={token}"
    answer = mounted.post("/test/change", data=body, content_type=kind)
    assert answer.status_code == 403


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "LINK"])
def test_what_is_not_known_to_read_is_taken_for_a_change(
    mounted: Any, asked: List[Tuple[str, bool]], method: str
) -> None:
    assert mounted.open("/jobs", method=method, headers={"Says": "reader"}).status_code in (
        403,
        405,
    )
    assert asked == [("/jobs", True)]
