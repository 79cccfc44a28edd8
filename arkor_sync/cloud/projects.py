"""The routes of projects, as `client.projects`. Runs on the caller's thread."""

from __future__ import annotations

from typing import List

from arkor_sync.cloud.models import Project
from arkor_sync.cloud.session import Session


class Projects:
    """The routes below `/v1/projects`; `client.projects`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self, org_slug: str) -> List[Project]:
        """Read an organisation's projects (`GET /v1/projects`)."""
        target = self._session.target("projects", scoped=False, orgSlug=org_slug)
        projects: List[Project] = self._session.request("GET", target, List[Project], "projects")
        return projects

    def create(self, org_slug: str, *, name: str, slug: str) -> Project:
        """Create a project (`POST /v1/projects`). The cloud may choose another slug.

        Raises:
            ConflictError: The slug is taken.
        """
        target = self._session.target("projects", scoped=False, orgSlug=org_slug)
        body = {"name": name, "slug": slug}
        project: Project = self._session.request("POST", target, Project, "project", body=body)
        return project
