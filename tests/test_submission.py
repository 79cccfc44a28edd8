"""`submit` with a key: at most one job for each, whatever breaks, and found again."""

from __future__ import annotations

import logging
import pickle
import threading
from typing import Any, Callable, Dict, Iterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arkor_sync import (
    ArkorConnectionError,
    ArkorTimeoutError,
    ArkorUsageError,
    AuthenticationError,
    BlobDataset,
    CloudApiClient,
    FileCursorStore,
    HuggingFaceDataset,
    LeaseHeldError,
    ProjectState,
    RateLimitError,
    RunAborted,
    ServerError,
    StoreUnavailableError,
    SubmissionUnknownError,
    TokenCredentials,
    Trainer,
    UnprocessableEntityError,
    create_trainer,
    recover_submissions,
    settle_submission,
    submit,
)
from arkor_sync import _submission_row as rows
from arkor_sync._submission_search import (
    Found,
    find_jobs,
    fingerprint,
    job_name,
    may_be_cut,
    name_of_row,
    scope_of,
)
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.stores import LeasedStore
from support.memory_backend import MemoryBackend
from support.scripted_cloud import JOB
from support.waiting import Background, until

LATER = 200.0  # seconds: by then the lease of each row has ended
KEY = "order-17"
NAME = f"bot [{KEY}]"


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=1)) as emulator:
        yield emulator


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def store(backend: MemoryBackend) -> LeasedStore:
    return LeasedStore(backend)


Make = Callable[..., Trainer]


@pytest.fixture
def make(emu: Emulator) -> Make:
    def trainer(name: str = "bot", max_steps: int = 1, **more: Any) -> Trainer:
        more = {"dataset": HuggingFaceDataset("emulator/sample"), "client": emu.client(), **more}
        return create_trainer(
            name=name, model="unsloth/gemma-4-E4B-it", max_steps=max_steps, **more
        )

    return trainer


def created(emu: Emulator) -> List[str]:
    """List the names of the jobs that the emulator has, in their order."""
    return [job.name for job in emu.jobs.values()]


def die_in_the_request(emu: Emulator, make: Make, store: LeasedStore, **lost: Any) -> None:
    """Leave a row as a process does that dies before the answer comes."""
    emu.faults.add(Fault(lost.pop("kind", "reset_peer"), route="create_job", **lost))
    with pytest.raises(ArkorConnectionError, match="may have been created"):
        submit(make(), key=KEY, store=store)


# -- the usual way --------------------------------------------------------------------------------


