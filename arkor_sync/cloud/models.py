"""The objects in the cloud's answers, as frozen dataclasses. Pure.

They are decoded strictly (`Record.from_dict`), and keep the keys that this version does not know in
`extra`. The inputs of jobs, from `datasets` and `job_config`, can be imported from here too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Dict, List, Literal, Optional, Union

from arkor_sync.cloud.datasets import BlobDataset, DatasetSplit, HuggingFaceDataset
from arkor_sync.cloud.job_config import (
    SUPPORTED_MODELS,
    LoraConfig,
    Ratio,
    Steps,
    build_job_config,
)
from arkor_sync.cloud.record import Record, checked

__all__ = [
    "SUPPORTED_MODELS",
    "AnonymousToken",
    "BlobDataset",
    "DatasetSplit",
    "HuggingFaceDataset",
    "JobStatus",
    "LoraConfig",
    "Me",
    "Org",
    "PersonalOrg",
    "Project",
    "Ratio",
    "Record",
    "Steps",
    "TrainingJob",
    "build_job_config",
]


class JobStatus(str, Enum):
    """The known statuses of a job. The cloud may add others: see `TrainingJob.status`."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __str__ = str.__str__


if TYPE_CHECKING:
    Status = Union[Literal["queued", "running", "completed", "failed", "cancelled"], str]
else:
    Status = str  # a record accepts any text: the cloud may add statuses

_TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True)
class TrainingJob(Record):
    """A fine-tuning job, as the cloud describes it.

    Attributes:
        id: An opaque text.
        org_id: `orgId`, the id of the organisation.
        project_id: `projectId`, the id of the project.
        name: The run name given at submission.
        status: A `JobStatus` value, or one that this version does not know.
        config: The configuration in wire form; it always has a `model`. `repr` does not show it,
            because it may hold the token of a dataset.
        created_at: `createdAt`, an ISO 8601 text, as the cloud sent it.
        error: Why it failed, or `None`.
        started_at: `startedAt`, as `created_at`, or `None`.
        completed_at: `completedAt`, as `created_at`, or `None`.
        extra: Keys that this version does not know.
    """

    id: str
    org_id: str
    project_id: str
    name: str
    status: Status
    config: Dict[str, Any] = field(hash=False, repr=False)
    created_at: str
    error: Optional[str] = None
    started_at: Optional[str] = None
    completed_at: Optional[str] = None
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def from_dict(cls, data: Any, path: str = "") -> TrainingJob:
        """Build the job from a decoded JSON value; see `Record.from_dict`."""
        job = super().from_dict(data, path)
        checked(str, job.config.get("model"), f"{path}.config.model" if path else "config.model")
        return job

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended: completed, failed or cancelled."""
        return self.status in _TERMINAL

    def _repr_html_(self) -> str:
        """Show the job in a notebook; not its configuration, but for the model."""
        from arkor_sync._common.html import card_html  # only for notebooks

        facts = (
            ("Model", str(self.config.get("model", ""))),
            ("Created", self.created_at),
            ("Started", self.started_at),
            ("Ended", self.completed_at),
        )
        return card_html(self.name, facts, status=self.status, id=self.id, reason=self.error or "")


@dataclass(frozen=True)
class Project(Record):
    """A project of an organisation."""

    id: str
    slug: str
    name: str
    org_id: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True)
class Org(Record):
    """An organisation, as `GET /v1/me` lists it."""

    id: str
    slug: Optional[str] = None
    name: Optional[str] = None
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True)
class PersonalOrg(Record):
    """The organisation that comes with an anonymous token."""

    id: str
    slug: str
    name: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True)
class AnonymousToken(Record):
    """The answer of `POST /v1/auth/anonymous`: a new identity with its own organisation."""

    token: str = field(repr=False)
    anonymous_id: str
    kind: Literal["cli", "web"]
    personal_org: PersonalOrg
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True)
class Me(Record):
    """The answer of `GET /v1/me`: who the token belongs to, and its organisations."""

    user: Dict[str, Any] = field(hash=False)
    orgs: List[Org] = field(hash=False)
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)
