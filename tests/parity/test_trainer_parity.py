"""What a trainer is made of, and what constructing and starting it does and does not."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import pytest

from arkor_sync import (
    Action,
    AnonymousCredentials,
    ArkorConnectionError,
    ArkorUsageError,
    Callbacks,
    CloudApiClient,
    ErrorPolicy,
    FileCursorStore,
    HuggingFaceDataset,
    LoraConfig,
    ProjectState,
    ProjectStateMismatchError,
    Ratio,
    ReconnectPolicy,
    Redeliver,
    RunAborted,
    Steps,
    TokenCredentials,
    TrainingJob,
    create_trainer,
    follow,
)
from arkor_sync import _follow as follow_module
from arkor_sync import trainer as trainer_module
from arkor_sync.cloud.project import write_project_state
from arkor_sync.cloud.transport import Transport
from arkor_sync.emulator import Emulator
from arkor_sync.options import RunOptions
from support.waiting import PATIENCE

MODEL = "unsloth/gemma-4-E4B-it"
DATASET = HuggingFaceDataset("arkorlab/triage-demo")
Make = Callable[..., Any]

ARGUMENTS: Dict[str, Any] = {
    "name": "Night run 7",
    "model": MODEL,
    "dataset": HuggingFaceDataset("arkorlab/triage-demo", split="train", subset="en"),
    "lora": LoraConfig(r=8, alpha=32, max_length=2048, load_in_4bit=False),
    "max_steps": 11,
    "num_train_epochs": 2.5,
    "learning_rate": 2e-4,
    "batch_size": 3,
    "optim": "adamw_8bit",
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.25,
    "warmup_steps": Ratio(0.1),
    "logging_steps": Steps(2),
    "save_steps": 5,
    "eval_steps": 25,
    "train_on_responses_only": True,
    "dataset_format": {"type": "chatml"},
    "dataset_split": {"enabled": True, "testSize": 0.2, "seed": 3},
    "gpu_types": ["h100", "a100"],
    "dry_run": False,
    "extra": {"somethingNew": [1, None]},
}

CONFIG: Dict[str, Any] = {
    "model": MODEL,
    "datasetSource": {
        "type": "huggingface",
        "name": "arkorlab/triage-demo",
        "split": "train",
        "subset": "en",
    },
    "loraR": 8,
    "loraAlpha": 32,
    "maxLength": 2048,
    "loadIn4bit": False,
    "maxSteps": 11,
    "numTrainEpochs": 2.5,
    "learningRate": 2e-4,
    "batchSize": 3,
    "optim": "adamw_8bit",
    "lrSchedulerType": "cosine",
    "weightDecay": 0.25,
    "warmupSteps": {"ratio": 0.1},
    "loggingSteps": {"steps": 2},
    "saveSteps": {"steps": 5},
    "evalSteps": {"steps": 25},
    "trainOnResponsesOnly": True,
    "datasetFormat": {"type": "chatml"},
    "datasetSplit": {"enabled": True, "testSize": 0.2, "seed": 3},
    "gpuTypes": ["h100", "a100"],
    "dryRun": False,
    "somethingNew": [1, None],
}

RUN_OPTIONS: Dict[str, Any] = {
    "callbacks": Callbacks(on_log=print),
    "error_policy": ErrorPolicy.log(budget=7),
    "reconnect": ReconnectPolicy(base=9.0),
    "cursor_store": FileCursorStore("cursors"),
    "abort_event": threading.Event(),
    "around": contextlib.nullcontext,
    "stale_after": 77.0,
    "abort_grace": 6.5,
    "max_buffered_events": 9,
    "max_buffered_bytes": 99,
    "max_event_bytes": 999,
    "max_history_bytes": 9999,
}


def simple(**more: Any) -> Any:
    return create_trainer(**{"name": "a run", "model": MODEL, "dataset": DATASET, **more})


def created(emulator: Emulator) -> Any:
    (request,) = [r for r in emulator.requests if (r.method, r.path) == ("POST", "/v1/jobs")]
    return request


def test_no_argument_of_the_job_is_forgotten_here() -> None:
    own = set(inspect.signature(create_trainer).parameters)
    others = {"client", "credentials", "base_url", "cwd"}
    assert own == {*ARGUMENTS, *RUN_OPTIONS, *others}
    assert set(RUN_OPTIONS) == {f.name for f in dataclasses.fields(RunOptions)} - {
        "clock",
        "lease_wait",
    }


def test_every_argument_is_submitted_under_its_wire_name(
    emulator: Emulator, client_of: Make
) -> None:
    trainer = create_trainer(**ARGUMENTS, client=client_of(emulator))
    assert trainer.name == "Night run 7"
    assert trainer.config == CONFIG
    job = trainer.start()
    assert created(emulator).body == {"name": "Night run 7", "config": CONFIG}
    assert job.name == "Night run 7"


def test_what_is_left_out_is_not_submitted(emulator: Emulator, client_of: Make) -> None:
    simple(client=client_of(emulator)).start()
    source = {"type": "huggingface", "name": "arkorlab/triage-demo"}
    assert created(emulator).body["config"] == {"model": MODEL, "datasetSource": source}


def test_what_the_arguments_become_later_changes_nothing(
    emulator: Emulator, client_of: Make
) -> None:
    split = {"enabled": True, "testSize": 0.2}
    gpus = ["h100"]
    trainer = simple(dataset_split=split, gpu_types=gpus, client=client_of(emulator))
    split["enabled"] = False
    gpus.append("a100")
    trainer.start()
    config = created(emulator).body["config"]
    assert config["datasetSplit"]["enabled"] is True
    assert config["gpuTypes"] == ["h100"]


@pytest.mark.parametrize("name", sorted(RUN_OPTIONS))
def test_every_option_of_the_run_is_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked one by one, so that one cannot be taken for another."""
    seen: List[RunOptions] = []

    class Captured:
        def __init__(self, client: Any, job: Any, options: RunOptions) -> None:
            seen.append(options)

        def start(self) -> Any:
            return self

    for module in (trainer_module, follow_module):
        monkeypatch.setattr(module, "Run", Captured)
    job = SimpleNamespace(id="job-1", name="n")
    jobs = SimpleNamespace(get=str, create=lambda name, config, transport: job)
    client: Any = SimpleNamespace(jobs=jobs, transport=Transport)
    given = {name: RUN_OPTIONS[name]}
    follow("job-1", client=client, **given)
    simple(client=client, **given).follow()
    attached, submitted = seen
    for options in (attached, submitted):
        kept = getattr(options, name)
        assert kept is RUN_OPTIONS[name] or kept == (RUN_OPTIONS[name],)


