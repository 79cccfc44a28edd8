"""Logs runs as Datadog events, and metrics as gauges. Runs on a thread of its own."""

from __future__ import annotations

import socket
import time
from typing import Any, Dict, List, Optional, Tuple

from arkor_sync._common.environment import variable
from arkor_sync._common.extras import import_extra
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers.loggers.base import LibraryLogger, LogRow
from arkor_sync.render.text import parse_timestamp

_ALERTS = {"completed": "success", "failed": "error", "error": "error"}
_HOST = "https://api.datadoghq.com"
_BATCH = 500  # rows in one request
_MAX_TEXT = 4000  # characters of an event's text


class DatadogEvents(LibraryLogger):
    """Posts an event when a run starts and ends, and gauges `arkor.training.loss` and so on.

    All have the tags `job_id`, `job_name` and `model`; the events of a job are aggregated. For its
    threads see `MetricsLogger`; points are sent in batches. A point has the time of its log event,
    so a point that is sent again replaces itself. The library `datadog` has one set of settings for
    the whole process: the arguments here also count for the rest of the program, and those of
    `datadog.initialize` also count here. It needs the extra `datadog`.

    Args:
        api_key: The API key; by default `DD_API_KEY` or `DATADOG_API_KEY`.
        api_host: The address of Datadog; by default `DATADOG_HOST`, or `https://api.datadoghq.com`.
        flush_timeout: Seconds that the end of a run waits for Datadog.

    Raises:
        ArkorUsageError: datadog is not installed, or there is no API key.
    """

    def __init__(
        self,
        api_key: Optional[str] = None,
        api_host: Optional[str] = None,
        *,
        flush_timeout: float = 10.0,
    ) -> None:
        super().__init__(flush_timeout=flush_timeout)
        datadog = import_extra("datadog", "datadog", "DatadogEvents")
        self._api = datadog.api
        if api_key or api_host or not self._api._api_key:
            # Given here, because the library also takes an empty variable for a value.
            api_key = (api_key or "").strip() or variable("DATADOG_API_KEY")
            api_key = api_key or variable("DD_API_KEY")
            if not api_key and not self._api._api_key:
                raise ArkorUsageError("api_key: got None; give the API key, or set DD_API_KEY")
            host = api_host or self._api._api_host or variable("DATADOG_HOST") or _HOST
            datadog.initialize(
                api_key=api_key,
                api_host=host,
                host_name=self._api._host_name or socket.gethostname(),
                hostname_from_config=False,
                mute=False,  # else the library hides errors, and they cannot be logged
            )
        self._secrets.append(self._api._api_key)

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Post that the training started."""
        text = "\n".join(f"{name}: {value}" for name, value in params.items())
        self._post_event("started", text, "info", self.job.started_at)

    def finalize(self, status: str) -> None:
        """Post how the training ended."""
        job = self.job
        self._post_event(status, job.error or "", _ALERTS.get(status, "warning"), job.completed_at)

    def _log_rows(self, rows: List[LogRow]) -> None:
        for start in range(0, len(rows), _BATCH):
            self._send(rows[start : start + _BATCH])

    def _send(self, rows: List[LogRow]) -> None:
        points: Dict[str, List[Tuple[float, float]]] = {}
        for row in rows:
            seconds = parse_timestamp(row.timestamp)
            for name, value in {"step": row.step, **row.metrics}.items():
                when = time.time() if seconds is None else seconds
                points.setdefault(name, []).append((when, value))
        metrics = [
            {
                "metric": f"arkor.training.{name}",
                "points": series,
                "type": "gauge",
                "tags": self._tags(),
            }
            for name, series in points.items()
        ]
        self._check(self._api.Metric.send(metrics=metrics))

    def _post_event(self, what: str, text: str, alert: str, timestamp: Optional[str]) -> None:
        job = self.job
        self._check(
            self._api.Event.create(
                title=f"Arkor training {what}: {job.name}"[:100],
                text=text[:_MAX_TEXT] or what,
                alert_type=alert,
                tags=self._tags(),
                aggregation_key=f"arkor-{job.id}"[:100],
                date_happened=int(parse_timestamp(timestamp) or time.time()),
            )
        )

    def _tags(self) -> List[str]:
        job = self.job
        return [f"job_id:{job.id}", f"job_name:{job.name}", f"model:{job.config.get('model')}"]

    @staticmethod
    def _check(answer: Any) -> None:
        """Raise an error that the library has hidden, because the program told it to."""
        if isinstance(answer, dict) and answer.get("errors"):
            raise OSError(f"Datadog: {answer['errors']}")
