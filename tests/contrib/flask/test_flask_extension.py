"""`arkor_sync.contrib.flask`: settings, submitting and following, commands, the blueprint."""

from __future__ import annotations

import contextvars
import gc
import json
import sys
import types
import weakref
from typing import Any, Callable, Dict, List, NamedTuple

import pytest

from arkor_sync import (
    ArkorUsageError,
    Callbacks,
    HuggingFaceDataset,
    create_trainer,
)
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.stores import LeasedStore
from support.extras import need
from support.memory_backend import MemoryBackend
from support.waiting import Background, until

need("flask")

from flask import Flask, g, has_app_context, has_request_context, request  # noqa: E402

from arkor_sync.contrib.flask import Arkor  # noqa: E402

Configure = Callable[..., Flask]
WHAT: Dict[str, Any] = {
    "name": "bot",
    "model": "unsloth/gemma-4-E4B-it",
    "dataset": HuggingFaceDataset("emulator/sample"),
    "max_steps": 3,
}
LATER = 200.0  # seconds: by then the lease of each submission has ended


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def store(backend: MemoryBackend) -> LeasedStore:
    return LeasedStore(backend)


def outcome(app: Flask, *arguments: str) -> Any:
    return app.test_cli_runner().invoke(args=["arkor", *arguments])


# -- settings -------------------------------------------------------------------------------------


def test_one_object_serves_several_applications(configure: Configure) -> None:
    arkor = Arkor()
    apps = [configure(ARKOR_STORE=LeasedStore(MemoryBackend())) for _ in range(2)]
    for app in apps:
        arkor.init_app(app)
    stores = []
    for app in apps:
        with app.app_context():
            stores.append(arkor.store)
            assert arkor.client is app.extensions["arkor_sync"].client
    assert stores == [app.config["ARKOR_STORE"] for app in apps]


def test_an_application_has_one(configure: Configure, store: LeasedStore) -> None:
    app = configure(ARKOR_STORE=store)
    Arkor(app)
    with pytest.raises(ArkorUsageError, match="has an Arkor already"):
        Arkor(app)


def test_an_application_without_it_is_told(configure: Configure) -> None:
    with configure().app_context(), pytest.raises(ArkorUsageError, match="init_app"):
        Arkor().store  # noqa: B018


def test_outside_of_an_application_flask_says_so(configure: Configure, store: LeasedStore) -> None:
    arkor = Arkor(configure(ARKOR_STORE=store))
    with pytest.raises(RuntimeError, match="Working outside of application context"):
        arkor.submit(key="order-17", **WHAT)


def test_setting_it_up_starts_and_sends_nothing(
    emu: Emulator, configure: Configure, backend: MemoryBackend, store: LeasedStore
) -> None:
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)
    app.register_blueprint(arkor.blueprint())
    assert emu.requests == []
    assert backend.calls == []


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"ARKOR_TTL": "long"}, "ARKOR_TTL: got str 'long'; give seconds from 1 to 3600"),
        ({"ARKOR_TTL": 0}, "ARKOR_TTL"),
        ({"ARKOR_PROJECT": "org"}, "ARKOR_PROJECT.*'organisation/project'"),
        ({"ARKOR_BASE_URL": 7}, "ARKOR_BASE_URL"),
        ({"ARKOR_TOKEN": 7}, "ARKOR_TOKEN"),
        ({"ARKOR_STORE": 7}, "ARKOR_STORE"),
        ({"ARKOR_CALLBACK": None}, "did you mean 'ARKOR_CALLBACKS'"),
        ({"ARKOR_CALLBACKS": "shop"}, "ARKOR_CALLBACKS.*'module:name'"),
        ({"ARKOR_CALLBACKS": "no_such_module:x"}, "cannot be imported"),
        ({"ARKOR_CALLBACKS": "json:no_such_name"}, "cannot be imported"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_work_is_refused(
    configure: Configure, settings: Dict[str, Any], error: str
) -> None:
    with pytest.raises(ArkorUsageError, match=error):
        Arkor(configure(**settings))


@pytest.mark.parametrize(
    "url", ["mysql://shop:geheim-geheim@db/shop", "shop:geheim-geheim@db/shop"]
)
def test_the_password_of_a_store_is_not_shown(configure: Configure, url: str) -> None:
    need("sqlalchemy")
    with pytest.raises(ArkorUsageError) as caught:
        Arkor(configure(ARKOR_STORE=url))
    assert "geheim" not in f"{caught.value!r}"


def test_without_a_store_the_error_says_what_to_give(configure: Configure) -> None:
    arkor = Arkor(app := configure())
    with app.app_context(), pytest.raises(ArkorUsageError, match=r"ARKOR_STORE.*Flask-SQLAlchemy"):
        arkor.submit(key="order-17", **WHAT)


def test_the_variables_of_the_environment_may_be_among_the_settings(
    configure: Configure, store: LeasedStore
) -> None:
    Arkor(configure(ARKOR_STORE=store, ARKOR_ORG="o", ARKOR_CLOUD_API_URL="http://127.0.0.1:1"))


# -- submitting -----------------------------------------------------------------------------------


def test_a_view_that_is_called_twice_pays_once(
    emu: Emulator, configure: Configure, store: LeasedStore
) -> None:
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)

    @app.post("/orders/<order>")
    def train(order: str) -> Any:
        return {"job": arkor.submit(key=order, **WHAT).job_id}

    jobs = {app.test_client().post("/orders/17").get_json()["job"] for _ in range(2)}
    assert jobs == set(emu.jobs)
    assert [job.name for job in emu.jobs.values()] == ["bot [17]"]


