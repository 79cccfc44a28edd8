"""`projects`: list them, make one, and choose that of a directory. Runs on the caller's thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.client import make_signed_in_client
from arkor_sync.cli.command import command, group
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import Project

projects = group(root, "projects", "List projects, make one, and choose that of a directory.")


@command(
    projects,
    "list",
    examples="""
    arkor-sync projects list
    arkor-sync projects list --org my-org --json
    """,
)
@click.option("--org", metavar="ORG", help="Only the projects of this organisation.")
def list_projects(output: Output, org: Optional[str]) -> None:
    """List the projects of your organisations.

    `current` is that of this directory.
    """
    from arkor_sync.cloud.project import project_of_environment, read_project_state

    here = project_of_environment() or read_project_state()
    current = here and (here.org_slug, here.project_slug)
    rows = [
        {
            "project": f"{slug}/{project.slug}",
            "name": project.name,
            "current": (slug, project.slug) == current,
            "orgSlug": slug,
            "projectSlug": project.slug,
            "projectId": project.id,
        }
        for slug, project in _all_projects(make_signed_in_client(), org)
    ]
    output.table(rows, ("project", "name", "current"))
    if not rows:
        output.note("There is no project yet: `arkor-sync projects create ORG/PROJECT` makes one.")


@command(
    projects,
    "use",
    examples="""
    arkor-sync projects use my-org/support-bot
    arkor-sync projects use
    """,
)
@click.argument("project", metavar="[ORG/PROJECT]", required=False)
def use(output: Output, project: Optional[str]) -> None:
    """Choose the project of this directory.

    It is written to .arkor/state.json, if the cloud has it; other keys of the file are kept.
    Without an argument you choose from a list, in a terminal.
    """
    from arkor_sync._common.environment import variable
    from arkor_sync.cloud.project import project_state_path
    from arkor_sync.cloud.projects import use_project

    if project is None and not (output.is_terminal and sys.stdin.isatty()):
        raise click.UsageError("give ORG/PROJECT; `arkor-sync projects list` shows them")
    names = None if project is None else _split(project)
    client = make_signed_in_client()
    state = use_project(client, *(names or _choose(output, client)))
    facts: Dict[str, Any] = {
        "orgSlug": state.org_slug,
        "projectSlug": state.project_slug,
        "projectId": state.project_id,
        "path": str(project_state_path()),
    }
    output.facts(facts)
    if variable("ARKOR_ORG") or variable("ARKOR_PROJECT"):
        output.note("ARKOR_ORG and ARKOR_PROJECT come before this file: unset them to use it.")


@command(
    projects,
    "create",
    examples="""
    arkor-sync projects create my-org/support-bot
    arkor-sync projects create my-org/support-bot --name "Support bot"
    """,
)
@click.argument("project", metavar="ORG/PROJECT")
@click.option("--name", help="The name for people; by default that in ORG/PROJECT.")
def create(output: Output, project: str, name: Optional[str]) -> None:
    """Make a project. `arkor-sync projects use` makes it that of a directory."""
    org, slug = _split(project)
    made = make_signed_in_client().projects.create(org, name=name or slug, slug=slug)
    output.facts(
        {"orgSlug": org, "projectSlug": made.slug, "projectId": made.id, "name": made.name}
    )


def _split(project: str) -> Tuple[str, str]:
    org, _, slug = project.partition("/")
    if not org or not slug or "/" in slug:
        raise click.UsageError(
            f"ORG/PROJECT: got {safe_line(project)!r}; give the slug of an organisation, a slash "
            "and the slug of a project"
        )
    return org, slug


def _all_projects(client: CloudApiClient, org: Optional[str]) -> List[Tuple[str, Project]]:
    """Return all projects of the caller, each with the slug of its organisation."""
    orgs = [org] if org else [each.slug or each.id for each in client.me().orgs]
    return [(slug, each) for slug in orgs for each in client.projects.list(slug)]


def _choose(output: Output, client: CloudApiClient) -> Tuple[str, str]:
    """Let the user choose from a list."""
    found = _all_projects(client, None)
    if not found:
        raise click.UsageError(
            "there is no project yet; `arkor-sync projects create ORG/PROJECT` makes one"
        )
    for number, (slug, project) in enumerate(found, 1):
        output.line(f"{number:>3}  {slug}/{project.slug}  {safe_line(project.name, 60)}")
    chosen = click.prompt("Which one", type=click.IntRange(1, len(found)))
    return found[chosen - 1][0], found[chosen - 1][1].slug
