"""The base class of the resources. Runs in the connection's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple

from arkor_sync.emulator.engine.base import Engine
from arkor_sync.emulator.http.messages import ApiError
from arkor_sync.emulator.http.routing import Route
from arkor_sync.emulator.models import Project, StoredJob
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store


@dataclass(frozen=True)
class Backend:
    """What the handlers work with.

    Args:
        store: The emulator's state.
        settings: Its settings.
        engine: Returns the engine for new jobs and for the chat with base models.
        start_job: Starts the training of a new job.
        cli_config: The response of `/v1/auth/cli/config`; None for that of the settings.
        tls: Whether the emulator uses TLS.
    """

    store: Store
    settings: Settings
    engine: Callable[[], Engine]
    start_job: Callable[[StoredJob], None]
    cli_config: Optional[Dict[str, Any]]
    tls: bool


class Resource:
    """One resource of the API: its routes, and for each a method with the route's name."""

    ROUTES: Tuple[Route, ...] = ()

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._store = backend.store
        self._settings = backend.settings

    def _job(self, project: Project, job_id: str) -> StoredJob:
        job = self._store.jobs.get(job_id)
        if job is None or job.project_id != project.id:
            raise ApiError(404, "no such job in this project")
        return job