def test_the_options_are_the_same_wherever_they_are_given() -> None:
    fields = {f.name: f.default for f in dataclasses.fields(RunOptions)}
    for function in (create_trainer, follow):
        parameters = inspect.signature(function).parameters
        assert {name: parameters[name].default for name in RUN_OPTIONS} == {
            name: fields[name] for name in RUN_OPTIONS
        }


def test_constructing_reads_nothing_sends_nothing_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (tmp_path / "home" / ".arkor").mkdir()
    (tmp_path / "home" / ".arkor" / "credentials.json").write_text("{unusable")
    threads = set(threading.enumerate())  # some of an earlier test may end meanwhile
    trainer = simple(abort_event=threading.Event(), cursor_store=FileCursorStore("cursors"))
    assert trainer.run is None
    assert set(threading.enumerate()) <= threads
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        ".arkor",
        "credentials.json",
        "home",
        "work",
    ]


def test_a_model_that_cannot_be_trained_is_refused_at_once() -> None:
    with pytest.raises(ArkorUsageError, match=r"4B'; give 'unsloth/gemma-4-E4B-it'$"):
        simple(model="unsloth/gemma-4-E4B")


@pytest.mark.parametrize("name", ["", " ", None, 5])
def test_a_name_that_names_nothing_is_refused_at_once(name: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^name: got"):
        simple(name=name)


@pytest.mark.parametrize(
    "more", [{"credentials": TokenCredentials("t")}, {"base_url": "http://x"}, {"cwd": "."}]
)
def test_a_client_and_what_makes_one_exclude_each_other(more: Any) -> None:
    client = CloudApiClient("http://127.0.0.1:1", TokenCredentials("t"))
    with pytest.raises(ArkorUsageError, match="either a client"):
        simple(client=client, **more)
    with pytest.raises(ArkorUsageError, match="either a client"):
        follow("job-1", client=client, **more)


@pytest.mark.parametrize(
    "name",
    [
        "stale_after",
        "abort_grace",
        "max_buffered_events",
        "max_buffered_bytes",
        "max_event_bytes",
        "max_history_bytes",
    ],
)
@pytest.mark.parametrize("value", ["5", None, True, [1], float("nan"), -1], ids=repr)
def test_a_number_that_cannot_work_is_named(name: str, value: Any) -> None:
    with pytest.raises(ArkorUsageError, match=f"^{name}: got"):
        simple(**{name: value})


def test_the_projects_folder_is_that_of_the_construction(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id)
    write_project_state(state)
    trainer = simple(credentials=TokenCredentials(emulator.token), base_url=emulator.url)
    monkeypatch.chdir(tmp_path)
    trainer.start()
    assert created(emulator).query["projectSlug"] == emulator.project_slug


def test_an_explicit_folder_comes_before_the_current_one(
    emulator: Emulator, tmp_path: Path
) -> None:
    state = ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id)
    write_project_state(state, tmp_path)
    write_project_state(ProjectState("not", "this", "one"))
    credentials = TokenCredentials(emulator.token)
    simple(credentials=credentials, base_url=emulator.url, cwd=str(tmp_path)).start()
    assert created(emulator).query["orgSlug"] == emulator.org_slug


