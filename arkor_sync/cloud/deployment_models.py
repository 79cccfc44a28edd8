"""Deployments and their keys, in the cloud's answers and in requests. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Dict, Literal, Optional, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.secret import Secret, hide_secrets
from arkor_sync.cloud.chat_request import adapter_of
from arkor_sync.cloud.fields import is_whole
from arkor_sync.cloud.record import Record, checked
from arkor_sync.errors import ResponseError

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

Retention = Union[int, Literal["unlimited", "disabled"]]
"""How long what a deployment was asked is kept: for so many days, for ever, or not at all."""

_SLUG = re.compile("[a-z0-9][a-z0-9-]{0,48}[a-z0-9]")
_SLUG_WANTED = (
    "2 to 50 characters of a-z, 0-9 and -, the first and the last no hyphen, such as 'support-bot'"
)
_LONGEST_LABEL = 80
_SHOWN_OF_A_KEY = ("id", "label", "prefix", "createdAt", "lastUsedAt")


class AuthMode(str, Enum):
    """The known ways in which a deployment asks who calls it. The cloud may add others."""

    NONE = "none"
    FIXED_API_KEY = "fixed_api_key"

    __str__ = str.__str__


class DeploymentTarget(Record):
    """What a deployment serves: an `AdapterTarget`, a `BaseModelTarget` or an `UnknownTarget`.

    Attributes:
        kind: Its name on the wire.
    """

    kind: str

    @classmethod
    def from_dict(cls, data: Any, path: str = "") -> DeploymentTarget:
        """Build the target from a decoded JSON value. One of an unknown form keeps its data."""
        if cls is not DeploymentTarget:
            return super().from_dict(data, path)
        for known in (AdapterTarget, BaseModelTarget):
            with suppress(ResponseError):
                return known.from_dict(data, path)
        return UnknownTarget.from_dict(data, path)


@dataclass(frozen=True)
class AdapterTarget(DeploymentTarget):
    """What a job has trained. `final` and `checkpoint` make one.

    Attributes:
        job_id: `jobId`, the job.
        step: The step of a checkpoint; None for the job's final model.
        extra: Keys that this version does not know; those of the inner object in `adapter`.
    """

    job_id: str
    step: Optional[int] = None
    kind: Literal["adapter"] = field(default="adapter", repr=False)
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def final(cls, job: Union[TrainingJob, str]) -> AdapterTarget:
        """Serve the final model of a job.

        Args:
            job: The job, or its id.
        """
        return cls(adapter_of(job)["jobId"])

    @classmethod
    def checkpoint(cls, job: Union[TrainingJob, str], step: int) -> AdapterTarget:
        """Serve a checkpoint of a job.

        Args:
            job: The job, or its id.
            step: The step at which it was saved.
        """
        check("step", step, is_whole(step), "the step of a checkpoint, a whole number from 0")
        return cls(adapter_of(job)["jobId"], step)

    @classmethod
    def from_dict(cls, data: Any, path: str = "") -> AdapterTarget:
        """Build the target from a decoded JSON value; see `Record.from_dict`."""
        rest = dict(checked(dict, data, path))
        checked(Literal["adapter"], rest.pop("kind", None), f"{path}.kind")
        adapter = dict(checked(dict, rest.pop("adapter", None), f"{path}.adapter"))
        form = checked(Literal["final", "checkpoint"], adapter.pop("kind", None), f"{path}.adapter")
        job_id = checked(str, adapter.pop("jobId", None), f"{path}.adapter.jobId")
        step = None
        if form == "checkpoint":
            step = checked(int, adapter.pop("step", None), f"{path}.adapter.step")
        return cls(job_id, step, extra={**rest, "adapter": adapter} if adapter else rest)

    def to_dict(self) -> Dict[str, Any]:
        """Return the wire form."""
        adapter = {**adapter_of(self.job_id, self.step), **self.extra.get("adapter", {})}
        return {"kind": self.kind, **self.extra, "adapter": adapter}


@dataclass(frozen=True)
class BaseModelTarget(DeploymentTarget):
    """A base model, as it is.

    Attributes:
        base_model: `baseModel`, its name.
        extra: Keys that this version does not know.
    """

    base_model: str
    kind: Literal["base_model"] = field(default="base_model", repr=False)
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True)
class UnknownTarget(DeploymentTarget):
    """A target of a kind, or of a form, that this version does not know: a `model_menu`.

    It can be given to `create` and `update`, too, which send it as it is.

    Attributes:
        kind: Its name on the wire.
        extra: Its other keys.
    """

    kind: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True)
class Deployment(Record):
    """A model that the cloud serves at an address of its own.

    Attributes:
        id: An opaque text.
        slug: The first part of the address. It never changes.
        org_id: `orgId`, the id of the organisation.
        project_id: `projectId`, the id of the project.
        target: What it serves.
        auth_mode: `authMode`, an `AuthMode` value, or one that this version does not know.
        url_format: `urlFormat`, `openai_compat`.
        enabled: Whether it answers. One that does not keeps its slug.
        created_at: `createdAt`, an ISO 8601 text, as the cloud sent it.
        updated_at: `updatedAt`, as `created_at`.
        custom_domain: `customDomain`, or None.
        run_retention_mode: `runRetentionMode`: `days`, `unlimited`, `disabled`, or one that this
            version does not know; or None. See `retention`.
        run_retention_days: `runRetentionDays`, or None.
        expires_at: `expiresAt`, when the cloud removes it, as `created_at`; or None.
        extra: Keys that this version does not know.
    """

    id: str
    slug: str
    org_id: str
    project_id: str
    target: DeploymentTarget
    auth_mode: str
    url_format: str
    enabled: bool
    created_at: str
    updated_at: str
    custom_domain: Optional[str] = None
    run_retention_mode: Optional[str] = None
    run_retention_days: Optional[int] = None
    expires_at: Optional[str] = None
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def from_dict(cls, data: Any, path: str = "") -> Deployment:
        """Build the deployment from a decoded JSON value; see `Record.from_dict`."""
        return super().from_dict(_judged_by_form(data, path, "authMode"), path)

    @property
    def retention(self) -> Union[int, str, None]:
        """How long what it was asked is kept: the number of days, or the name of another mode."""
        return self.run_retention_days or self.run_retention_mode


@dataclass(frozen=True)
class DeploymentKey(Record):
    """A key of a deployment, without its text.

    Attributes:
        id: An opaque text.
        label: The name for people to read.
        prefix: The first characters of the key.
        enabled: Whether it is accepted. It is not once it was revoked.
        created_at: `createdAt`, an ISO 8601 text, as the cloud sent it.
        last_used_at: `lastUsedAt`, as `created_at`, or None. The cloud may note it late.
        extra: Keys that this version does not know.
    """

    id: str
    label: str
    prefix: str
    enabled: bool
    created_at: str
    last_used_at: Optional[str] = None
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def from_dict(cls, data: Any, path: str = "") -> DeploymentKey:
        """Build the key from a decoded JSON value. A `plaintext` in it is left out."""
        shown = _judged_by_form(data, path, *_SHOWN_OF_A_KEY)
        shown.pop("plaintext", None)
        return super().from_dict(shown, path)


@dataclass(frozen=True)
class IssuedKey(Record):
    """A key that was just issued, with its text, which the cloud never shows again.

    Attributes:
        id: An opaque text.
        label: The name for people to read.
        plaintext: The key. No `repr` shows it, and no pickle holds it: there it is empty.
        prefix: The first characters of the key.
        created_at: `createdAt`, an ISO 8601 text, as the cloud sent it.
        extra: Keys that this version does not know.
    """

    id: str
    label: str
    plaintext: str = field(repr=False, compare=False)
    prefix: str
    created_at: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plaintext", Secret(self.plaintext))

    @classmethod
    def from_dict(cls, data: Any, path: str = "") -> IssuedKey:
        """Build the key from a decoded JSON value; see `Record.from_dict`."""
        return super().from_dict(_judged_by_form(data, path, *_SHOWN_OF_A_KEY), path)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "plaintext": Secret()}

    def __copy__(self) -> IssuedKey:
        return self

    def __deepcopy__(self, _memo: Any) -> IssuedKey:
        return self


def _judged_by_form(data: Any, path: str, *names: str) -> Dict[str, Any]:
    """Copy an object; of these keys the value alone says whether it is secret, not a name.

    `hide_secrets` takes `authMode`, and all that is below `key` and `keys`, for secret.
    """
    return {
        name: hide_secrets(str(value)) if name in names and isinstance(value, str) else value
        for name, value in checked(dict, data, path).items()
    }


def is_slug(text: Any) -> bool:
    """Whether a value has the form of a slug."""
    return isinstance(text, str) and bool(_SLUG.fullmatch(text))


def check_slug(slug: str) -> str:
    """Return the slug of a deployment; refuse one that the cloud would refuse.

    Raises:
        ArkorUsageError: It has other characters, or is too short or too long.
    """
    check("slug", slug, is_slug(slug), _SLUG_WANTED)
    return slug


def check_label(label: str) -> str:
    """Return the label of a key without white space around it; refuse an empty or a long one.

    Raises:
        ArkorUsageError: It does not have 1 to 80 characters.
    """
    fits = isinstance(label, str) and 1 <= len(label.strip()) <= _LONGEST_LABEL
    check("label", label, fits, f"1 to {_LONGEST_LABEL} characters that say what the key is for")
    return label.strip()


def retention_fields(retention: Optional[Retention]) -> Dict[str, Any]:
    """Return the fields of a request that say how long runs are kept; none for None.

    Raises:
        ArkorUsageError: It is neither a number of days nor one of the other modes.
    """
    if retention is None:
        return {}
    if is_whole(retention, 1):
        return {"runRetentionMode": "days", "runRetentionDays": retention}
    fits = retention in ("unlimited", "disabled")
    check("retention", retention, fits, "a whole number of days from 1, 'unlimited' or 'disabled'")
    return {"runRetentionMode": retention}
