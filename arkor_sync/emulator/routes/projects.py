"""The projects of an org. Runs in the connection's thread."""

from __future__ import annotations

from arkor_sync.emulator.http.messages import ApiError, Response
from arkor_sync.emulator.http.routing import Call, Route
from arkor_sync.emulator.routes.resource import Resource


class Projects(Resource):
    """Lists and creates projects."""

    ROUTES = (
        Route("GET", "/v1/projects", "list_projects", needs="org"),
        Route("POST", "/v1/projects", "create_project", needs="org"),
    )

    def list_projects(self, call: Call) -> Response:
        """List the org's projects."""
        org_id = call.caller.org_id
        projects = [p.wire() for p in self._store.projects if p.org_id == org_id]
        return Response(200, {"org": call.caller.org(), "projects": projects})

    def create_project(self, call: Call) -> Response:
        """Add a project to the org."""
        body = call.request.json_object()
        name, slug = body.get("name"), body.get("slug")
        if not isinstance(name, str) or not name or not isinstance(slug, str) or not slug:
            raise ApiError(400, "name and slug: expected non-empty strings")
        project = self._store.add_project(call.caller, name, slug)
        return Response(201, {"project": project.wire()})