def test_the_intent_is_there_before_the_request(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    backend.down = True
    with pytest.raises(StoreUnavailableError):
        submit(make(), key=KEY, store=store)
    assert emu.requests == []
    backend.down = False
    submission = submit(make(), key=KEY, store=store)
    assert (submission.status, submission.key, submission.name) == ("submitted", KEY, NAME)
    assert created(emu) == [NAME]
    assert [r.route for r in emu.requests] == ["create_job"], "the first one looks for nothing"


def test_a_second_call_returns_the_same_job_without_a_request(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    first = submit(make(), key=KEY, store=store)
    before = len(emu.requests)
    another_process = LeasedStore(backend)
    assert submit(make(), key=KEY, store=another_process) == first
    assert len(emu.requests) == before


def test_the_trainer_follows_the_job_of_its_key(
    emu: Emulator, make: Make, store: LeasedStore
) -> None:
    job_id = submit(make(), key=KEY, store=store).job_id
    again = make()
    assert submit(again, key=KEY, store=store).job_id == job_id
    again = pickle.loads(pickle.dumps(again))
    assert job_id is not None
    assert job_id in repr(again)
    result = again.wait()
    assert (result.job.id, result.status) == (job_id, "completed")
    assert created(emu) == [NAME]


def test_the_trainer_of_a_key_cancels_its_job(
    emu: Emulator, make: Make, store: LeasedStore
) -> None:
    emu.engine = ScriptedEngine(steps=1, manual=True)
    job_id = submit(make(), key=KEY, store=store).job_id
    again = make()
    submit(again, key=KEY, store=store)
    again.cancel()
    assert emu.jobs[str(job_id)].status == "cancelled"


def test_a_trainer_whose_submission_is_not_settled_submits_nothing_without_its_key(
    emu: Emulator, make: Make, store: LeasedStore
) -> None:
    emu.faults.add(Fault("reset_peer", route="create_job"))
    trainer = make()
    with pytest.raises(ArkorConnectionError):
        submit(trainer, key=KEY, store=store)
    with pytest.raises(ArkorUsageError, match=r"call submit\(trainer, key='order-17'"):
        trainer.wait()
    assert created(emu) == [NAME]


@pytest.mark.parametrize("more", [{"max_steps": 2}, {"name": "other"}], ids=str)
def test_a_key_is_of_one_name_and_configuration(
    emu: Emulator, make: Make, store: LeasedStore, more: Dict[str, Any]
) -> None:
    submit(make(), key=KEY, store=store)
    before = len(emu.requests)
    with pytest.raises(ArkorUsageError, match=r"used for 'bot \[order-17\]'"):
        submit(make(**more), key=KEY, store=store)
    assert len(emu.requests) == before


def test_a_key_is_of_one_project(emu: Emulator, make: Make, store: LeasedStore) -> None:
    submit(make(), key=KEY, store=store)
    elsewhere = CloudApiClient(
        emu.url, TokenCredentials(emu.token), scope=ProjectState("org", "elsewhere", "1")
    )
    with pytest.raises(ArkorUsageError, match="in another project"):
        submit(make(client=elsewhere), key=KEY, store=store)


def test_another_configuration_does_not_keep_a_row_that_it_took(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store)
    backend.ahead += LATER
    with pytest.raises(ArkorUsageError, match="another configuration"):
        submit(make(max_steps=2), key=KEY, store=store)
    assert submit(make(), key=KEY, store=store, timeout=0).job_id in emu.jobs
    assert created(emu) == [NAME]


# -- two at once ----------------------------------------------------------------------------------


def test_of_many_at_once_one_sends_and_the_others_wait(
    emu: Emulator, make: Make, backend: MemoryBackend
) -> None:
    barrier = threading.Barrier(6)

    def one() -> Any:
        store, trainer = LeasedStore(backend), make()
        barrier.wait()
        return submit(trainer, key=KEY, store=store).job_id

    threads = [Background(one) for _ in range(6)]
    assert {thread.result() for thread in threads} == set(emu.jobs)
    assert created(emu) == [NAME]


def test_who_does_not_wait_is_told_who_submits(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    emu.faults.add(Fault("stall_before_headers", route="create_job"))
    sender = Background(submit, make(), key=KEY, store=store, request_limit=3.0)
    until(lambda: [r.route for r in emu.requests] == ["create_job"])
    with pytest.raises(LeaseHeldError) as caught:
        submit(make(), key=KEY, store=LeasedStore(backend), timeout=0)
    assert store.owner in str(caught.value)
    with pytest.raises(ArkorTimeoutError):
        sender.result()


def test_an_abort_ends_the_wait_for_another(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store)
    event = threading.Event()
    waiting = Background(submit, make(abort_event=event), key=KEY, store=store, timeout=3600)
    seen = len(backend.calls)
    until(lambda: len(backend.calls) > seen)
    event.set()
    with pytest.raises(RunAborted, match="before it was submitted"):
        waiting.result()


# -- what an error says about the job -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reset_peer", "accept_then_drop"])
def test_after_a_lost_answer_nothing_is_sent_before_the_row_is_free(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend, kind: str
) -> None:
    die_in_the_request(emu, make, store, kind=kind)
    with pytest.raises(LeaseHeldError):
        submit(make(), key=KEY, store=store, timeout=0)
    backend.ahead += LATER
    assert submit(make(), key=KEY, store=store, timeout=0).job_id in emu.jobs
    assert created(emu) == [NAME]


def test_a_request_is_given_up_before_the_lease_of_its_row_ends(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    emu.faults.add(Fault("stall_before_headers", route="create_job"))
    with pytest.raises(ArkorTimeoutError, match="may have been created") as caught:
        submit(make(), key=KEY, store=store, request_limit=0.2, settle_time=3600)
    assert caught.value.sent
    (intent,) = backend.submissions(("submitting",))
    assert intent.expires_in > 3500
    assert created(emu) == []


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_error_may_have_created_the_job(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend, status: int
) -> None:
    emu.faults.add(Fault("status", route="create_job", status=status))
    with pytest.raises(ServerError):
        submit(make(), key=KEY, store=store)
    with pytest.raises(LeaseHeldError):
        submit(make(), key=KEY, store=store, timeout=0)
    backend.ahead += LATER
    submit(make(), key=KEY, store=store, timeout=0)
    assert created(emu) == [NAME]


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthenticationError), (429, RateLimitError), (302, Exception)]
)
def test_a_refusal_that_is_not_about_the_job_leaves_nothing_behind(
    emu: Emulator, make: Make, store: LeasedStore, status: int, error: Any
) -> None:
    kind = "redirect" if status == 302 else "status"
    emu.faults.add(Fault(kind, route="create_job", status=status))
    with pytest.raises(error):
        submit(make(), key=KEY, store=store)
    submit(make(max_steps=2), key=KEY, store=store, timeout=0)
    assert [r.route for r in emu.requests] == ["create_job", "create_job"]
    assert created(emu) == [NAME]


def test_where_nobody_listens_nothing_is_left_behind(make: Make, store: LeasedStore) -> None:
    with Emulator() as gone:
        client = gone.client()
    with pytest.raises(ArkorConnectionError) as caught:
        submit(make(client=client), key=KEY, store=store)
    assert not caught.value.sent
    assert store.backend.submissions(("submitting", "unknown", "refused")) == []


def test_a_refused_job_is_not_sent_again_until_that_is_asked(
    emu: Emulator, make: Make, store: LeasedStore
) -> None:
    emu.faults.add(Fault("status", route="create_job", status=422, value="no such optimiser"))
    for _ in range(3):
        with pytest.raises(UnprocessableEntityError, match="422: no such optimiser"):
            submit(make(), key=KEY, store=store)
    assert [r.route for r in emu.requests] == ["create_job"]
    settle_submission(store, KEY)
    assert submit(make(max_steps=2), key=KEY, store=store).job_id in emu.jobs


def test_an_answer_whose_row_cannot_be_closed_is_not_lost(
    emu: Emulator,
    make: Make,
    store: LeasedStore,
    backend: MemoryBackend,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(rows, "PATIENCE", 0.0)
    open_submission = backend.open_submission

    def open_and_fail(*args: Any) -> Any:
        intent = open_submission(*args)
        backend.down = True
        return intent

    monkeypatch.setattr(backend, "open_submission", open_and_fail)
    submission = submit(make(), key=KEY, store=store)
    assert (submission.status, submission.job_id in emu.jobs) == ("submitted", True)
    assert f"job {submission.job_id}" in caplog.text
    backend.down = False
    monkeypatch.undo()
    backend.ahead += LATER
    assert submit(make(), key=KEY, store=store).job_id == submission.job_id
    assert created(emu) == [NAME]


# -- recovery -------------------------------------------------------------------------------------


def test_of_several_jobs_the_oldest_is_kept_and_none_cancelled(
    emu: Emulator,
    make: Make,
    store: LeasedStore,
    backend: MemoryBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    emu.engine = ScriptedEngine(steps=1, manual=True)
    die_in_the_request(emu, make, store)
    client = emu.client()
    config = make().config
    others = [client.jobs.create(NAME, config).id for _ in range(2)]
    oldest = next(iter(emu.jobs))
    backend.ahead += LATER
    submission = submit(make(), key=KEY, store=store)
    assert submission.job_id == oldest
    assert sorted(submission.others) == sorted(others)
    assert all(each in caplog.text for each in others)
    assert {job.status for job in emu.jobs.values()}.isdisjoint({"cancelled"})
    assert "cancel_job" not in [r.route for r in emu.requests]


def fill(emu: Emulator, length: int) -> None:
    while len(emu.jobs) < length:
        emu.create_job(name="another program's")


def test_where_the_list_may_be_cut_it_is_unknown_and_not_sent(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store, kind="accept_then_drop")
    emu.settings.listed_jobs = 20
    fill(emu, 23)
    backend.ahead += LATER
    for _ in range(2):
        with pytest.raises(SubmissionUnknownError, match="has 20, and may have been cut") as caught:
            submit(make(), key=KEY, store=store)
        assert (caught.value.key, caught.value.name) == (KEY, NAME)
        assert "settle_submission(store, key, job_id)" in str(caught.value)
    emu.settings.listed_jobs = None  # also later, where the whole list shows none
    with pytest.raises(SubmissionUnknownError):
        submit(make(), key=KEY, store=store)
    (found,) = recover_submissions(store, emu.client(), trainer_for=lambda key: make())
    assert (found.status, found.job_id) == ("unknown", None)
    assert NAME not in created(emu)
    settle_submission(store, KEY)
    submit(make(), key=KEY, store=store)
    assert created(emu).count(NAME) == 1


def test_an_unknown_job_that_shows_is_attached_to(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store)
    fill(emu, 23)
    emu.settings.listed_jobs = 20  # the job is the oldest, and is cut off
    backend.ahead += LATER
    (found,) = recover_submissions(store, emu.client())
    assert found.status == "unknown"
    emu.settings.listed_jobs = None
    (found,) = recover_submissions(store, emu.client())
    assert (found.status, found.job_id) == ("submitted", next(iter(emu.jobs)))
    assert recover_submissions(store, emu.client()) == []


def test_a_list_that_fails_makes_it_unknown(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store)
    emu.faults.add(Fault("status", route="list_jobs", status=500, count=None))
    backend.ahead += LATER
    with pytest.raises(SubmissionUnknownError, match="cannot be read"):
        submit(make(), key=KEY, store=store)
    emu.faults.clear()
    submit(make(), key=KEY, store=store)
    assert created(emu) == [NAME]


def test_a_person_names_the_job(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store)
    job_id = next(iter(emu.jobs))
    with pytest.raises(LeaseHeldError, match=KEY):
        settle_submission(store, KEY)
    with pytest.raises(LeaseHeldError, match=KEY):
        settle_submission(store, KEY, job_id)
    backend.ahead += LATER
    settle_submission(store, KEY, job_id)
    assert submit(make(), key=KEY, store=store).job_id == job_id
    with pytest.raises(ArkorUsageError, match="whose job is known"):
        settle_submission(store, KEY)
    assert created(emu) == [NAME]


def test_a_person_names_the_job_of_a_refused_submission(
    emu: Emulator, make: Make, store: LeasedStore
) -> None:
    emu.faults.add(Fault("status", route="create_job", status=400))
    with pytest.raises(Exception, match="400"):
        submit(make(), key=KEY, store=store)
    settle_submission(store, KEY, "job-1")
    assert submit(make(), key=KEY, store=store).job_id == "job-1"


def test_recovery_settles_what_nobody_holds(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    emu.faults.add(Fault("reset_peer", route="create_job"))
    for key in ("created", "lost", "held"):
        if key == "lost":
            emu.faults.add(Fault("accept_then_drop", route="create_job"))
        if key == "held":
            backend.ahead += LATER
            emu.faults.add(Fault("accept_then_drop", route="create_job"))
        with pytest.raises(ArkorConnectionError):
            submit(make(), key=key, store=store)
    client = emu.client()
    found = {each.key: each for each in recover_submissions(store, client)}
    assert list(found) == ["created", "lost"]
    assert (found["created"].status, found["created"].job_id in emu.jobs) == ("submitted", True)
    assert (found["lost"].status, found["lost"].job_id) == ("submitting", None)
    assert created(emu) == ["bot [created]"]
    assert [r.route for r in emu.requests].count("list_jobs") == 1, "one list for all"

    found = {
        each.key: each
        for each in recover_submissions(store, client, trainer_for={"lost": make()}.get)
    }
    assert [(key, each.status) for key, each in found.items()] == [("lost", "submitted")]
    assert created(emu) == ["bot [created]", "bot [lost]"]


def test_an_error_of_one_submission_does_not_keep_the_others(
    emu: Emulator,
    make: Make,
    store: LeasedStore,
    backend: MemoryBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for key in ("a", "b"):
        emu.faults.add(Fault("accept_then_drop", route="create_job"))
        with pytest.raises(ArkorConnectionError):
            submit(make(), key=key, store=store)
    backend.ahead += LATER

    def trainer_for(key: str) -> Trainer:
        return make() if key == "b" else {}[key]  # type: ignore[return-value]

    found = recover_submissions(store, emu.client(), trainer_for=trainer_for)
    assert [each.status for each in found] == ["submitting", "submitted"]
    assert "KeyError" in caplog.text


def test_recovery_leaves_other_projects_alone(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store)
    backend.ahead += LATER
    elsewhere = CloudApiClient(
        emu.url, TokenCredentials(emu.token), scope=ProjectState("org", "elsewhere", "1")
    )
    before = len(emu.requests)
    (left,) = recover_submissions(store, elsewhere, trainer_for=lambda _: make(client=elsewhere))
    assert (left.key, left.status, left.job_id) == (KEY, "submitting", None)
    assert "it was submitted to another project or cloud" in str(left.detail)
    assert len(emu.requests) == before
    (found,) = recover_submissions(store, emu.client())
    assert (found.status, found.detail) == ("submitted", None)


def test_what_one_cloud_may_have_is_neither_looked_for_nor_sent_in_another(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    die_in_the_request(emu, make, store)
    backend.ahead += LATER
    with Emulator() as another:
        (left,) = recover_submissions(store, another.client(), trainer_for=lambda _: make())
        assert (left.status, left.job_id) == ("submitting", None)
        says = r"used for 'bot \[order-17\]' in another project or cloud; .*settle_submission"
        with pytest.raises(ArkorUsageError, match=says):
            submit(make(client=another.client()), key=KEY, store=store)
        assert another.requests == []
    assert submit(make(), key=KEY, store=store, timeout=0).job_id in emu.jobs
    assert created(emu) == [NAME]


def test_a_known_job_is_found_when_the_cloud_has_another_address(
    emu: Emulator, make: Make, store: LeasedStore
) -> None:
    job_id = submit(make(), key=KEY, store=store).job_id
    with Emulator() as moved:
        assert submit(make(client=moved.client()), key=KEY, store=store).job_id == job_id
        assert moved.requests == []


@pytest.mark.parametrize("recovers", [True, False])
def test_a_row_of_an_older_version_does_not_name_the_cloud(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend, recovers: bool
) -> None:
    name = name_of_row(NAME, fingerprint(make().config), scope_of(emu.client()))
    older, _, cloud = name.rpartition("-")
    assert len(cloud) == 6
    backend.open_submission(KEY, older, "older", 60.0)
    job_id = emu.create_job(name=NAME)
    backend.ahead += LATER
    if recovers:
        assert [each.job_id for each in recover_submissions(store, emu.client())] == [job_id]
    assert submit(make(), key=KEY, store=store, timeout=0).job_id == job_id
    with pytest.raises(ArkorUsageError, match="with another configuration"):
        submit(make(max_steps=2), key=KEY, store=store)


def test_a_row_names_its_scope_without_an_address_that_may_be_secret(
    emu: Emulator, make: Make, store: LeasedStore, backend: MemoryBackend
) -> None:
    submit(make(), key=KEY, store=store)
    (intent,) = backend.submissions(("submitted",))
    assert intent.name.endswith(scope_of(emu.client()))
    assert "127.0.0.1" not in str(intent)


def test_a_holder_that_was_stopped_does_not_change_the_row(
    emu: Emulator,
    make: Make,
    store: LeasedStore,
    backend: MemoryBackend,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer comes after another process has found the job and closed the row."""
    close = backend.close_submission

    def close_late(key: str, owner: str, *rest: Any, **more: Any) -> bool:
        if owner == store.owner:
            backend.ahead += LATER
            assert len(recover_submissions(LeasedStore(backend), emu.client())) == 1
        return close(key, owner, *rest, **more)

    monkeypatch.setattr(backend, "close_submission", close_late)
    submission = submit(make(), key=KEY, store=store)
    assert "and not noted" in caplog.text
    monkeypatch.undo()
    assert submit(make(), key=KEY, store=store).job_id == submission.job_id
    assert created(emu) == [NAME]


def test_a_job_that_was_sent_too_late_is_reported(
    make: Make, store: LeasedStore, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The first request waits on its way until another process has submitted, too."""
    with Emulator(ScriptedEngine(steps=1), speed=0) as emu:
        emu.faults.add(Fault("stall_before_headers", route="create_job", seconds=5))
        first = Background(submit, make(client=emu.client()), key=KEY, store=store)
        until(lambda: [r.route for r in emu.requests] == ["create_job"])
        backend.ahead += LATER
        second = submit(make(client=emu.client()), key=KEY, store=LeasedStore(backend))
        emu.advance(5)
        submission = first.result()
        assert submission.job_id == second.job_id
        assert {second.job_id, *submission.others} == set(emu.jobs)
        assert len(emu.jobs) == 2
        assert submission.others[0] in caplog.text


def test_an_abort_while_the_answer_comes_is_no_proof(
    emu: Emulator, make: Make, store: LeasedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted = RunAborted("aborted while it was submitted: 502")
    aborted.__cause__ = ServerError(502, "bad gateway")

    def submit_and_be_aborted(self: Any, deadline: Any) -> Any:
        raise aborted

    monkeypatch.setattr("arkor_sync.submitting.Submitter.submit", submit_and_be_aborted)
    with pytest.raises(RunAborted):
        submit(make(), key=KEY, store=store)
    with pytest.raises(LeaseHeldError):
        submit(make(), key=KEY, store=store, timeout=0)


# -- what is given --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"key": ""}, "key: got str ''; give a text of 1 to 100 characters"),
        ({"key": "a" * 101}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"key": "a\x00"}, "key"),
        ({"key": " a"}, "key"),
        ({"key": "\ud800"}, "key"),
        ({"key": 17}, "key"),
        ({"store": FileCursorStore("x")}, "store: got a FileCursorStore"),
        ({"timeout": -1}, "timeout"),
        ({"request_limit": 0}, "request_limit"),
        ({"settle_time": "long"}, "settle_time"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused(
    emu: Emulator, make: Make, store: LeasedStore, more: Dict[str, Any], error: str
) -> None:
    arguments: Dict[str, Any] = {"key": KEY, "store": store, **more}
    with pytest.raises(ArkorUsageError, match=error):
        submit(make(), **arguments)
    assert emu.requests == []


def test_a_trainer_that_cannot_be_submitted_once_is_refused(
    emu: Emulator, make: Make, store: LeasedStore
) -> None:
    repeats = CloudApiClient(
        emu.url,
        TokenCredentials(emu.token),
        scope=ProjectState(emu.org_slug, emu.project_slug, "1"),
        retry="all",
    )
    with pytest.raises(ArkorUsageError, match="retry='safe'"):
        submit(make(client=repeats), key=KEY, store=store)
    started = make()
    started.start()
    with pytest.raises(ArkorUsageError, match="submitted already"):
        submit(started, key=KEY, store=store)
    keyed = make()
    submit(keyed, key=KEY, store=store)
    with pytest.raises(ArkorUsageError, match="has another key"):
        submit(keyed, key="order-18", store=store)
    with pytest.raises(ArkorUsageError, match="create_trainer"):
        submit("bot", key=KEY, store=store)  # type: ignore[arg-type]


# -- pure -----------------------------------------------------------------------------------------

LIMITS = [5, 10, 12, 15, 16, 20, 24, 25, 30, 32, 40, 48, 50, 60, 64, 75, 80, 96, 99, 100, 120]
LIMITS += [125, 127, 128, 150, 175, 200, 225, 250, 255, 256, 300, 400, 500, 511, 512, 750, 999]
LIMITS += [1000, 1023, 1024, 2000, 2048, 2500, 4096, 5000, 9999, 10000, 32768, 65535, 65536, 100000]


@pytest.mark.parametrize("length", LIMITS)
def test_a_list_of_this_length_may_be_cut(length: int) -> None:
    assert may_be_cut(length)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 6, 11, 13, 17, 21, 26, 37, 101, 133, 1001, 4711])
def test_a_list_of_this_length_is_whole(length: int) -> None:
    assert not may_be_cut(length)


def test_most_lengths_say_that_the_list_is_whole() -> None:
    assert sum(map(may_be_cut, range(1000))) < 200


TEXTS = st.text(st.sampled_from("a []%#-"), min_size=1, max_size=8)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_two_keys_never_give_one_name(name: str, key: str, name2: str, key2: str) -> None:
    assert (job_name(name, key) == job_name(name2, key2)) == ((name, key) == (name2, key2))


def test_the_name_can_be_read() -> None:
    assert job_name("support-bot-v1", "order-17") == "support-bot-v1 [order-17]"


def test_a_secret_is_no_part_of_the_fingerprint(make: Make) -> None:
    def of(token: str, url: str = "https://data.example/a.jsonl?sig=1") -> str:
        return fingerprint(make(dataset=BlobDataset(url, token=token)).config)

    assert of("first-token") == of("second-token")
    assert of("t", "https://data.example/a.jsonl?sig=2") == of("t")
    assert of("t", "https://data.example/b.jsonl?sig=1") != of("t")
    assert fingerprint(make(max_steps=2).config) != fingerprint(make(max_steps=3).config)


def test_records_are_part_of_the_fingerprint(make: Make) -> None:
    def of(text: str) -> str:
        record = {"messages": [{"role": "user", "content": text}]}
        return fingerprint(make(dataset=[record]).config)

    assert of("a") == of("a")
    assert of("a") != of("b")


def test_the_oldest_job_comes_first() -> None:
    job = TrainingJob.from_dict({**JOB, "name": NAME})

    def at(job_id: str, hour: int, name: str = NAME) -> TrainingJob:
        fields = {**JOB, "id": job_id, "name": name, "createdAt": f"2026-01-01T{hour:02}:00:00Z"}
        return TrainingJob.from_dict(fields)

    listed = [at("c", 3), at("a", 1), at("x", 0, f"{NAME} "), at("b", 2), at("y", 0, "bot")]
    assert find_jobs(listed, NAME) == Found(("a", "b", "c"))
    assert find_jobs([job] * 10, NAME).jobs, "a job that is there is there, however long the list"
    assert "may have been cut" in find_jobs([job] * 10, "other").doubt
    assert find_jobs([], NAME) == Found()


def test_no_secret_is_in_the_store_or_the_log(
    emu: Emulator, store: LeasedStore, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    trainer = create_trainer(
        name="bot",
        model="unsloth/gemma-4-E4B-it",
        dataset=BlobDataset("https://data.example/a.jsonl", token="hf_verysecretvalue"),
        client=emu.client(),
    )
    emu.faults.add(Fault("status", route="create_job", status=400, value="bad hf_verysecretvalue"))
    with pytest.raises(Exception, match="400") as caught:
        submit(trainer, key=KEY, store=store)
    seen = f"{caplog.text}{backend.submissions(('refused',))}{caught.value!r}"
    assert "verysecret" not in seen