def test_the_clouds_url_is_looked_up_at_the_first_request_unless_it_is_given(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = TokenCredentials(emulator.token)
    write_project_state(ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id))
    late, given = (
        simple(credentials=credentials),
        simple(credentials=credentials, base_url=emulator.url),
    )
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", emulator.url)
    assert late.start().id in emulator.jobs
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", "http://127.0.0.1:1")
    assert given.start().id in emulator.jobs


def test_a_project_of_another_anonymous_organisation_stops_the_start(emulator: Emulator) -> None:
    write_project_state(ProjectState("another-org", "p", "1"))
    credentials = AnonymousCredentials(emulator.token, "id", emulator.url, emulator.org_slug)
    with pytest.raises(ProjectStateMismatchError):
        simple(credentials=credentials).start()
    assert emulator.requests == []


def test_a_usable_state_needs_no_request_before_the_job(emulator: Emulator) -> None:
    write_project_state(ProjectState(emulator.org_slug, emulator.project_slug, emulator.project_id))
    credentials = AnonymousCredentials(emulator.token, "id", emulator.url, emulator.org_slug)
    simple(credentials=credentials).start()
    assert [(r.method, r.path) for r in emulator.requests] == [("POST", "/v1/jobs")]


def test_a_second_start_submits_nothing_and_returns_the_same_job(
    emulator: Emulator, client_of: Make
) -> None:
    trainer = simple(client=client_of(emulator))
    assert trainer.start() is trainer.start()
    assert created(emulator)


