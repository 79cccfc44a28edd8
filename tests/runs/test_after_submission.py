"""What a program is told when its job was submitted, and cannot be followed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from arkor_sync import BlobDataset, FileCursorStore, create_trainer, follow
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.errors import CursorStoreError
from arkor_sync.stream.run_threads import RunThreads


@pytest.mark.arkor(engine=ScriptedEngine(steps=3, silent_at=1))
def test_a_store_that_cannot_be_written_is_told_with_the_job_that_goes_on(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = create_trainer(
        name="n",
        model="unsloth/gemma-4-E4B-it",
        dataset=BlobDataset("file:///nowhere"),
        client=arkor_client,
        cursor_store=FileCursorStore(tmp_path / "cursors"),
    )
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if data == b"%d\n" % os.getpid():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("os.write", full)
    with pytest.raises(CursorStoreError, match=r"\.lock cannot be written: No space") as caught:
        trainer.follow()
    job_id = trainer.start().id
    expected = f"job {job_id} goes on; follow({job_id!r}) attaches to it again"
    assert expected in caught.value.__notes__  # type: ignore[attr-defined]
    assert caplog.messages.count(expected) == 1
    monkeypatch.undo()
    trainer.follow().close()


@pytest.mark.arkor(engine=ScriptedEngine(steps=3, silent_at=1))
@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_as_the_threads_start_leaves_none_and_names_the_job_once(
    arkor_emulator: Emulator,
    arkor_client: Any,
    arkor_no_leaks: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    when: str,
) -> None:
    start = RunThreads.start

    def interrupted(threads: RunThreads, *arguments: Any) -> None:
        if when == "after":
            start(threads, *arguments)
        raise KeyboardInterrupt

    trainer = create_trainer(
        name="n",
        model="unsloth/gemma-4-E4B-it",
        dataset=BlobDataset("file:///nowhere"),
        client=arkor_client,
    )
    job_id = trainer.start().id
    expected = f"job {job_id} goes on; follow({job_id!r}) attaches to it again"
    monkeypatch.setattr(RunThreads, "start", interrupted)
    for begin in (trainer.follow, lambda: follow(job_id, client=arkor_client)):
        caplog.clear()
        with pytest.raises(KeyboardInterrupt) as caught:
            begin()
        assert caught.value.__notes__.count(expected) == 1  # type: ignore[attr-defined]
        assert [each for each in caplog.messages if expected in each] == [
            f"{expected} (why this run ended: KeyboardInterrupt)"
        ]
        assert "nothing waited for it" not in caplog.text
    monkeypatch.undo()
    trainer.follow().close()
