"""Which project jobs belong to: `.arkor/state.json` below the working directory.

Everything runs on the caller's thread. Only `ensure_project_state` uses the network.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Protocol, Tuple, Union

from arkor_sync._common.files import write_atomically
from arkor_sync._common.json import dump_json, parse_json
from arkor_sync.cloud.credentials import AnonymousCredentials, Credentials
from arkor_sync.cloud.models import Project
from arkor_sync.cloud.record import Record
from arkor_sync.errors import (
    ConflictError,
    ProjectStateError,
    ProjectStateMismatchError,
    ResponseError,
)

PathLike = Union[str, "os.PathLike[str]"]

_MAX_SLUG = 40


@dataclass(frozen=True)
class ProjectState(Record):
    """The scope of every job and chat request.

    Attributes:
        org_slug: `orgSlug`.
        project_slug: `projectSlug`.
        project_id: `projectId`.
    """

    org_slug: str
    project_slug: str
    project_id: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


class _Projects(Protocol):
    """What is asked of `client.projects` here."""

    def create(self, org_slug: str, *, name: str, slug: str) -> Project:
        """Create a project."""

    def list(self, org_slug: str) -> List[Project]:
        """Read an organisation's projects."""


class _Client(Protocol):
    """What is asked of a `CloudApiClient` here, which itself needs this module."""

    @property
    def projects(self) -> _Projects:
        """The routes below `/v1/projects`."""


def project_state_path(cwd: Optional[PathLike] = None) -> Path:
    """Return the state file of a directory, the working directory by default."""
    return Path(os.path.abspath(cwd or os.getcwd()), ".arkor", "state.json")


def read_project_state(cwd: Optional[PathLike] = None) -> Optional[ProjectState]:
    """Read the state file.

    Returns:
        The state; `None` if the file is missing, cannot be read or is not usable.
    """
    try:
        return ProjectState.from_dict(parse_json(project_state_path(cwd).read_bytes()))
    except (OSError, ValueError, ResponseError):
        return None


def write_project_state(state: ProjectState, cwd: Optional[PathLike] = None) -> None:
    """Replace the state file as a whole.

    Raises:
        ProjectStateError: It cannot be written.
    """
    path = project_state_path(cwd)
    try:
        write_atomically(path, dump_json(state.to_dict()) + "\n", 0o666)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProjectStateError(f"{path} cannot be written: {reason}") from error


def derive_project(cwd: Optional[PathLike] = None) -> Tuple[str, str]:
    """Derive a project's name and slug from a directory.

    Returns:
        The name (the last part of the path) and the slug, at most 40 of `a-z`, `0-9` and `-`.
    """
    path = os.fsencode(os.path.abspath(cwd or os.getcwd())).decode("utf-8", "replace")
    parts = [part for part in re.split(r"[/\\]", path) if part]
    name = parts[-1] if parts else "project"
    # The TypeScript command line counts UTF-16 units: a character beyond the BMP is two dashes.
    dashed = re.sub("[^a-z0-9-]", lambda m: "--" if m[0] > "\uffff" else "-", name.lower())
    return name, dashed.strip("-")[:_MAX_SLUG] or "project"


def ensure_project_state(
    client: _Client, credentials: Credentials, cwd: Optional[PathLike] = None
) -> ProjectState:
    """Read the directory's project state, or create a project for an anonymous identity.

    Args:
        client: Makes the requests, if any: a `CloudApiClient`.
        credentials: Who asks.
        cwd: The directory; the working directory by default.

    Raises:
        ProjectStateMismatchError: The state belongs to another anonymous organisation.
        ProjectStateError: There is no state, and an account's project cannot be guessed; or the
            new state cannot be written.
        CloudApiError: The project cannot be created.
    """
    path = project_state_path(cwd)
    state = read_project_state(cwd)
    if not isinstance(credentials, AnonymousCredentials):
        if state is None:
            raise ProjectStateError(
                f"{path} is missing or not usable, and an account's token does not say which "
                "project it is for; write it by hand: "
                '{"orgSlug": "...", "projectSlug": "...", "projectId": "..."}; or make the client '
                "with scope=ProjectState(org_slug, project_slug, project_id)"
            )
        return state
    if state is not None and state.org_slug != credentials.org_slug:
        raise ProjectStateMismatchError(
            f"{path} belongs to the organisation {state.org_slug!r}, and these anonymous "
            f"credentials to {credentials.org_slug!r}; remove the file to start a new project, or "
            "sign in with the account that owns it"
        )
    if state is None:
        state = _create_project(client.projects, credentials.org_slug, cwd)
        write_project_state(state, cwd)
    return state


def _create_project(projects: _Projects, org_slug: str, cwd: Optional[PathLike]) -> ProjectState:
    name, slug = derive_project(cwd)
    try:
        project = projects.create(org_slug, name=name, slug=slug)
    except ConflictError:
        owned = [each for each in projects.list(org_slug) if each.slug == slug]
        if not owned:
            raise
        project = owned[0]
    return ProjectState(org_slug, project.slug, project.id)
