"""The project that jobs belong to. Its home is `arkor_sync.cloud`."""

from arkor_sync.cloud.project import (
    ProjectState,
    derive_project,
    ensure_project_state,
    project_state_path,
    read_project_state,
    write_project_state,
)

__all__ = [
    "ProjectState",
    "derive_project",
    "ensure_project_state",
    "project_state_path",
    "read_project_state",
    "write_project_state",
]
