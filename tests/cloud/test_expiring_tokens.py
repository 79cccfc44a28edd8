"""What a client and a run do when the cloud no longer takes the token."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from arkor_sync import ReconnectPolicy, create_trainer, follow
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
    read_credentials,
    write_credentials,
)
from arkor_sync.cloud.project import ProjectState
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.errors import ArkorConnectionError, AuthenticationError, CredentialsError
from support.identity_provider import LATER, IdentityProvider
from support.run_threads import has_ended
from support.scripted_cloud import JOB, Received, Reply, ScriptedCloud
from support.servers import CERTIFICATE
from support.waiting import PATIENCE

SCOPE = ProjectState("o", "p", "1")
HELLO = [{"role": "user", "content": "Hello"}]
MODEL = "unsloth/gemma-4-E4B-it"


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.stop()


class Gate:
    """A cloud that takes some bearers, and answers 401 to all others."""

    def __init__(self, cloud: ScriptedCloud, *good: str) -> None:
        self.good = set(good)
        self.refused = threading.Barrier(1)
        cloud.replies = [self]

    def __call__(self, received: Received) -> Reply:
        bearer = received.headers["Authorization"].partition(" ")[2]
        if bearer not in self.good:
            self.refused.wait(60)
            return Reply(401, {"error": f"the token {bearer} has expired"})
        if received.path.endswith("/stream"):
            kind = {"Content-Type": "text/event-stream"}
            return Reply(chunks=[b"data: 1\n\n"], headers=kind)
        if received.path.endswith("/chat"):
            return Reply(content={"choices": [{"message": {"content": "Hi"}}]})
        return Reply(content={"user": {}, "orgs": [], "job": JOB, "jobs": [JOB]})


def client_of(cloud: ScriptedCloud, provider: IdentityProvider, who: Any = None) -> CloudApiClient:
    return CloudApiClient(
        cloud.url, who or provider.account(), scope=SCOPE, session=provider.session, retry="none"
    )


def open_stream(client: CloudApiClient) -> bytes:
    with client.transport() as transport:
        stream = client.jobs.events("j", transport=transport, last_event_id="7")
        chunk = stream.read()
        stream.close()
    return chunk


REQUESTS: Dict[str, Callable[[CloudApiClient], Any]] = {
    "me": lambda client: client.me(),
    "list": lambda client: client.jobs.list(),
    "create": lambda client: client.jobs.create("n", {"model": MODEL}),
    "get": lambda client: client.jobs.get("j"),
    "cancel": lambda client: client.jobs.cancel("j"),
    "stream": open_stream,
    "chat": lambda client: client.chat(HELLO, base_model=MODEL, stream=False).text(),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_after_a_401_a_request_is_sent_once_more_with_a_new_token(
    cloud: ScriptedCloud, provider: IdentityProvider, request_: Callable[[CloudApiClient], Any]
) -> None:
    Gate(cloud, "secret-access-no-1")
    assert request_(client_of(cloud, provider))
    first, second = cloud.received
    assert first.headers.pop("Authorization") == "Bearer secret-access-no-0"
    assert second.headers.pop("Authorization") == "Bearer secret-access-no-1"
    assert first == second
    assert provider.spent == ["secret-refresh-0"]


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_second_401_is_final(
    cloud: ScriptedCloud, provider: IdentityProvider, request_: Callable[[CloudApiClient], Any]
) -> None:
    Gate(cloud)
    with pytest.raises(AuthenticationError, match=r"401: the token \[token\] has expired"):
        request_(client_of(cloud, provider))
    assert len(cloud.received) == 2
    assert len(provider.received) == 1


def test_a_token_about_to_end_is_not_even_sent(
    cloud: ScriptedCloud, provider: IdentityProvider
) -> None:
    Gate(cloud, "secret-access-no-1")
    client = client_of(cloud, provider, provider.account(1))
    client.me()
    client.me()
    sent = [each.headers["Authorization"] for each in cloud.received]
    assert sent == ["Bearer secret-access-no-1"] * 2
    assert len(provider.received) == 1


@pytest.mark.parametrize(
    "who",
    [TokenCredentials("bare"), AnonymousCredentials("anon", "i", None, "o"), "ARKOR_TOKEN"],
)
def test_what_cannot_be_refreshed_fails_at_once(
    cloud: ScriptedCloud, who: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if who == "ARKOR_TOKEN":
        monkeypatch.setenv("ARKOR_TOKEN", "from-the-environment")
        who = None
    Gate(cloud)
    with pytest.raises(AuthenticationError):
        CloudApiClient(cloud.url, who).me()
    assert len(cloud.received) == 1


def test_a_function_is_asked_again_after_a_401(cloud: ScriptedCloud) -> None:
    Gate(cloud, "new")
    tokens = iter(["old", "new", "never asked for"])
    CloudApiClient(cloud.url, lambda: TokenCredentials(next(tokens))).me()
    sent = [each.headers["Authorization"] for each in cloud.received]
    assert sent == ["Bearer old", "Bearer new"]
    assert next(tokens) == "never asked for"


def test_a_function_that_says_the_same_again_fails_at_once(
    cloud: ScriptedCloud, provider: IdentityProvider
) -> None:
    Gate(cloud)
    asked: List[int] = []

    def who() -> Credentials:
        asked.append(1)
        return provider.account(1)  # refreshing what it returns is its own business

    with pytest.raises(AuthenticationError):
        client_of(cloud, provider, who).me()
    assert len(asked) == 2
    assert len(cloud.received) == 1
    assert provider.received == []


def test_a_function_that_returns_nonsense_after_a_401(cloud: ScriptedCloud) -> None:
    Gate(cloud)
    answers: Any = iter([TokenCredentials("old"), TokenCredentials("not a\nheader")])
    with pytest.raises(CredentialsError):
        CloudApiClient(cloud.url, lambda: next(answers)).me()


def test_threads_that_are_refused_together_share_one_refresh(
    cloud: ScriptedCloud, provider: IdentityProvider
) -> None:
    gate = Gate(cloud, "secret-access-no-1")
    gate.refused = threading.Barrier(6)  # nobody hears of the 401 before everybody has sent
    client = client_of(cloud, provider)
    results: List[Any] = []
    threads = [threading.Thread(target=lambda: results.append(client.me())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(cloud.received) == 12
    assert provider.spent == ["secret-refresh-0"]


def test_a_refusal_to_refresh_asks_to_sign_in(
    cloud: ScriptedCloud, provider: IdentityProvider
) -> None:
    Gate(cloud)
    client = client_of(cloud, provider, provider.account(refresh_token="spent"))
    for _ in range(2):
        with pytest.raises(CredentialsError, match="sign in again"):
            client.me()
    assert provider.spent == ["spent"]


def test_a_provider_that_is_away_is_no_reason_to_give_up(
    cloud: ScriptedCloud, provider: IdentityProvider
) -> None:
    Gate(cloud, "secret-access-no-1")
    provider.answers = [Reply(silent=True)] * 2
    client = client_of(cloud, provider)
    with pytest.raises(ArkorConnectionError):
        client.me()
    with pytest.raises(ArkorConnectionError) as caught:
        client.jobs.create("n", {"model": MODEL})
    assert "may have been created" not in str(caught.value)
    assert client.me()


def test_a_repeated_submission_that_breaks_off_may_have_created_the_job(
    cloud: ScriptedCloud, provider: IdentityProvider
) -> None:
    cloud.replies = [Reply(401, ""), Reply(silent=True)]
    with pytest.raises(ArkorConnectionError, match="may have been created"):
        client_of(cloud, provider).jobs.create("n", {"model": MODEL})
    assert len(cloud.received) == 2


def test_processes_that_are_refused_together_share_one_refresh(
    cloud: ScriptedCloud, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_credentials(provider.account())
    gate = Gate(cloud, "secret-access-no-1")
    gate.refused = threading.Barrier(3)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", CERTIFICATE)
    code = "import sys; from arkor_sync import *; CloudApiClient(sys.argv[1]).me()"
    command = [sys.executable, "-W", "error", "-c", code, cloud.url]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert provider.spent == ["secret-refresh-0"]
    found = read_credentials()
    assert isinstance(found, OAuthCredentials)
    assert found.access_token == "secret-access-no-1"


@pytest.mark.parametrize("expires_at", [1, LATER], ids=["ended", "rejected"])
@pytest.mark.parametrize("route", ["events", "get"])
def test_an_interrupted_request_does_not_wait_for_the_provider(
    cloud: ScriptedCloud, provider: IdentityProvider, route: str, expires_at: int
) -> None:
    Gate(cloud)
    client = client_of(cloud, provider, provider.account(expires_at))
    go = threading.Event()
    with client.transport() as transport:

        def interrupt_and_hold(_: Received) -> None:
            transport.interrupt()
            assert go.wait(60)

        provider.answers = [interrupt_and_hold]
        with pytest.raises(ArkorConnectionError, match="interrupted"):
            getattr(client.jobs, route)("j", transport=transport)
    go.set()


# -- whole runs ---------------------------------------------------------------------------------

WHOLE = ["started", 1, 2, 3, "checkpoint 3: Hi", 4, 5, 6, "checkpoint 6: Hi", "completed"]
QUICK = ReconnectPolicy(base=0.01, cap=0.05)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    engine = ScriptedEngine(steps=6, checkpoints=[3, 6], reply=lambda chat, job, step: "Hi")
    with Emulator(engine) as emulator:
        yield emulator
        assert emulator.errors == []


class Recorder:
    def __init__(self) -> None:
        self.calls: List[Any] = []
        self.callbacks = {
            "on_started": lambda ctx: self.calls.append("started"),
            "on_log": lambda ctx: self.calls.append(ctx.step),
            "on_checkpoint": self.on_checkpoint,
            "on_completed": lambda ctx: self.calls.append("completed"),
        }

    def on_checkpoint(self, ctx: Any) -> None:
        answer = ctx.infer(HELLO, stream=False).content()
        self.calls.append(f"checkpoint {ctx.step}: {answer}")


def trainer_of(emulator: Emulator, provider: IdentityProvider, who: Any, **more: Any) -> Any:
    client = emulator.client(credentials=who, session=provider.session)
    return create_trainer(
        name="a long run",
        model=MODEL,
        dataset={"type": "huggingface", "name": "a/b"},
        client=client,
        reconnect=QUICK,
        **more,
    )


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("expire_token", route="stream", event="4")],
        [Fault("expire_token", route="stream", event="4"), Fault("expire_token", route="chat")],
        [Fault("expire_token", route="create_job")],
        [Fault("expire_token", route="stream"), Fault("cut_mid_event", event="5")],
    ],
    ids=["mid-run", "mid-run and in chat", "at the submission", "and a cut"],
)
def test_a_run_goes_on_with_a_new_token_and_every_event_arrives_once(
    emulator: Emulator, provider: IdentityProvider, faults: List[Fault]
) -> None:
    for fault in faults:
        emulator.faults.add(fault)
    provider.on_issue = emulator.add_token
    recorder = Recorder()
    account = provider.account(access_token=emulator.token)
    trainer = trainer_of(emulator, provider, account, callbacks=recorder.callbacks)
    assert trainer.wait(PATIENCE).status == "completed"
    assert recorder.calls == WHOLE
    assert len(emulator.jobs) == 1
    assert len(provider.received) == sum(fault.kind == "expire_token" for fault in faults)


def test_a_run_goes_on_when_every_token_ends_after_one_event(
    emulator: Emulator, provider: IdentityProvider
) -> None:
    emulator.faults.add(Fault("expire_token", route="stream", index=1, count=6))
    provider.on_issue = emulator.add_token
    steps: List[int] = []
    account = provider.account(access_token=emulator.token)
    callbacks = {"on_log": lambda ctx: steps.append(ctx.step)}
    trainer_of(emulator, provider, account, callbacks=callbacks).wait(PATIENCE)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert len(provider.received) == 6


def test_a_run_outlives_a_provider_that_is_away_for_a_while(
    emulator: Emulator, provider: IdentityProvider
) -> None:
    emulator.faults.add(Fault("expire_token", route="stream", event="2"))
    provider.on_issue = emulator.add_token
    provider.answers = [Reply(silent=True), Reply(503, ""), Reply(silent=True)]
    recorder = Recorder()
    account = provider.account(access_token=emulator.token)
    trainer = trainer_of(emulator, provider, account, callbacks=recorder.callbacks)
    assert trainer.wait(PATIENCE).status == "completed"
    assert recorder.calls == WHOLE
    assert len(provider.received) == 4


def test_a_run_ends_clearly_when_only_signing_in_helps(
    emulator: Emulator, provider: IdentityProvider
) -> None:
    emulator.faults.add(Fault("expire_token", route="stream", event="2"))
    account = provider.account(access_token=emulator.token, refresh_token="spent")
    with pytest.raises(CredentialsError, match="sign in again"):
        trainer_of(emulator, provider, account).wait(PATIENCE)
    assert len(provider.received) == 1


def test_two_runs_of_one_file_share_its_tokens(
    emulator: Emulator, provider: IdentityProvider
) -> None:
    write_credentials(provider.account(access_token=emulator.token))
    emulator.faults.add(Fault("expire_token", route="stream", event="2"))
    provider.on_issue = emulator.add_token
    recorders = [Recorder() for _ in range(4)]
    runs = [
        trainer_of(emulator, provider, None, callbacks=recorder.callbacks).follow()
        for recorder in recorders
    ]
    assert [run.wait(PATIENCE).status for run in runs] == ["completed"] * 4
    assert [recorder.calls for recorder in recorders] == [WHOLE] * 4
    assert provider.spent == ["secret-refresh-0"]


def test_another_process_follows_on_with_the_file(
    emulator: Emulator, provider: IdentityProvider, home: Path
) -> None:
    job_id = emulator.create_job()
    write_credentials(provider.account(1, access_token="ended long ago"))
    provider.on_issue = emulator.add_token
    for _ in range(2):
        client = emulator.client(credentials=None, session=provider.session)
        assert follow(job_id, client=client).wait(PATIENCE).status == "completed"
    assert len(provider.received) == 1


def test_a_run_is_closed_at_once_while_the_provider_is_silent(
    emulator: Emulator, provider: IdentityProvider
) -> None:
    asked, go = threading.Event(), threading.Event()

    def hold(_: Received) -> None:
        asked.set()
        assert go.wait(60)

    emulator.faults.add(Fault("expire_token", route="stream", event="2"))
    provider.answers = [hold]
    provider.on_issue = emulator.add_token
    account = provider.account(access_token=emulator.token)
    run = trainer_of(emulator, provider, account).follow()
    assert asked.wait(PATIENCE)
    run.abort("enough")
    assert has_ended(run, "reader"), "it waits for the provider"
    run.close()
    go.set()
