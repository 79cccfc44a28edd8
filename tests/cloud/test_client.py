from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest
import requests

from arkor_sync.cloud import session
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.client_version import CLIENT_HEADER, USER_AGENT, DeprecationNotice
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
)
from arkor_sync.cloud.models import JobStatus, Project, TrainingJob
from arkor_sync.cloud.project import ProjectState, write_project_state
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorTimeoutError,
    ArkorUsageError,
    ConflictError,
    CredentialsError,
    NotFoundError,
    ResponseError,
)
from support.forking import fork
from support.scripted_cloud import ANONYMOUS, JOB, PROJECT, Received, Reply, ScriptedCloud

SCOPE = {"orgSlug": "my org", "projectSlug": "my&project"}
CONFIG = {"model": "any/model", "somethingNew": [1, None]}


def test_create_sends_name_and_config(
    cloud: ScriptedCloud, client: CloudApiClient, token: str
) -> None:
    cloud.reply({"job": JOB}, status=201)
    assert client.jobs.create("support-bot", CONFIG) == TrainingJob.from_dict(JOB)
    (request,) = cloud.received
    assert request.method == "POST"
    assert request.target == "/v1/jobs?orgSlug=my%20org&projectSlug=my%26project"
    assert request.json == {"name": "support-bot", "config": CONFIG}
    assert request.headers["Authorization"] == f"Bearer {token}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Arkor-Client"] == CLIENT_HEADER
    assert request.headers["User-Agent"] == USER_AGENT


def test_get(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"job": JOB, "events": [{"type": "training.started"}]})
    assert client.jobs.get("a/b c").id == "job-1"
    assert cloud.received[0].method == "GET"
    assert cloud.received[0].path == "/v1/jobs/a%2Fb%20c"
    assert cloud.received[0].query == SCOPE


def test_get_on_a_given_transport(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"job": JOB})
    with client.transport() as transport:
        assert client.jobs.get("job-1", transport=transport).id == "job-1"
        assert client.jobs.get("job-1", transport=transport).id == "job-1"
        transport.interrupt()
        with pytest.raises(ArkorConnectionError):
            client.jobs.get("job-1", transport=transport)


def test_list(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"jobs": [JOB, {**JOB, "id": "job-2"}]})
    assert [job.id for job in client.jobs.list()] == ["job-1", "job-2"]
    assert cloud.received[0].path == "/v1/jobs"
    assert cloud.received[0].query == SCOPE


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"status": "failed"}, ["2", "4"]),
        ({"status": JobStatus.FAILED, "name": "a"}, ["2"]),
        ({"status": ["queued", "failed"]}, ["1", "2", "4"]),
        ({"status": {JobStatus.RUNNING}}, []),
        ({"status": (each for each in ["paused"])}, ["3"]),
        ({"name": "a"}, ["1", "2", "3"]),
        ({"name": "A"}, []),
        ({}, ["1", "2", "3", "4"]),
    ],
    ids=range(8),
)
def test_a_filtered_list(
    cloud: ScriptedCloud, client: CloudApiClient, filters: Any, ids: List[str]
) -> None:
    rows = [("1", "queued", "a"), ("2", "failed", "a"), ("3", "paused", "a"), ("4", "failed", "b")]
    cloud.reply({"jobs": [{**JOB, "id": i, "status": s, "name": n} for i, s, n in rows]})
    assert [job.id for job in client.jobs.list(**filters)] == ids
    assert cloud.received[0].query == SCOPE, "the route has no filter"


@pytest.mark.parametrize("status", ["complete", ["failed", "complete"]])
def test_a_misspelt_status_is_no_empty_list(
    cloud: ScriptedCloud, client: CloudApiClient, status: Any
) -> None:
    cloud.reply({"jobs": [JOB]})
    with pytest.raises(ArkorUsageError) as caught:
        client.jobs.list(status=status)
    assert str(caught.value) == (
        "status: got str 'complete'; give one or several of queued, running, completed, failed, "
        "cancelled"
    )


@pytest.mark.parametrize(
    "filters", [{"status": 5}, {"status": []}, {"status": ["failed", None]}, {"name": 5}]
)
def test_filters_that_cannot_work(
    cloud: ScriptedCloud, client: CloudApiClient, filters: Any
) -> None:
    (name,) = filters
    with pytest.raises(ArkorUsageError, match=f"^{name}: got "):
        client.jobs.list(**filters)
    assert not cloud.received


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"job": {**JOB, "status": "cancelled"}}, "cancelled"),
        ({"ok": True}, None),
        ({"job": {"id": 5}}, None),
        ("", None),
        ("<html>", None),
        ([], None),
    ],
)
def test_cancel_ignores_what_it_cannot_use(
    cloud: ScriptedCloud, client: CloudApiClient, content: Any, expected: Any
) -> None:
    cloud.reply(content)
    job = client.jobs.cancel("job-1")
    assert (job and job.status) == expected
    (request,) = cloud.received
    assert (request.method, request.path) == ("POST", "/v1/jobs/job-1/cancel")
    assert request.query == SCOPE
    assert request.body == b""