def test_a_trainer_of_the_program_is_submitted(
    emu: Emulator, configure: Configure, store: LeasedStore
) -> None:
    arkor = Arkor(app := configure(ARKOR_STORE=store))
    with app.app_context():
        trainer = create_trainer(client=emu.client(), **WHAT)
        assert arkor.submit(trainer, key="17").job_id in emu.jobs
        with pytest.raises(ArkorUsageError, match="a trainer, or the arguments of one"):
            arkor.submit(trainer, key="17", max_steps=4)


# -- following ------------------------------------------------------------------------------------

_of_the_view: contextvars.ContextVar[str] = contextvars.ContextVar("_of_the_view", default="none")


def test_a_run_keeps_nothing_of_the_request(
    emu: Emulator, configure: Configure, store: LeasedStore
) -> None:
    emu.engine = ScriptedEngine(steps=2, manual=True)
    seen: List[Any] = []

    def on_log(ctx: Any) -> None:
        seen.append((has_app_context(), has_request_context(), _of_the_view.get(), "user" in g))

    app = configure(ARKOR_STORE=store, ARKOR_CALLBACKS=Callbacks(on_log=on_log))
    arkor = Arkor(app)
    kept: Dict[str, Any] = {}

    @app.post("/train")
    def train() -> str:
        _of_the_view.set("the view")
        g.user = "somebody"
        job_id = arkor.submit(key="17", **WHAT).job_id
        kept["run"] = arkor.follow(str(job_id))
        kept["request"] = weakref.ref(request._get_current_object())  # type: ignore[attr-defined]
        return str(job_id)

    job_id = app.test_client().post("/train").text
    emu.step(job_id, 2)
    until(lambda: len(seen) == 1)
    gc.collect()
    assert not kept["run"].done()
    assert kept["request"]() is None
    emu.step(job_id, 99)
    assert kept["run"].wait().status == "completed"
    assert seen == [(True, False, "none", False)] * 2


