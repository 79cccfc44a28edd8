"""The files of a `FileCursorStore`: what may lie in their place, and what a lease says."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from arkor_sync import (
    Callback,
    CursorStoreError,
    FileCursorStore,
    LeaseHeldError,
    SavedCursor,
    follow,
)
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import CSVLogger, EarlyStopping, HtmlReport, SlackNotifier
from arkor_sync.stores.base import encode_cursor
from support.waiting import PATIENCE

JOB = "job-1"
SAVED = SavedCursor("7", 7, ["a", "b"], False, {"mine": [1]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cursors"


@pytest.fixture
def store(folder: Path) -> FileCursorStore:
    return FileCursorStore(folder)


def flock_fails(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)


def plant_link(lock: Path, victim: Path) -> None:
    lock.symlink_to(victim)


def plant_hard_link(lock: Path, victim: Path) -> None:
    os.link(victim, lock)


def plant_fifo(lock: Path, victim: Path) -> None:
    os.mkfifo(lock)


def plant_dangling_link(lock: Path, victim: Path) -> None:
    lock.symlink_to(victim.with_name("nothing"))


def plant_directory(lock: Path, victim: Path) -> None:
    lock.mkdir()


def plant_file(lock: Path, victim: Path) -> None:
    lock.write_text("precious")


@pytest.mark.parametrize(
    ("plant", "word"),
    [
        (plant_link, "it is a link"),
        (plant_dangling_link, "it is a link"),
        (plant_hard_link, "it is no regular file with one name"),
        (plant_fifo, "it is no regular file with one name"),
        (plant_file, "it is no lock file: it has other content"),
        (plant_directory, "Is a directory"),
    ],
)
def test_what_lies_in_the_place_of_the_lock_file_is_left_as_it_is(
    store: FileCursorStore,
    folder: Path,
    tmp_path: Path,
    plant: Callable[[Path, Path], None],
    word: str,
) -> None:
    victim, lock = tmp_path / "victim", folder / f"{JOB}.lock"
    victim.write_text("precious")
    folder.mkdir()
    plant(lock, victim)
    before = stat.S_IFMT(lock.lstat().st_mode)
    with pytest.raises(CursorStoreError, match=f"{JOB}.lock cannot be opened: {word}"):
        store.lease(JOB)
    assert victim.read_text() == "precious"
    assert stat.S_IFMT(lock.lstat().st_mode) == before
    assert not (tmp_path / "nothing").exists()


def test_the_lock_file_of_a_process_that_has_died_is_used_again(
    store: FileCursorStore, folder: Path
) -> None:
    folder.mkdir()
    (folder / f"{JOB}.lock").write_text("123456789\n")
    release = store.lease(JOB)
    assert (folder / f"{JOB}.lock").read_text() == f"{os.getpid()}\n"
    release()


@pytest.mark.parametrize(
    "number", [errno.ENOLCK, errno.ENOTSUP, errno.EINTR, errno.EINVAL, errno.EIO, errno.ENOSYS]
)
def test_a_lock_that_cannot_be_had_is_not_told_as_held(
    store: FileCursorStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        flock_fails(patch, number)
        with pytest.raises(CursorStoreError, match="on a local disk") as caught:
            store.lease(JOB)
    assert not isinstance(caught.value, LeaseHeldError)
    assert f"cannot be locked: {os.strerror(number)}; give a directory" in str(caught.value)
    store.lease(JOB)()


def test_a_lock_that_another_has_is_told_as_held(
    store: FileCursorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.lease(JOB)()
    flock_fails(monkeypatch, errno.EWOULDBLOCK)
    with pytest.raises(LeaseHeldError, match=f"followed already, by process {os.getpid()} "):
        store.lease(JOB)


def test_the_folder_and_the_files_are_the_users_own_whatever_the_umask_is(
    store: FileCursorStore, folder: Path
) -> None:
    old = os.umask(0)
    try:
        release = store.lease(JOB)
        store.save(JOB, SAVED)
        release()
    finally:
        os.umask(old)
    modes = {each.name: oct(stat.S_IMODE(each.stat().st_mode)) for each in folder.iterdir()}
    assert modes == {f"{JOB}.lock": oct(0o600), f"{JOB}.json": oct(0o600)}
    assert oct(stat.S_IMODE(folder.stat().st_mode)) == oct(0o700)


def test_a_lease_removes_what_a_killed_process_left(store: FileCursorStore, folder: Path) -> None:
    folder.mkdir()
    (folder / f"{JOB}.json.123.0123456789abcdef.tmp").write_text("{")
    (folder / "job-2.json.123.0123456789abcdef.tmp").write_text("{")
    store.lease(JOB)()
    assert sorted(each.name for each in folder.iterdir()) == [
        f"{JOB}.lock",
        "job-2.json.123.0123456789abcdef.tmp",
    ]


@pytest.mark.parametrize(
    "job_id",
    ["../../victim", "..", "", "/etc/victim", "nul\0", "lone \ud800", "\udcff", "x" * 300, "a/b"],
    ids=range(9),
)
def test_any_id_has_its_files_in_the_folder(
    store: FileCursorStore, folder: Path, tmp_path: Path, job_id: str
) -> None:
    release = store.lease(job_id)
    store.save(job_id, SAVED)
    assert encode_cursor(job_id, store.load(job_id)) == encode_cursor(job_id, SAVED)
    with pytest.raises(LeaseHeldError):
        store.lease(job_id)
    release()
    assert len(list(folder.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [folder]


def test_what_could_not_be_read_again_is_not_saved(
    store: FileCursorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(JOB, SAVED)
    monkeypatch.setattr("arkor_sync.stores.files.READ_LIMIT", 500)
    with pytest.raises(CursorStoreError, match="characters; at most 500 can be read again"):
        store.save(JOB, dataclasses.replace(SAVED, state={"mine": "x" * 500}))
    assert store.load(JOB).state == SAVED.state


def test_a_folder_that_no_path_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CursorStoreError, match=r"cannot be opened: .*embedded null"):
        FileCursorStore(f"{tmp_path}/nul\0").lease(JOB)


def test_a_cursor_that_is_a_fifo_is_not_waited_for(
    store: FileCursorStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync._common.files.STALL_LIMIT", 0.05)
    folder.mkdir()
    os.mkfifo(folder / f"{JOB}.json")
    with pytest.raises(CursorStoreError, match="cannot be read: it was not ready"):
        store.load(JOB)
    with pytest.raises(CursorStoreError, match="cannot be written: No such device"):
        store.save(JOB, SAVED)


# The state of the callbacks.


class Strict(Callback):
    """A callback of a user's own, which takes its state for what it once was."""

    loaded: Any = None

    def on_log(self, ctx: Any) -> None:
        pass

    def state_dict(self) -> Dict[str, int]:
        return {"count": 1}

    def load_state_dict(self, state: Any) -> None:
        self.loaded = state["count"]