def test_cancel_is_accepted_although_its_answer_breaks_off(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply('{"job"', length=100)
    assert client.jobs.cancel("job-1") is None


def test_cancel_of_a_job_that_is_over(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"error": "already completed"}, status=409)
    with pytest.raises(ConflictError, match="already completed"):
        client.jobs.cancel("job-1")


def test_projects(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"project": PROJECT}, status=201)
    cloud.reply({"org": {"slug": "o&x"}, "projects": [PROJECT]})
    project = client.projects.create("o&x", name="My Work", slug="my-work")
    assert project == Project.from_dict(PROJECT)
    listed_projects = client.projects.list("o&x")
    assert listed_projects == [project]
    assert listed_projects.org == {"slug": "o&x"}
    created, listed = cloud.received
    assert (created.method, created.target) == ("POST", "/v1/projects?orgSlug=o%26x")
    assert created.json == {"name": "My Work", "slug": "my-work"}
    assert (listed.method, listed.target) == ("GET", "/v1/projects?orgSlug=o%26x")


def test_me(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"user": {"id": "u", "email": None}, "orgs": []})
    assert client.me().user == {"id": "u", "email": None}
    assert cloud.received[0].target == "/v1/me"


def test_a_slash_at_the_end_of_the_base_url(cloud: ScriptedCloud) -> None:
    cloud.reply({"user": {}, "orgs": []})
    for end in ("/", "//", "/prefix/"):
        CloudApiClient(cloud.url + end, TokenCredentials("t")).me()
    assert [each.target for each in cloud.received] == ["/v1/me", "/v1/me", "/prefix/v1/me"]


@pytest.mark.parametrize(
    ("credentials", "bearer"),
    [
        (AnonymousCredentials("anon", "i", None, "o"), "anon"),
        (OAuthCredentials("access", "refresh", 4_000_000_000, "d", "a", "c"), "access"),
        (TokenCredentials("bare"), "bare"),
    ],
)
def test_the_bearer_of_each_kind(cloud: ScriptedCloud, credentials: Any, bearer: str) -> None:
    cloud.reply({"user": {}, "orgs": []})
    CloudApiClient(cloud.url, credentials).me()
    assert cloud.received[0].headers["Authorization"] == f"Bearer {bearer}"


def test_a_function_of_credentials_is_asked_at_each_request(cloud: ScriptedCloud) -> None:
    cloud.reply({"user": {}, "orgs": []})
    tokens = iter(["first", "second"])
    client = CloudApiClient(cloud.url, lambda: TokenCredentials(next(tokens)))
    client.me()
    client.me()
    sent = [each.headers["Authorization"] for each in cloud.received]
    assert sent == ["Bearer first", "Bearer second"]


def test_a_function_that_returns_no_credentials(cloud: ScriptedCloud) -> None:
    client = CloudApiClient(cloud.url, lambda: "secret-text")  # type: ignore[arg-type,return-value]
    with pytest.raises(ArkorUsageError, match="returned a str") as caught:
        client.me()
    assert "secret-text" not in str(caught.value)


@pytest.mark.parametrize("token", ["a b", "a\nb", "", "ä", "a\x7f", "a\r\nX-Evil: 1"])
def test_a_token_that_no_header_can_carry(cloud: ScriptedCloud, token: str) -> None:
    with pytest.raises(CredentialsError, match="cannot carry") as caught:
        CloudApiClient(cloud.url, TokenCredentials(token)).me()
    assert not token or token not in str(caught.value)
    assert not cloud.received


def test_the_base_url_comes_from_the_credentials(cloud: ScriptedCloud) -> None:
    cloud.reply({"user": {}, "orgs": []})
    CloudApiClient(credentials=TokenCredentials("t", cloud.url)).me()
    assert len(cloud.received) == 1