def test_the_callbacks_may_be_a_function_of_the_job_and_be_named_in_a_text(
    emu: Emulator, configure: Configure, store: LeasedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: List[str] = []
    module: Any = types.ModuleType("shop_callbacks")
    module.of_job = lambda job_id: Callbacks(on_completed=lambda ctx: seen.append(job_id))
    monkeypatch.setitem(sys.modules, "shop_callbacks", module)
    app = configure(ARKOR_STORE=store, ARKOR_CALLBACKS="shop_callbacks:of_job")
    arkor = Arkor(app)
    with app.app_context():
        job_id = str(arkor.submit(key="17", **WHAT).job_id)
        arkor.follow(job_id).wait()
    assert seen == [job_id]


def test_a_follower_finds_what_was_submitted_and_is_not_finished(
    emu: Emulator, configure: Configure, store: LeasedStore, backend: MemoryBackend
) -> None:
    done: List[str] = []
    app = configure(
        ARKOR_STORE=store,
        ARKOR_CALLBACKS=Callbacks(on_completed=lambda ctx: done.append(ctx.job.id)),
    )
    arkor = Arkor(app)
    elsewhere = configure(ARKOR_STORE=store, ARKOR_PROJECT="other/project")
    Arkor(elsewhere)
    with app.app_context():
        jobs = [str(arkor.submit(key=f"{number}", **WHAT).job_id) for number in range(3)]
        arkor.follow(jobs[0]).wait()
        with arkor.follower(poll=0.05) as follower:
            until(lambda: len(done) == 3)
            until(lambda: follower.status().jobs == ())
    assert sorted(done) == sorted(jobs)
    with elsewhere.app_context():
        assert arkor.follower().status().jobs == (), "of its own project only"


# -- commands -------------------------------------------------------------------------------------


def test_status_says_who_follows_what(
    emu: Emulator, configure: Configure, store: LeasedStore
) -> None:
    emu.engine = ScriptedEngine(steps=2, manual=True)
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)
    with app.app_context():
        followed, alone = (str(arkor.submit(key=key, **WHAT).job_id) for key in "ab")
        run = arkor.follow(followed)
    with run:
        found = json.loads(outcome(app, "status", "--json").output)
        assert {each["job"]: each["followedBy"] for each in found["jobs"]} == {
            followed: store.owner,
            alone: None,
        }
        assert found["processes"] == {store.owner: 1}
        lines = outcome(app, "status").output
        assert store.owner in lines
        assert "nobody" in lines


def test_recover_prints_what_became_of_each_and_fails_for_an_unknown_one(
    emu: Emulator, configure: Configure, store: LeasedStore, backend: MemoryBackend
) -> None:
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)
    emu.faults.add(Fault("reset_peer", route="create_job"))
    with app.app_context(), pytest.raises(Exception, match="may have been created"):
        arkor.submit(key="17", **WHAT)
    backend.ahead += LATER
    emu.faults.add(Fault("status", route="list_jobs", status=500, count=None))
    done = outcome(app, "recover")
    assert done.exit_code == 1
    assert done.output.startswith("17\tunknown\t-: it is not known whether there is a job")
    emu.faults.clear()
    (job_id,) = emu.jobs
    done = outcome(app, "recover")
    assert (done.exit_code, done.output) == (0, f"17\tsubmitted\t{job_id}\n")
    assert outcome(app, "recover").output == ""


def test_settle_says_what_became_of_one(
    emu: Emulator, configure: Configure, store: LeasedStore
) -> None:
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)
    for key, arguments in (("17", ["job-1"]), ("18", [])):
        emu.faults.add(Fault("status", route="create_job", status=400))
        with app.app_context(), pytest.raises(Exception, match="400"):
            arkor.submit(key=key, **WHAT)
        assert outcome(app, "settle", key, *arguments).exit_code == 0
    with app.app_context():
        assert arkor.submit(key="17", **WHAT).job_id == "job-1"
        assert arkor.submit(key="18", **WHAT).job_id in emu.jobs


class HalfDone(NamedTuple):
    """An app that has submitted two jobs, with the keys `a` and `b`, and has followed the first."""

    app: Flask
    arkor: Arkor
    done: str
    alone: str


@pytest.fixture
def half_done(emu: Emulator, configure: Configure, store: LeasedStore) -> HalfDone:
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)
    with app.app_context():
        done, alone = (str(arkor.submit(key=key, **WHAT).job_id) for key in "ab")
        arkor.follow(done).wait()
    return HalfDone(app, arkor, done, alone)


def test_a_poll_reads_nothing_of_what_is_finished(
    half_done: HalfDone, backend: MemoryBackend
) -> None:
    app, arkor, _, alone = half_done
    backend.calls.clear()
    with app.app_context():
        assert [each.job_id for each in arkor.follower().status().jobs] == [alone]
    assert backend.calls == ["unfinished_submissions", "holders", "members"]


