"""`login`, `logout` and `whoami`. Runs on the caller's thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, Optional, Union, cast

import click

from arkor_sync._common.text import safe_line
from arkor_sync.cli.client import make_signed_in_client
from arkor_sync.cli.command import command
from arkor_sync.cli.output import Output
from arkor_sync.cli.root import root

if TYPE_CHECKING:
    from arkor_sync.cloud.credentials import AnonymousCredentials, OAuthCredentials

    Stored = Union[AnonymousCredentials, OAuthCredentials]

_NO_WAY_BACK = (
    "An anonymous identity cannot be had again: its organisation and its jobs are out of reach then"
)


@command(
    root,
    "login",
    examples="""
    arkor-sync login
    arkor-sync login --oauth --no-browser
    arkor-sync login --anonymous
    """,
)
@click.option("--oauth", is_flag=True, help="Sign in with an account, in a browser.")
@click.option("--anonymous", is_flag=True, help="Get a new anonymous identity.")
@click.option("--no-browser", is_flag=True, help="Only print the address of the sign-in page.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=86400),
    default=300.0,
    metavar="SECONDS",
    help="How long to wait for the browser; 300 by default.",
)
def login(
    output: Output, oauth: bool, anonymous: bool, no_browser: bool, timeout: float
) -> Optional[int]:
    """Sign in, with an account or anonymously.

    Without an option you are asked, in a terminal; elsewhere you get an anonymous identity, if you
    are not signed in already. In a terminal you are also asked before an anonymous identity is
    replaced; a copy of it is kept beside the file. The credentials are written to
    ~/.arkor/credentials.json, which the TypeScript command line reads too.
    """
    if oauth and anonymous:
        raise click.UsageError("give either --oauth or --anonymous")
    from arkor_sync._common.environment import variable
    from arkor_sync.cloud.credentials import credentials_path
    from arkor_sync.cloud.sign_in import read_sign_in_config, sign_in, sign_in_anonymously

    asks = output.is_terminal and sys.stdin.isatty() and variable("CI") is None
    if oauth and variable("CI") is not None:
        raise click.UsageError(
            "--oauth needs somebody at a browser, and CI is set; set ARKOR_TOKEN there, or give "
            "--anonymous"
        )
    before = _stored()
    path = credentials_path()
    if asks and not _wants_to_replace(before, str(path)):
        output.line("Nothing was changed.")
        return None
    if not (oauth or anonymous):
        if not asks and before is not None:
            raise click.UsageError(
                f"{path} has credentials already: {_named(before)}; give --oauth or --anonymous to "
                "replace them"
            )
        offers = read_sign_in_config().offers_accounts
        if not offers:
            output.note("This cloud has no sign-in with an account; you sign in anonymously.")
        elif not asks:
            output.note(
                "You sign in anonymously: nobody keeps this identity for you, and it ends with its "
                "file. `arkor-sync login --oauth` signs in with an account."
            )
        else:
            oauth = _ask(output)
    signed_in: Stored
    if oauth:
        signed_in = sign_in(
            open_browser=not no_browser,
            on_url=lambda url: output.note(f"Open this page to sign in:\n{url}"),
            timeout=timeout,
        )
    else:
        signed_in = sign_in_anonymously()
    _report(output, signed_in, str(path))
    if before is not None:
        output.note(f"They replace those of {_named(before)}.")
    _tell_next(output, signed_in)
    return None


def _wants_to_replace(before: Optional[Stored], path: str) -> bool:
    """Ask, where signing in has no effect now, or takes an anonymous identity away."""
    from arkor_sync._common.environment import variable

    if variable("ARKOR_TOKEN") and not click.confirm(
        "ARKOR_TOKEN is set, and comes before what you sign in as. Sign in nevertheless?",
        default=False,
    ):
        return False
    if before is None or before.mode != "anon":
        return True
    return click.confirm(f"{_NO_WAY_BACK}.\nReplace {path}?", default=False)


def _ask(output: Output) -> bool:
    """Ask in which way to sign in. Return whether it is with an account."""
    output.line("1  anonymously: nothing to fill in, and nobody keeps this identity for you")
    output.line("2  with an account, in a browser")
    return click.prompt("Sign in", type=click.IntRange(1, 2), default=1) == 2


def _stored() -> Optional[Stored]:
    """Return what the file holds; None if there is nothing that can be used."""
    from arkor_sync.cloud.credentials import read_credentials
    from arkor_sync.errors import CredentialsError

    try:
        return cast("Optional[Stored]", read_credentials())
    except CredentialsError:
        return None  # the sign-in replaces it, and keeps a copy; or it says what is wrong


def _named(credentials: Stored) -> str:
    if credentials.mode == "anon":
        return f"the anonymous identity {safe_line(credentials.anonymous_id)}"
    return f"an account of {safe_line(credentials.auth0_domain)}"


def _report(output: Output, credentials: Stored, path: str) -> None:
    """Print who is signed in now, without the secrets."""
    secret = ("token", "accessToken", "refreshToken")
    facts: Dict[str, Any] = {"mode": credentials.mode}
    facts.update({name: each for name, each in credentials.to_dict().items() if name not in secret})
    output.facts({**facts, "path": path})


def _tell_next(output: Output, credentials: Stored) -> None:
    """Tell what stands in the way of using these credentials."""
    from arkor_sync._common.environment import variable
    from arkor_sync.cloud.project import project_state_path, read_project_state

    if variable("ARKOR_TOKEN"):
        output.note("ARKOR_TOKEN is set, and comes before this file: unset it to use the file.")
    if variable("ARKOR_ORG") and variable("ARKOR_PROJECT"):
        return
    state = read_project_state()
    if credentials.mode == "oauth" and state is None:
        output.note("Next, choose the project of this directory: arkor-sync projects use")
    elif credentials.mode == "anon" and state and state.org_slug != credentials.org_slug:
        output.note(
            f"{project_state_path()} names a project of {safe_line(state.org_slug)!r}, which this "
            "identity has no access to: remove that file to start a new project here."
        )


@command(
    root,
    "logout",
    examples="""
    arkor-sync logout
    arkor-sync logout --force
    """,
)
@click.option("--force", is_flag=True, help="Do not ask.")
def logout(output: Output, force: bool) -> None:
    """Remove ~/.arkor/credentials.json. The project of this directory is kept."""
    from arkor_sync._common.environment import variable
    from arkor_sync.cloud.credentials import credentials_path
    from arkor_sync.cloud.sign_in import is_there, sign_out

    path = credentials_path()
    before = _stored()
    is_anonymous = before is not None and before.mode == "anon"
    there, removed = is_there(path), False
    if there and not force:
        if not (output.is_terminal and sys.stdin.isatty()):
            raise click.UsageError(f"{path} was kept, because nobody can be asked; give --force")
        warning = f"{_NO_WAY_BACK}.\n" if is_anonymous else ""
        force = click.confirm(f"{warning}Remove {path}?", default=False)
    if there and force:
        removed = sign_out()
    if output.as_json:
        output.json({"signedOut": removed, "path": str(path)})
    elif removed:
        output.line(f"Signed out: {path} was removed.")
    else:
        output.line(f"{path} was kept." if there else f"Nobody was signed in: there is no {path}.")
    if removed and is_anonymous:
        output.note(f"{_NO_WAY_BACK}.")
    for copy in sorted(path.parent.glob(f"{path.name}.bak*")):
        output.note(f"{copy} has older credentials; remove it too if nobody needs them.")
    if variable("ARKOR_TOKEN"):
        output.note("ARKOR_TOKEN is set, and is still used.")


@command(
    root,
    "whoami",
    examples="""
    arkor-sync whoami
    arkor-sync whoami --json
    """,
)
def whoami(output: Output) -> None:
    """Show who is signed in, and the organisations."""
    me = make_signed_in_client().me()
    if output.as_json:
        output.json(me.to_dict())
        return
    orgs = " ".join(safe_line(each.slug or each.id) for each in me.orgs)
    output.facts({**me.user, "orgs": orgs or None})
