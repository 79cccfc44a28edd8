"""The project that jobs belong to, in the file `.arkor/state.json`. Runs on the caller's thread.

The file is shared with the TypeScript command line.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

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
        project_id: `projectId`.
    """

    org_slug: str
    project_slug: str
    project_id: str
    extra: Dict[str, Any] = field(default_factory=dict, hash=False, repr=False)


def project_state_path(cwd: Optional[PathLike] = None) -> Path:
    """Return the path of a directory's state file; of the working directory by default."""
    return Path(os.path.abspath(cwd or os.getcwd()), ".arkor", "state.json")


def read_project_state(cwd: Optional[PathLike] = None) -> Optional[ProjectState]:
    """Read the state file.

    Returns:
        The state; `None` if the file is missing, cannot be read, or does not hold a state.
    """
    try:
        return ProjectState.from_dict(parse_json(read_text(project_state_path(cwd))))
    except (OSError, ValueError, ResponseError):
        return None


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
