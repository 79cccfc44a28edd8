"""Logs metrics as OpenTelemetry gauges, and runs as spans. Runs on a thread of its own."""

from __future__ import annotations

from typing import Any, Dict

from arkor_sync._common.extras import import_extra
from arkor_sync.handlers.loggers.base import LibraryLogger


class OpenTelemetryMetrics(LibraryLogger):
    """Records metrics as gauges `arkor.training.loss`, `arkor.training.step` and so on.

    Each has the attributes `arkor.job.id`, `arkor.job.name` and `arkor.model`. It uses only the
    API: your program sets up the SDK and its exporters. A gauge holds the last value at the time of
    an export, so the steps between two exports are not exported. For its threads see
    `MetricsLogger`; at the end of a run the providers are flushed. It needs the extra
    `opentelemetry`.

    Args:
        spans: Whether each run is also recorded as a span, `arkor.training`, with the
            hyperparameters as attributes. It lasts from the first event that the logger gets to the
            end of the run.
        meter_provider: The provider of the gauges; by default the global one.
        tracer_provider: The provider of the spans; by default the global one.
        flush_timeout: Seconds that the end of a run waits for the exporters.

    Raises:
        ArkorUsageError: The API is not installed.
    """

    def __init__(
        self,
        *,
        spans: bool = False,
        meter_provider: Any = None,
        tracer_provider: Any = None,
        flush_timeout: float = 10.0,
    ) -> None:
        super().__init__(flush_timeout=flush_timeout)
        metrics = import_extra("opentelemetry.metrics", "opentelemetry", "OpenTelemetryMetrics")
        self._trace = import_extra("opentelemetry.trace", "opentelemetry", "OpenTelemetryMetrics")
        meter_provider = meter_provider or metrics.get_meter_provider()
        tracer_provider = tracer_provider or self._trace.get_tracer_provider()
        self._providers = [meter_provider, *([tracer_provider] if spans else [])]
        self._meter = meter_provider.get_meter("arkor_sync")
        self._tracer = tracer_provider.get_tracer("arkor_sync") if spans else None
        self._gauges: Dict[str, Any] = {}
        self._spans: Dict[str, Any] = {}

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Start the span."""
        if self._tracer is not None and self.job.id not in self._spans:
            attributes = {
                **{name: _storable(value) for name, value in params.items()},
                **self._attributes(),
            }
            # The span has no parent, because the logger's own thread runs this.
            self._spans[self.job.id] = self._tracer.start_span(
                "arkor.training", attributes=attributes
            )

    def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
        """Set the gauges."""
        attributes = self._attributes()
        for name, value in {"step": step, **metrics}.items():
            gauge = self._gauges.get(name)
            if gauge is None:
                gauge = self._gauges[name] = self._meter.create_gauge(f"arkor.training.{name}")
            gauge.set(_storable(value), attributes)

    def finalize(self, status: str) -> None:
        """End the span, and flush the providers."""
        span = self._spans.pop(self.job.id, None)
        if span is not None:
            span.set_attribute("arkor.job.status", status)
            if status != "completed":
                span.set_status(self._trace.StatusCode.ERROR, self.job.error or status)
            span.end()
        for provider in self._providers:
            if hasattr(provider, "force_flush"):
                provider.force_flush(int(1000 * self.flush_timeout))

    def _attributes(self) -> Dict[str, Any]:
        job = self.job
        return {
            "arkor.job.id": job.id,
            "arkor.job.name": job.name,
            "arkor.model": str(job.config.get("model")),
        }


def _storable(value: Any) -> Any:
    """Convert an integer of more than 64 bits to a float, because it would break the export."""
    if not isinstance(value, int) or abs(value) < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        return str(value)
