"""The project of jobs; implemented in `arkor_sync.cloud`. Runs on the caller's thread."""

from arkor_sync.cloud.project import (
    ProjectState,
    derive_project,
    project_state_path,
    read_project_state,
    write_project_state,
)
from arkor_sync.cloud.projects import ensure_project_state, use_project

__all__ = [
    "ProjectState",
    "derive_project",
    "ensure_project_state",
    "project_state_path",
    "read_project_state",
    "use_project",
    "write_project_state",
]
