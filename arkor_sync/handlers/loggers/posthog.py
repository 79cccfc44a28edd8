"""Logs runs and their metrics as PostHog events. Runs on a thread of its own."""

from __future__ import annotations

import datetime
import uuid
from typing import Any, Dict, List, Optional

from arkor_sync._common.environment import variable
from arkor_sync._common.extras import import_extra
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.loggers.base import LogRow, MetricsLogger

_TIMEOUT = 15.0  # seconds
_BATCH = 100  # events in one request


class PostHogCapture(MetricsLogger):
    """Captures `arkor training started`, `arkor training log` and `arkor training completed`.

    For a run with another end, the last event is `arkor training failed`, `cancelled` or `error`.
    All have the properties `job_id`, `job_name` and `model`. The first also has the
    hyperparameters, a log `step` and the metrics, and the last the job's `error`. For its threads
    see `MetricsLogger`; events are sent in batches. The `uuid` of an event is made from the job,
    the step and the names of the metrics, so that PostHog drops an event that is sent again. No
    person profile is made. It needs the extra `posthog`.

    Args:
        api_key: The API key of the project; by default `POSTHOG_API_KEY`.
        host: The address of PostHog; by default `POSTHOG_HOST`, or PostHog's cloud in the US.
        distinct_id: The name that PostHog shows as the sender.
        flush_timeout: Seconds that the end of a run waits for PostHog.

    Raises:
        ArkorUsageError: posthog is not installed, or there is no API key.
    """

    def __init__(
        self,
        api_key: Optional[str] = None,
        host: Optional[str] = None,
        distinct_id: str = "arkor_sync",
        *,
        flush_timeout: float = 10.0,
    ) -> None:
        super().__init__(flush_timeout=flush_timeout)
        # Not PostHog's client: its threads delay the exit of the program, and it hides errors.
        self._post = import_extra("posthog.request", "posthog", "PostHogCapture").batch_post
        self._key = (api_key or variable("POSTHOG_API_KEY") or "").strip()
        if not self._key:
            raise ArkorUsageError("api_key: got None; give the API key, or set POSTHOG_API_KEY")
        self._secrets.append(self._key)
        self._host = host or variable("POSTHOG_HOST")
        self._distinct_id = distinct_id

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Capture that the training started."""
        self._capture([self._event("started", "", params, self.job.started_at)])

    def finalize(self, status: str) -> None:
        """Capture how the training ended."""
        error = {"error": self.job.error} if self.job.error else {}
        self._capture([self._event(status, "", error, self.job.completed_at)])

    def _log_rows(self, rows: List[LogRow]) -> None:
        self._capture(
            [
                self._event(
                    "log",
                    f"{row.step} {sorted(row.metrics)}",
                    {"step": row.step, **row.metrics},
                    row.timestamp,
                )
                for row in rows
            ]
        )

    def _event(
        self, kind: str, key: str, properties: Dict[str, Any], timestamp: Optional[str]
    ) -> Dict[str, Any]:
        job = self.job
        own = {"job_id": job.id, "job_name": job.name, "model": job.config.get("model")}
        return {
            "event": f"arkor training {kind}",
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"arkor:{job.id}:{kind}:{key}")),
            "distinct_id": self._distinct_id,
            "timestamp": timestamp or datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "properties": {
                **properties,
                **own,
                "$lib": "arkor_sync",
                "$process_person_profile": False,
            },
        }

    def _capture(self, events: List[Dict[str, Any]]) -> None:
        for start in range(0, len(events), _BATCH):
            batch = events[start : start + _BATCH]
            self._post(self._key, self._host, timeout=_TIMEOUT, batch=batch)
