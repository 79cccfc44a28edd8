"""The project that jobs belong to: of the environment or of a file. Runs on the caller's thread.

The file, `.arkor/state.json`, is shared with the TypeScript command line.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

from arkor_sync._common.environment import variable
from arkor_sync._common.files import read_text, write_atomically
from arkor_sync._common.json import dump_json, parse_json
from arkor_sync._common.paths import reason_of
from arkor_sync.cloud.record import Record
from arkor_sync.errors import ProjectStateError, ResponseError

PathLike = Union[str, "os.PathLike[str]"]

_MAX_SLUG = 40


@dataclass(frozen=True)
class ProjectState(Record):
    """The project of every job and chat request (their query, and `.arkor/state.json`).

    Attributes:
        org_slug: `orgSlug`.
        project_slug: `projectSlug`.
        project_id: `projectId`. No request needs it; the file does.
    """

    org_slug: str
    project_slug: str
    project_id: str = ""
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


def project_state_path(cwd: Optional[PathLike] = None) -> Path:
    """Return the path of a directory's state file; of the working directory by default."""
    return Path(os.path.abspath(cwd or os.getcwd()), ".arkor", "state.json")


def project_of_environment() -> Optional[ProjectState]:
    """Return the project that `ARKOR_ORG` and `ARKOR_PROJECT` name; `None` if they are not set.

    `ARKOR_PROJECT_ID` may name its id.

    Raises:
        ProjectStateError: Some of the variables are set, but not both of these two.
    """
    org_slug, project_slug = variable("ARKOR_ORG"), variable("ARKOR_PROJECT")
    project_id = variable("ARKOR_PROJECT_ID")
    if org_slug and project_slug:
        return ProjectState(org_slug, project_slug, project_id or "")
    values = {"ARKOR_ORG": org_slug, "ARKOR_PROJECT": project_slug, "ARKOR_PROJECT_ID": project_id}
    there = [name for name, value in values.items() if value]
    if not there:
        return None
    missing = [name for name in ("ARKOR_ORG", "ARKOR_PROJECT") if not values[name]]
    raise ProjectStateError(
        f"{' and '.join(missing)} must be set too: the environment has {' and '.join(there)}; a "
        "project is named by ARKOR_ORG and ARKOR_PROJECT together"
    )


def read_project_state(cwd: Optional[PathLike] = None) -> Optional[ProjectState]:
    """Read the state file.

    Returns:
        The state; `None` if the file is missing, cannot be read, or does not hold a state.
    """
    try:
        data = parse_json(read_text(project_state_path(cwd)))
        state = ProjectState.from_dict(data)
    except (OSError, ValueError, ResponseError):
        return None
    return state if "projectId" in data else None


def write_project_state(state: ProjectState, cwd: Optional[PathLike] = None) -> None:
    """Replace the state file, atomically.

    Raises:
        ProjectStateError: It cannot be written.
    """
    path = project_state_path(cwd)
    try:
        write_atomically(path, dump_json(state.to_dict()) + "\n", 0o644)
    except OSError as error:
        raise ProjectStateError(f"{path} cannot be written: {reason_of(error)}") from error


def derive_project(cwd: Optional[PathLike] = None) -> Tuple[str, str]:
    """Derive a project's name and slug from a directory.

    Returns:
        The name (the last part of the path) and the slug, at most 40 of `a-z`, `0-9` and `-`.
    """
    path = os.fsencode(os.path.abspath(cwd or os.getcwd())).decode("utf-8", "replace")
    parts = [part for part in re.split(r"[/\\]", path) if part]
    name = parts[-1] if parts else "project"
    # The TypeScript command line replaces UTF-16 units, and a character beyond the BMP has two.
    dashed = re.sub("[^a-z0-9-]", lambda m: "--" if m[0] > "\uffff" else "-", name.lower())
    return name, dashed.strip("-")[:_MAX_SLUG] or "project"