@pytest.mark.parametrize("state", [[], None, "text", {}, 7, {"other": 1}])
def test_a_state_that_a_callback_cannot_use_says_whose_it_is(
    arkor_emulator: Emulator, arkor_client: Any, store: FileCursorStore, state: Any
) -> None:
    job_id = arkor_emulator.create_job()

    def begin() -> Any:
        more: Any = {"callbacks": Strict(), "client": arkor_client, "cursor_store": store}
        return follow(job_id, **more)

    begin().wait(PATIENCE)
    (key,) = store.load(job_id).state
    store.save(job_id, SavedCursor(state={key: state}))
    expected = f"Strict cannot use the state that was saved of job {job_id}"
    with pytest.raises(CursorStoreError, match=expected) as caught:
        begin()
    assert isinstance(caught.value.__cause__, (KeyError, TypeError))
    store.lease(job_id)()  # it was given back


@pytest.mark.parametrize("handler", [CSVLogger, HtmlReport, EarlyStopping, SlackNotifier])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("state", [[], None, "text", 7, {"other": 1}, [[[1]]]])
def test_a_ready_made_callback_ignores_a_state_of_another_shape(
    arkor_emulator: Emulator,
    arkor_client: Any,
    store: FileCursorStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    handler: Any,
    inside: bool,
    state: Any,
) -> None:
    made = {
        CSVLogger: lambda: CSVLogger(tmp_path / "metrics.csv"),
        HtmlReport: lambda: HtmlReport(tmp_path / "report.html"),
        EarlyStopping: lambda: EarlyStopping("loss", patience=1000),
        SlackNotifier: lambda: SlackNotifier("http://127.0.0.1:1/secret", on=("checkpoint",)),
    }[handler]
    callback = made()
    job_id = arkor_emulator.create_job()
    if inside:
        state = {job_id: state, "begun": True, "jobs": {job_id: state}}
    callback.load_state_dict(state)
    follow(job_id, callbacks=callback, client=arkor_client, cursor_store=store).wait(PATIENCE)
    assert "failed: " not in caplog.text
