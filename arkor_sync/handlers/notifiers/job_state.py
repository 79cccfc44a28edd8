"""What a notifier has sent about one job. Runs on the worker thread."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Set

from arkor_sync.cloud.models import TrainingJob


@dataclasses.dataclass
class Sent:
    """What was sent about one job. All but `last_times` is saved for the next process.

    Attributes:
        events: The events of which a job has one, such as `completed`.
        checkpoint: The step of the last checkpoint.
        progress: The step of the last progress message.
        last_times: When the last message of a kind was sent, on the notifier's clock.
    """

    events: Set[str] = dataclasses.field(default_factory=set)
    checkpoint: int = -1
    progress: int = 0
    last_times: Dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, _: TrainingJob, saved: Any) -> Sent:
        """Restore what an earlier process saved; None if there was none."""
        if saved is None:
            return cls()
        return cls(set(saved["once"]), int(saved["checkpoint"]), int(saved["progress"]))

    def to_json(self) -> Dict[str, Any]:
        """Return what is saved for the next process."""
        return {
            "once": sorted(self.events),
            "checkpoint": self.checkpoint,
            "progress": self.progress,
        }