def test_the_environment_comes_before_the_credentials_and_an_argument_before_both(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply({"user": {}, "orgs": []})
    elsewhere = TokenCredentials("t", "http://127.0.0.1:1")
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", cloud.url)
    CloudApiClient(credentials=elsewhere).me()
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://127.0.0.1:1")
    CloudApiClient(cloud.url, elsewhere).me()
    assert len(cloud.received) == 2


def test_an_empty_base_url_in_the_environment_counts_as_none(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply({"user": {}, "orgs": []})
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "")
    CloudApiClient(credentials=TokenCredentials("t", cloud.url)).me()
    assert len(cloud.received) == 1


def test_a_base_url_in_the_environment_that_cannot_work_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "api.arkor.ai")
    client = CloudApiClient(credentials=TokenCredentials("t"))
    with pytest.raises(ArkorUsageError, match="ARKOR_CLOUD_API_URL"):
        client.me()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.arkor.ai",
        "ftp://x",
        "https://",
        "http://[",
        "http://h:port",
        "https://user:password@h",
        "https://h/?key=password",
        "https://h#password",
        5,
    ],
)
def test_base_urls_that_cannot_work(url: Any) -> None:
    with pytest.raises(ArkorUsageError, match="the base URL of the cloud") as caught:
        CloudApiClient(url)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"credentials": "secret-text"},
        {"client_header": "arkor/1\r\nX-Evil: 1"},
        {"client_header": ""},
        {"timeout": 5},
        {"timeout": (0, 5)},
        {"timeout": (5, -1)},
        {"timeout": ("5", 5)},
        {"timeout": (1, 2, 3)},
    ],
)
def test_arguments_that_cannot_work(bad: Any) -> None:
    with pytest.raises(ArkorUsageError, match=f"^{next(iter(bad))}: got") as caught:
        CloudApiClient(**bad)
    assert "secret-text" not in str(caught.value)


@pytest.mark.parametrize("job_id", ["", None, 5, ".", ".."])
def test_job_ids_that_cannot_work(
    cloud: ScriptedCloud, client: CloudApiClient, job_id: Any
) -> None:
    with client.transport() as transport:
        calls: List[Callable[[], Any]] = [
            lambda: client.jobs.get(job_id),
            lambda: client.jobs.cancel(job_id),
            lambda: client.jobs.events(job_id, transport=transport),
        ]
        for call in calls:
            with pytest.raises(ArkorUsageError, match=r"^job_id: got"):
                call()
    assert not cloud.received


def test_a_job_id_that_is_no_text(client: CloudApiClient) -> None:
    with pytest.raises(ArkorUsageError, match="part of a URL"):
        client.jobs.get("\ud800")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("", {}),
        (" ", {}),
        (None, {}),
        ("n", None),
        ("n", [1]),
        ("n", {"x": {1}}),
        ("n", {"x": float("nan")}),
    ],
)
def test_jobs_that_cannot_be_sent(
    cloud: ScriptedCloud, client: CloudApiClient, name: Any, config: Any
) -> None:
    with pytest.raises(ArkorUsageError):
        client.jobs.create(name, config)
    assert not cloud.received


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected JSON, got an empty body"),
        ("<html>no</html>", "expected JSON, got 15 bytes that are not: '<html>no</html>'"),
        (b"\xff\xfe", "expected JSON"),
        ('{"job": NaN}', "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ({}, "job: expected an object, got None"),
        ([], "the answer: expected an object, got an empty list"),
        ({"job": {**JOB, "orgId": 5}}, "job.orgId: expected a string, got int 5"),
    ],
)
def test_an_answer_of_another_shape(
    cloud: ScriptedCloud, client: CloudApiClient, content: Any, message: str
) -> None:
    cloud.reply(content)
    with pytest.raises(ResponseError) as caught:
        client.jobs.get("job-1")
    assert str(caught.value).startswith(f"GET {cloud.url}/v1/jobs/job-1: ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_job_in_a_list_is_named_by_its_index(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply({"jobs": [JOB, {**JOB, "name": None}]})
    with pytest.raises(ResponseError, match=r"jobs\[1\]\.name: expected a string, got None"):
        client.jobs.list()


def test_no_error_but_a_refused_connection_is_sure_that_nothing_was_created(
    client: CloudApiClient, cloud: ScriptedCloud
) -> None:
    nowhere = CloudApiClient(
        "http://127.0.0.1:1", TokenCredentials("t"), scope=ProjectState("a", "b", "c")
    )
    with pytest.raises(ArkorConnectionError) as caught:
        nowhere.jobs.create("n", CONFIG)
    assert "may have been created" not in str(caught.value)
    assert isinstance(caught.value, requests.RequestException)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(silent=True), ArkorConnectionError),
        (Reply(201, '{"job": {"id"', length=1000), ArkorConnectionError),
        (Reply(201, '{"job": {"id"'), ResponseError),
        (Reply(201, {"job": {}}), ResponseError),
    ],
)
def test_a_create_without_its_answer_may_have_worked(
    cloud: ScriptedCloud, client: CloudApiClient, reply: Reply, kind: Any
) -> None:
    cloud.replies.append(reply)
    with pytest.raises(kind, match=r"may have been created .*client\.jobs\.list\(\)"):
        client.jobs.create("n", CONFIG)
    assert len(cloud.received) == 1


