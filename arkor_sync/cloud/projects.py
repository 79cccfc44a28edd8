"""The routes of projects, and the project of a directory. Runs on the caller's thread."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Protocol

from arkor_sync._common.arguments import did_you_mean, refusal
from arkor_sync._common.files import keep_copy, read_text
from arkor_sync._common.json import parse_json
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.credentials import AnonymousCredentials, Credentials
from arkor_sync.cloud.models import Project
from arkor_sync.cloud.project import (
    PathLike,
    ProjectState,
    derive_project,
    project_of_environment,
    project_state_path,
    read_project_state,
    write_project_state,
)
from arkor_sync.cloud.record import Record
from arkor_sync.cloud.session import CloudSession
from arkor_sync.errors import ConflictError, ProjectStateError, ProjectStateMismatchError

_KEYS = ("orgSlug", "projectSlug", "projectId")  # of the file


class ProjectList(List[Project]):
    """The projects of an organisation: a list, with the organisation.

    Attributes:
        org: The organisation, as the cloud describes it; it has its `slug`.
    """

    org: Dict[str, Any]


@dataclass(frozen=True)
class _Answer(Record):
    projects: List[Project]
    org: Optional[Dict[str, Any]] = None
    extra: Dict[str, Any] = field(default_factory=dict)


class Projects:
    """The routes below `/v1/projects`; `client.projects`."""

    def __init__(self, session: CloudSession) -> None:
        self._session = session

    def list(self, org_slug: str) -> ProjectList:
        """Read the projects of an organisation (`GET /v1/projects`).

        Args:
            org_slug: The organisation (`orgSlug`).

        Returns:
            The projects. `org` of the list is the organisation.
        """
        target = self._session.target("projects", scoped=False, orgSlug=org_slug)
        answer: _Answer = self._session.request("GET", target, _Answer)
        projects = ProjectList(answer.projects)
        projects.org = answer.org or {}
        return projects

    def create(self, org_slug: str, *, name: str, slug: str) -> Project:
        """Create a project (`POST /v1/projects`).

        Args:
            org_slug: The organisation (`orgSlug`).
            name: The name for people to read.
            slug: The name in URLs. The cloud may choose another one.

        Raises:
            ConflictError: The slug is taken.
        """
        target = self._session.target("projects", scoped=False, orgSlug=org_slug)
        body = {"name": name, "slug": slug}
        project: Project = self._session.request("POST", target, Project, "project", body=body)
        return project


class _Client(Protocol):
    """What `ensure_project_state` needs of a `CloudApiClient`, whose module imports this one."""

    projects: Projects


def ensure_project_state(
    client: _Client, credentials: Credentials, cwd: Optional[PathLike] = None
) -> ProjectState:
    """Find the project of an identity: in the environment, else in a directory's file.

    With `ARKOR_ORG` and `ARKOR_PROJECT` no file is read or written. Without them, and without a
    file, a project is created for an anonymous identity, and the file is written.

    Args:
        client: The `CloudApiClient` that creates the project.
        credentials: The identity that the client uses.
        cwd: The directory; the working directory by default.

    Raises:
        ProjectStateMismatchError: The project belongs to another organisation than this anonymous
            identity.
        ProjectStateError: The project of an account is not known; or only a part of the variables
            is set; or the new state cannot be written.
        CloudApiError: The project cannot be created.
        ArkorConnectionError: The cloud cannot be reached.
    """
    state = project_of_environment()
    if state is not None:
        _check_owner(state, credentials, "ARKOR_ORG", "unset ARKOR_ORG and ARKOR_PROJECT")
        return state
    path = project_state_path(cwd)
    state = read_project_state(cwd)
    if state is not None:
        _check_owner(state, credentials, str(path), "remove the file")
        return state
    if not isinstance(credentials, AnonymousCredentials):
        raise ProjectStateError(
            f"{path} is missing or not usable, and an account's token does not say which project "
            "it is for; run `arkor-sync projects use ORG/PROJECT`, or set ARKOR_ORG and "
            "ARKOR_PROJECT, or make the client with scope=ProjectState(org_slug, project_slug), or "
            "write it by hand: "
            '{"orgSlug": "...", "projectSlug": "...", "projectId": "..."}'
        )
    state = _create_project(client.projects, credentials.org_slug, cwd)
    with suppress(OSError):  # there may be no file, or not one that can be written
        keep_copy(path)
    write_project_state(state, cwd)
    return state


def use_project(
    client: _Client, org_slug: str, project_slug: str, cwd: Optional[PathLike] = None
) -> ProjectState:
    """Make a project of the cloud the project of a directory: write `.arkor/state.json`.

    Other keys of the file are kept. Text that is no JSON object is kept in `state.json.bak`.

    Args:
        client: The `CloudApiClient` that looks the project up.
        org_slug: The organisation.
        project_slug: The project, which has to exist.
        cwd: The directory; the working directory by default.

    Returns:
        What the file holds now.

    Raises:
        ArkorUsageError: The organisation has no such project; the message names those it has.
            Nothing was written.
        CloudApiError: The cloud refused to list the projects.
        ArkorConnectionError: The cloud cannot be reached.
        ProjectStateError: The file cannot be written.
    """
    listed = client.projects.list(org_slug)
    found = next((each for each in listed if each.slug == project_slug), None)
    if found is None:
        names = [each.slug for each in listed]
        has = ", ".join(map(safe_line, names[:20])) or "none"
        raise refusal(
            "project",
            project_slug,
            f"a project of the organisation {safe_line(org_slug)!r}"
            f"{did_you_mean(project_slug, names)}; it has: {has}",
        )
    path, kept = project_state_path(cwd), {}
    try:
        old = parse_json(read_text(path))
        kept = {key: each for key, each in old.items() if key not in _KEYS}
    except (OSError, ValueError, AttributeError):
        with suppress(OSError):  # there may be no file, or not one that can be read
            keep_copy(path)
    state = ProjectState(org_slug, found.slug, found.id, kept)
    write_project_state(state, cwd)
    return state


def _check_owner(state: ProjectState, credentials: Credentials, where: str, remedy: str) -> None:
    """Refuse a project of another organisation than that of an anonymous identity."""
    if isinstance(credentials, AnonymousCredentials) and state.org_slug != credentials.org_slug:
        raise ProjectStateMismatchError(
            f"{where} names the organisation {state.org_slug!r}, and these anonymous credentials "
            f"belong to {credentials.org_slug!r}; {remedy} to start a new project, or sign in with "
            "the account that owns it"
        )


def _create_project(projects: Projects, org_slug: str, cwd: Optional[PathLike]) -> ProjectState:
    name, slug = derive_project(cwd)
    try:
        project = projects.create(org_slug, name=name, slug=slug)
    except ConflictError:
        owned = [each for each in projects.list(org_slug) if each.slug == slug]
        if not owned:
            raise
        project = owned[0]
    return ProjectState(org_slug, project.slug, project.id)