def test_prune_deletes_what_was_finished_long_ago(
    half_done: HalfDone, backend: MemoryBackend
) -> None:
    app, arkor, done, alone = half_done
    backend.ahead += 89 * 86400
    assert outcome(app, "prune").output == "0 jobs were deleted\n"
    backend.ahead += 86400
    assert outcome(app, "prune", "--days", "0").output.startswith("Error: days: got ")
    assert outcome(app, "prune").output == "1 jobs were deleted\n"
    assert backend.positions == {}
    with app.app_context():
        assert arkor.submit(key="b", **WHAT).job_id == alone
        assert arkor.submit(key="a", **WHAT).job_id not in (done, alone), "its key is forgotten"


def test_an_error_of_a_command_is_one_line(configure: Configure, store: LeasedStore) -> None:
    app = configure(ARKOR_STORE=store)
    Arkor(app)
    for arguments in (["settle", "17"], ["create-tables"]):
        done = outcome(app, *arguments)
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert done.output.count("\n") == 1


def test_follow_ends_when_it_is_told(
    emu: Emulator, configure: Configure, store: LeasedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: see `test_flask_servers.py`."""
    from arkor_sync.follower import Follower

    made: List[Follower] = []
    monkeypatch.setattr(
        Follower, "run", lambda self: made.append(self.start()) or self._loop.join(60)
    )
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)
    with app.app_context():
        arkor.submit(key="17", **WHAT)
    command = Background(outcome, app, "follow", "--max-runs", "3", "--poll", "0.05")
    until(lambda: made and [h for h in store.holders() if h.finished])
    made[0].stop()
    assert command.result().exit_code == 0


# -- the blueprint --------------------------------------------------------------------------------


def test_the_state_of_a_job_is_json_without_its_configuration(
    emu: Emulator, configure: Configure, store: LeasedStore
) -> None:
    app = configure(ARKOR_STORE=store)
    arkor = Arkor(app)
    app.register_blueprint(arkor.blueprint(), url_prefix="/arkor")
    client = app.test_client()
    with app.app_context():
        job_id = str(arkor.submit(key="17", **WHAT).job_id)
        arkor.follow(job_id).wait()
    answer = client.get(f"/arkor/jobs/{job_id}")
    assert answer.status_code == 200
    found = answer.get_json()
    assert set(found) == {
        *("id", "name", "status", "error", "createdAt", "startedAt", "completedAt"),
        *("followed", "finished"),
    }
    assert (found["id"], found["name"], found["status"]) == (job_id, "bot [17]", "completed")
    assert (found["followed"], found["finished"]) == (False, True)
    assert client.post(f"/arkor/jobs/{job_id}").status_code == 405


@pytest.mark.parametrize("job_id", ["nope", "..%2f..%2fme", "%00", "a b"])
def test_a_job_that_does_not_exist_is_404(
    configure: Configure, store: LeasedStore, job_id: str
) -> None:
    app = configure(ARKOR_STORE=store)
    app.register_blueprint(Arkor(app).blueprint())
    assert app.test_client().get(f"/jobs/{job_id}").status_code == 404


def test_a_cloud_or_a_store_that_cannot_be_reached_is_503_and_shows_nothing(
    emu: Emulator, configure: Configure, store: LeasedStore, backend: MemoryBackend
) -> None:
    app = configure(ARKOR_STORE=store)
    app.register_blueprint(Arkor(app).blueprint())
    job_id = emu.create_job()
    backend.down = True
    answers = [app.test_client().get(f"/jobs/{job_id}")]
    backend.down = False
    emu.faults.add(Fault("status", route="get_job", status=500, value="secret stack"))
    answers.append(app.test_client().get(f"/jobs/{job_id}"))
    for answer in answers:
        assert answer.status_code == 503
        assert "secret" not in answer.text
        assert "memory" not in answer.text


def test_the_credentials_of_the_settings_are_not_shown(
    emu: Emulator, configure: Configure, store: LeasedStore
) -> None:
    app = configure(ARKOR_STORE=store, ARKOR_TOKEN="a-very-secret-token")
    arkor = Arkor(app)
    with app.app_context():
        shown = f"{arkor.client!r}{app.extensions['arkor_sync']!r}{vars(arkor.client)!r}"
        assert "very-secret" not in shown