def test_a_create_that_is_never_answered_may_have_worked(cloud: ScriptedCloud) -> None:
    never = threading.Event()
    cloud.stream(hold=never)
    cloud.replies[0].status = 200  # type: ignore[union-attr]
    client = CloudApiClient(
        cloud.url, TokenCredentials("t"), scope=ProjectState("a", "b", "c"), timeout=(20.0, 0.1)
    )
    try:
        with pytest.raises(ArkorTimeoutError, match="may have been created"):
            client.jobs.create("n", CONFIG)
    finally:
        never.set()


def test_a_project_without_its_answer_is_no_job(cloud: ScriptedCloud) -> None:
    cloud.reply(silent=True)
    client = CloudApiClient(cloud.url, AnonymousCredentials("t", "i", None, "o"))
    with pytest.raises(ArkorConnectionError) as caught:
        client.jobs.create("n", CONFIG)
    assert "may have been created" not in str(caught.value)


def test_construction_does_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "not a url")
    (home / ".arkor").write_text("not a directory")
    threads = set(threading.enumerate())  # some of an earlier test may end meanwhile
    client = CloudApiClient()
    assert repr(client) == "CloudApiClient(base_url=None)"
    assert set(threading.enumerate()) <= threads
    with pytest.raises(CredentialsError):
        client.me()


def test_credentials_and_project_are_found_at_the_first_request(
    cloud: ScriptedCloud, work: Path
) -> None:
    def answer(request: Received) -> Reply:
        if request.path == "/v1/auth/anonymous":
            return Reply(content=ANONYMOUS)
        if request.path == "/v1/projects":
            return Reply(201, {"project": PROJECT})
        return Reply(content={"jobs": []})

    cloud.replies = [answer]
    client = CloudApiClient(cloud.url)
    assert client.jobs.list() == []
    assert client.jobs.list() == []
    assert [each.path for each in cloud.received] == [
        "/v1/auth/anonymous",
        "/v1/projects",
        "/v1/jobs",
        "/v1/jobs",
    ]
    assert cloud.received[2].query == {"orgSlug": "personal", "projectSlug": "work"}
    assert (work / ".arkor" / "state.json").exists()
    assert all("X-Arkor-Client" in each.headers for each in cloud.received)


def test_the_project_of_another_directory(cloud: ScriptedCloud, tmp_path: Path) -> None:
    cloud.reply({"jobs": []})
    write_project_state(ProjectState("o", "elsewhere", "1"), tmp_path)
    CloudApiClient(cloud.url, TokenCredentials("t"), cwd=tmp_path).jobs.list()
    assert cloud.received[0].query == {"orgSlug": "o", "projectSlug": "elsewhere"}


def test_many_threads_find_credentials_and_project_once(cloud: ScriptedCloud) -> None:
    def answer(request: Received) -> Reply:
        if request.path == "/v1/auth/anonymous":
            return Reply(content=ANONYMOUS)
        if request.path == "/v1/projects":
            return Reply(201, {"project": PROJECT})
        return Reply(content={"jobs": []})

    cloud.replies = [answer]
    client = CloudApiClient(cloud.url)
    barrier = threading.Barrier(8)
    results: List[Any] = []

    def work() -> None:
        barrier.wait(10)
        results.append(client.jobs.list())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[]] * 8
    paths = [each.path for each in cloud.received]
    assert paths.count("/v1/auth/anonymous") == 1
    assert paths.count("/v1/projects") == 1
    assert paths.count("/v1/jobs") == 8


