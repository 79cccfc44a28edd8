"""Runs jobs: one thread for each, or none where a test steps it by hand."""

from __future__ import annotations

import threading
from typing import Callable, List

from arkor_sync.emulator.engine.base import Ticket, TrainingFailed
from arkor_sync.emulator.models import Job
from arkor_sync.emulator.store import Store

JOIN_SECONDS = 10.0


class Runner:
    """Publishes what engines yield.

    Args:
        store: What the emulator knows.
        failed: Told of every exception that an engine did not mean.
    """

    def __init__(self, store: Store, failed: Callable[[BaseException], None]) -> None:
        self._store = store
        self._failed = failed
        self._threads: List[threading.Thread] = []

    def launch(self, job: Job) -> None:
        """Start a job's thread; a job with a manual engine waits for :meth:`release`."""
        job.pending = job.engine.events(Ticket(job, self._store, manual=job.engine.manual))
        if job.engine.manual:
            return
        thread = threading.Thread(
            target=self._train, args=(job,), name=f"arkor-emulator-job-{job.id[:8]}", daemon=True
        )
        with self._store.changed:
            self._threads = [known for known in self._threads if known.is_alive()]
            thread.start()
            self._threads.append(thread)

    def release(self, job: Job) -> bool:
        """Publish the next item of a job; False when there was none."""
        assert job.pending is not None
        try:
            item = next(job.pending)
        except StopIteration:
            return False
        except TrainingFailed as error:
            item = {"type": "training.failed", "error": str(error), "step": job.step}
        except Exception as error:
            self._failed(error)
            item = {"type": "training.failed", "error": "internal error", "step": job.step}
        return self._store.publish(job, item, unless_terminal=True)

    def join(self) -> List[str]:
        """Wait for the threads of a store that stops; return those that would not end."""
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _train(self, job: Job) -> None:
        while self.release(job):
            pass