@pytest.mark.parametrize(
    "name",
    ["on_started", "on_log", "on_checkpoint", "on_completed", "on_failed", "on_cancelled"],
)
def test_each_decorator_adds_a_callback_of_its_own_name(name: str) -> None:
    trainer = simple()

    @getattr(trainer, name)
    def mine(ctx: Any) -> None: ...

    assert mine.__name__ == "mine"
    assert trainer._added == [{name: mine}]
    with pytest.raises(ArkorUsageError, match=f"^{name}: .* called with one argument"):
        getattr(trainer, name)(lambda: None)


class SlowCloud:
    """A client whose submission takes until it is told to go on."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.jobs = self

    def create(self, name: str, config: Any, *, transport: Any) -> TrainingJob:
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        return TrainingJob("job-1", "o", "p", name, "queued", config, "2026-01-01T00:00:00Z")

    def events(self, *_: Any, **__: Any) -> Any:
        raise ArkorConnectionError("no stream yet")


def test_an_abort_while_the_job_is_being_submitted_is_not_lost() -> None:
    cloud: Any = SlowCloud()
    cloud.transport = CloudApiClient("http://127.0.0.1:1", TokenCredentials("t")).transport
    trainer = simple(client=cloud)
    caught: List[BaseException] = []

    def wait() -> None:
        try:
            trainer.wait(PATIENCE)
        except RunAborted as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert cloud.asked.wait(PATIENCE)
    trainer.abort("changed my mind")
    cloud.go_on.set()
    thread.join(PATIENCE)
    (error,) = caught
    assert error.reason == "changed my mind"  # type: ignore[attr-defined]


def test_what_was_aborted_before_its_submission_says_why() -> None:
    trainer = simple()
    trainer.abort("no budget")
    trainer.abort("again")
    event = threading.Event()
    event.set()
    for each, reason in (
        (trainer, "no budget"),
        (simple(abort_event=event), "abort_event was set"),
    ):
        with pytest.raises(RunAborted, match="before it was submitted") as caught:
            each.wait()
        assert caught.value.reason == reason


def test_a_client_that_is_none_is_named_before_anything_is_sent() -> None:
    for wrong in ("https://api.arkor.ai", 5, CloudApiClient("http://x", TokenCredentials("t")).me):
        with pytest.raises(ArkorUsageError, match=r"client: got .*; give a CloudApiClient"):
            simple(client=wrong)


def test_an_emulator_in_place_of_its_client_is_named(emulator: Emulator) -> None:
    for use in (lambda: simple(client=emulator), lambda: follow("job-1", client=emulator)):
        with pytest.raises(ArkorUsageError) as caught:
            use()
        assert str(caught.value) == (
            "client: got an Emulator; give a CloudApiClient; did you forget .client()?"
        )
    assert simple(client=emulator.client()).run is None


def test_a_timeout_that_is_no_number_of_seconds_submits_nothing(emulator: Emulator) -> None:
    trainer = simple(client=emulator.client())
    for wrong in ("10", -1, float("nan"), True):
        with pytest.raises(ArkorUsageError, match=r"^timeout: got .*; give a number of seconds "):
            trainer.wait(wrong)
    assert not emulator.requests


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ErrorPolicy().on(do=Action.RETRY, attempts=2, base="1"), "base: got str '1'"),
        (lambda: ErrorPolicy().on(do=Action.RETRY, attempts=2, cap=None), "cap: got None"),
        (lambda: Redeliver(delay="5"), "delay: got str '5'"),
        (lambda: Redeliver(attempts="5"), "attempts: got str '5'"),
        (lambda: Redeliver(attempts=2.5), "attempts: got float 2.5"),
        (lambda: ReconnectPolicy(permanent=401), "permanent: got int 401"),
        (lambda: ReconnectPolicy(permanent=["401"]), "permanent: got str '401'"),
        (lambda: ReconnectPolicy(permanent="401"), "permanent: got str '[014]'"),
    ],
)
def test_a_policys_value_of_another_type_is_named(build: Callable[[], Any], says: str) -> None:
    with pytest.raises(ArkorUsageError, match=f"^{says}"):
        build()
