"""The tasks in the process that calls them, and what is refused when they are registered."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    Callbacks,
    FileCursorStore,
    HuggingFaceDataset,
    LeaseHeldError,
    TrainingJob,
    create_trainer,
)
from arkor_sync.contrib.celery import (
    beat_schedule,
    make_follow_all_task,
    make_follow_task,
    make_submit_task,
)
from arkor_sync.emulator import Emulator
from arkor_sync.emulator.engine.scripted import ScriptedEngine
from arkor_sync.stores import LeasedStore
from support.extras import need
from support.memory_backend import MemoryBackend

need("celery")

QUICK = pytest.mark.arkor(engine=ScriptedEngine(steps=3))


@pytest.fixture
def app() -> Iterator[Any]:
    from celery import Celery

    app = Celery("site", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = True
    app.conf.task_eager_propagates = True
    yield app
    app.close()


@pytest.fixture
def store() -> LeasedStore:
    return LeasedStore(MemoryBackend())


@QUICK
@pytest.mark.parametrize("way", ["delay", "apply", "call"])
def test_an_eager_task_follows_a_job_to_its_end(
    app: Any, store: LeasedStore, arkor_emulator: Emulator, arkor_client: Any, way: str
) -> None:
    steps: List[int] = []
    callbacks = Callbacks(on_log=lambda ctx: steps.append(ctx.step))
    # A slice that would be over at once: nobody would queue the task again.
    task = make_follow_task(app, callbacks=callbacks, store=store, client=arkor_client, slice=1e-6)
    job_id = arkor_emulator.create_job()
    calls = {
        "delay": lambda: task.delay(job_id).get(),
        "apply": lambda: task.apply((job_id,)).get(),
        "call": lambda: task(job_id),
    }
    expected = {"job_id": job_id, "status": "completed", "step": 3, "error": None}
    assert calls[way]() == expected
    assert steps == [1, 2, 3]
    assert calls[way]()["status"] == "completed"  # it was finished with the store
    assert steps == [1, 2, 3]  # nothing was called


@pytest.mark.arkor(engine=ScriptedEngine(steps=5, fails_at=3, error="out of memory"))
def test_a_job_that_failed_is_a_result_and_no_error_of_the_task(
    app: Any, store: LeasedStore, arkor_emulator: Emulator, arkor_client: Any
) -> None:
    task = make_follow_task(app, store=store, client=arkor_client)
    job_id = arkor_emulator.create_job()
    assert task.delay(job_id).get() == {
        "job_id": job_id,
        "status": "failed",
        "step": 2,
        "error": "out of memory",
    }


@QUICK
def test_an_eager_task_does_not_wait_for_a_job_that_is_followed(
    app: Any, store: LeasedStore, arkor_emulator: Emulator, arkor_client: Any
) -> None:
    task = make_follow_task(app, store=store, client=arkor_client)
    job_id = arkor_emulator.create_job()
    other = LeasedStore(store.backend).reserve(job_id, lambda error: None)
    with pytest.raises(LeaseHeldError):
        task.delay(job_id)
    other.release()


@QUICK
def test_each_run_has_the_callbacks_that_the_function_made_for_it(
    app: Any, store: LeasedStore, arkor_emulator: Emulator, arkor_client: Any
) -> None:
    made: List[str] = []
    seen: List[str] = []

    def callbacks_of(job_id: str) -> Callbacks:
        made.append(job_id)
        return Callbacks(on_completed=lambda ctx: seen.append(ctx.job.id))

    task = make_follow_task(app, callbacks=callbacks_of, store=store, client=arkor_client)
    jobs = [arkor_emulator.create_job() for _ in range(2)]
    for job_id in jobs:
        task.delay(job_id)
    assert made == seen == jobs


def test_the_tasks_survive_what_celery_does_with_tasks(app: Any, store: LeasedStore) -> None:
    follow = make_follow_task(app, store=store, soft_time_limit=9)
    submit = make_submit_task(app, trainer_for, store=store)
    app.finalize()
    assert (follow.name, submit.name) == ("arkor.follow_task", "arkor.submit_task")
    assert follow.soft_time_limit == 9
    assert follow.max_retries is None  # a slice that is over is no failure
    assert submit.max_retries == 50
    for task in (follow, submit):
        assert task.acks_late
        assert task.reject_on_worker_lost
        assert not task.acks_on_failure_or_timeout
        assert app.tasks[task.name].name == task.name


def trainer_for(key: str, client: Any = None, steps: int = 3) -> Any:
    return create_trainer(
        name="site",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("emulator/sample"),
        max_steps=steps,
        client=client,
    )


@QUICK
def test_a_key_is_submitted_once_and_then_followed(
    app: Any, store: LeasedStore, arkor_emulator: Emulator, arkor_client: Any
) -> None:
    completed: List[str] = []
    follow = make_follow_task(
        app,
        callbacks=Callbacks(on_completed=lambda ctx: completed.append(ctx.job.id)),
        store=store,
        client=arkor_client,
    )
    submit = make_submit_task(
        app,
        lambda key, steps: trainer_for(key, arkor_client, steps),
        store=store,
        follow_task=follow,
    )
    results = [submit.delay("order-17", steps=3).get() for _ in range(2)]
    jobs: List[TrainingJob] = arkor_client.jobs.list()
    assert results == [{"key": "order-17", "job_id": jobs[0].id}] * 2
    assert completed == [jobs[0].id]
    assert len(jobs) == 1


def test_only_jobs_that_nobody_follows_are_queued(
    app: Any, store: LeasedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = make_follow_task(app, store=store)
    queued: List[Any] = []
    monkeypatch.setattr(
        follow, "apply_async", lambda args, **options: queued.append((args, options))
    )
    backend = store.backend
    for job_id in ("held", "free", "finished"):
        backend.take(job_id, "one", 60)
    backend.save([contrib_save("finished")])
    for job_id in ("free", "finished"):
        backend.release(job_id, "one", 1)
    source = ["held", "free", "finished", "new", "new"]
    for given in (source, lambda: iter(source)):
        queued.clear()
        task = make_follow_all_task(app, follow, given, store=store, name=f"t{id(given)}")
        assert task(30) == {"queued": 2}
        assert queued == [(("free",), {"expires": 30}), (("new",), {"expires": 30})]


def contrib_save(job_id: str) -> Any:
    from arkor_sync.stores.backend import Save

    return Save(job_id, 1, "{}", True, "one")


def test_the_beat_gets_an_entry() -> None:
    assert beat_schedule(every=30) == {
        "arkor.follow_all": {
            "task": "arkor.follow_all",
            "schedule": 30,
            "args": (30,),
            "options": {"expires": 30},
        }
    }
    with pytest.raises(ArkorUsageError, match="every: "):
        beat_schedule(every=0)


def test_to_register_the_tasks_does_not_read_the_settings_of_the_app(store: LeasedStore) -> None:
    from celery import Celery

    app = Celery("site", broker="memory://", set_as_current=False)
    follow = make_follow_task(app, store=store)
    make_follow_all_task(app, follow, [], store=store)
    make_submit_task(app, trainer_for, store=store, follow_task=follow)
    app.conf.beat_schedule = beat_schedule()
    assert not app.configured
    app.config_from_object({"task_default_queue": "training"})
    assert app.conf.task_default_queue == "training"
    assert {"arkor.follow_task", "arkor.follow_all", "arkor.submit_task"} <= set(app.tasks)
    app.close()


def test_a_worker_that_shuts_down_begins_nothing(
    app: Any, store: LeasedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery.exceptions import Retry

    task = make_follow_task(app, store=store)
    again: List[Any] = []

    def retry(**options: Any) -> Retry:
        again.append(options)
        return Retry()

    monkeypatch.setattr(task, "retry", retry)
    task.push_request(called_directly=False, is_eager=False, expires=None)
    step = next(each for each in app.steps["worker"] if each.name == "arkor.watch")(None)
    step.close(None)  # as a worker does
    try:
        with pytest.raises(Retry):
            task.run("job-1")
    finally:
        step.start(None)
        task.pop_request()
    assert again == [{"countdown": 0.0, "throw": False}]
    assert store.holders() == []


REFUSED = [
    ({"store": None}, "store: got None; give a RedisCursorStore"),
    ({"store": 7}, "cursor_store: "),
    ({"slice": 0}, "slice: got int 0; give seconds above 0, or None"),
    ({"slice": "60"}, "slice: "),
    ({"retry_delay": -1}, "retry_delay: "),
    ({"callbacks": 7}, "callbacks"),
    ({"callbacks": lambda: None}, "callbacks: .*job's id"),
    ({"error_policy": 7}, "error_policy: "),
    ({"around": 7}, "around: "),
    ({"client": 7}, "client: "),
    ({"abort_grace": -1}, "abort_grace: "),
]


@pytest.mark.parametrize(
    ("options", "expected"),
    REFUSED,
    ids=[f"{next(iter(options))}-{number}" for number, (options, _) in enumerate(REFUSED)],
)
def test_what_cannot_work_is_refused(
    app: Any, store: LeasedStore, options: Any, expected: str
) -> None:
    with pytest.raises(ArkorUsageError, match=expected):
        make_follow_task(app, **{"store": store, **options})
    assert "arkor.follow_task" not in app.tasks


def test_what_needs_a_store_for_several_machines_says_so(app: Any, tmp_path: Any) -> None:
    store: Any = FileCursorStore(tmp_path)
    follow = make_follow_task(app, store=store)
    with pytest.raises(ArkorUsageError, match=r"store: got .*; give a store for several machines"):
        make_follow_all_task(app, follow, [], store=store)
    with pytest.raises(ArkorUsageError, match=r"store: got .*; give a store for several machines"):
        make_submit_task(app, trainer_for, store=store)


def test_the_other_arguments_are_checked_too(app: Any, store: LeasedStore) -> None:
    with pytest.raises(ArkorUsageError, match="follow_task: "):
        make_follow_all_task(app, "arkor.follow_task", [], store=store)
    with pytest.raises(ArkorUsageError, match="trainer_for: "):
        make_submit_task(app, "trainer", store=store)  # type: ignore[arg-type]
    with pytest.raises(ArkorUsageError, match="retry_delay: "):
        make_submit_task(app, trainer_for, store=store, retry_delay=-1)