class LockForAll:
    """A lock that nobody gets before everybody has asked for it."""

    def __init__(self, parties: int) -> None:
        self._barrier = threading.Barrier(parties)
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._barrier.wait(10)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_threads_that_wait_for_the_same_search_do_not_repeat_it(
    cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply({"user": {}, "orgs": []})
    searches: List[int] = []

    def find(*_: Any, **__: Any) -> Credentials:
        searches.append(1)
        return TokenCredentials("t")

    monkeypatch.setattr(session, "ensure_credentials", find)
    client: Any = CloudApiClient(cloud.url)
    client._session._credentials._guard = (os.getpid(), LockForAll(3))
    threads = [threading.Thread(target=client.me) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert searches == [1]
    assert len(cloud.received) == 3


def test_a_failure_to_find_credentials_is_not_kept(cloud: ScriptedCloud) -> None:
    client = CloudApiClient(cloud.url)
    cloud.reply("no", status=403)
    with pytest.raises(CredentialsError):
        client.me()
    cloud.replies = [
        lambda request: Reply(
            content=ANONYMOUS if request.method == "POST" else {"user": {}, "orgs": []}
        )
    ]
    assert client.me().orgs == []


def test_credentials_that_change_on_disk_are_not_read_again(
    cloud: ScriptedCloud, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.reply({"user": {}, "orgs": []})
    monkeypatch.setenv("ARKOR_TOKEN", "first")
    client = CloudApiClient(cloud.url)
    client.me()
    monkeypatch.setenv("ARKOR_TOKEN", "second")
    client.me()
    assert [each.headers["Authorization"] for each in cloud.received] == ["Bearer first"] * 2


def test_no_connection_outlives_its_request(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"jobs": []})
    client.jobs.list()
    assert cloud.wait_until_idle()
    cloud.replies[0] = Reply(404, "x" * 500_000)
    with pytest.raises(NotFoundError):
        client.jobs.list()
    assert cloud.wait_until_idle()


def test_a_client_works_after_a_fork(cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.reply({"user": {}, "orgs": []})
    entered, leave = threading.Event(), threading.Event()

    def find(*_: Any, **__: Any) -> Credentials:
        entered.set()
        assert leave.wait(60)
        return TokenCredentials("t")

    monkeypatch.setattr(session, "ensure_credentials", find)
    client = CloudApiClient(cloud.url)
    thread = threading.Thread(target=client.me)
    thread.start()
    assert entered.wait(10)

    def in_the_child() -> None:
        # The thread that holds the lock of the search does not exist here.
        monkeypatch.setattr(session, "ensure_credentials", lambda *_, **__: TokenCredentials("c"))
        client.me()

    child = fork(in_the_child)
    leave.set()
    thread.join()
    assert child() == 0
    sent = sorted(each.headers["Authorization"] for each in cloud.received)
    assert sent == ["Bearer c", "Bearer t"]


def test_a_client_pickles(cloud: ScriptedCloud) -> None:
    cloud.reply({"jobs": []})
    session = requests.Session()
    session.headers["X-Team"] = "blue"
    client = CloudApiClient(
        cloud.url,
        TokenCredentials("t"),
        scope=ProjectState("o", "p", "1"),
        session=session,
        client_header="arkor/9.9.9",
    )
    client.jobs.list()
    pickle.loads(pickle.dumps(client)).jobs.list()
    first, second = cloud.received
    assert first.headers == second.headers
    assert first.target == second.target
    assert second.headers["X-Arkor-Client"] == "arkor/9.9.9"
    assert second.headers["X-Team"] == "blue"
    session.close()


def test_netrc_does_not_replace_the_token(
    cloud: ScriptedCloud, client: CloudApiClient, home: Path, token: str
) -> None:
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password netrc-secret\n")
    netrc.chmod(0o600)
    assert requests.utils.get_netrc_auth(cloud.url) == ("me", "netrc-secret")
    cloud.reply({"jobs": []})
    client.jobs.list()
    assert cloud.received[0].headers["Authorization"] == f"Bearer {token}"
    cloud.replies[0] = Reply(content=ANONYMOUS)
    CloudApiClient(cloud.url)._session._credentials()
    assert "Authorization" not in cloud.received[1].headers


def test_a_deprecation_notice_goes_to_the_sink_before_the_error(cloud: ScriptedCloud) -> None:
    order: List[Any] = []
    client = CloudApiClient(cloud.url, TokenCredentials("t"), on_deprecation=order.append)
    headers = {"Deprecation": "true", "Warning": '299 - "old"', "Sunset": "soon"}
    cloud.reply({"error": "no"}, status=404, headers=headers)
    try:
        client.me()
    except NotFoundError as error:
        order.append(error)
    assert order[0] == DeprecationNotice("0.0.3-alpha.1", "old", "soon")
    assert isinstance(order[1], NotFoundError)


def test_a_sink_that_fails_does_not_spoil_the_answer(
    cloud: ScriptedCloud, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(notice: DeprecationNotice) -> None:
        raise RuntimeError("sink")

    client = CloudApiClient(cloud.url, TokenCredentials("t"), on_deprecation=fail)
    cloud.reply({"user": {}, "orgs": []}, headers={"Deprecation": "true"})
    assert client.me().orgs == []
    assert "RuntimeError: sink" in caplog.text
