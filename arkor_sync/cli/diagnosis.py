"""What `doctor` looks at, one finding at a time. Runs on the caller's thread.

Nothing is changed: no account is made, no file is written but for tokens that have to be refreshed.
No finding shows a secret: of an address only scheme, host and port, of a token only its age.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import ssl
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import urlsplit

from arkor_sync._common.clock import Clock
from arkor_sync._common.environment import variable
from arkor_sync._common.json import parse_json
from arkor_sync._common.paths import absolute
from arkor_sync._common.secret import redact
from arkor_sync._common.text import safe_line
from arkor_sync._version import __version__
from arkor_sync.cli.exit_codes import ExitCode, exit_code_of
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.client_version import (
    CLIENT_HEADER,
    CLIENT_HEADER_NAME,
    UPGRADE,
    USER_AGENT,
    record_deprecation,
)
from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
    credentials_path,
    find_base_url,
    read_credentials,
)
from arkor_sync.cloud.project import (
    ProjectState,
    project_of_environment,
    project_state_path,
    read_project_state,
)
from arkor_sync.cloud.transport import Transport
from arkor_sync.cloud.urls import build_url, check_base_url
from arkor_sync.errors import ArkorError
from arkor_sync.render.text import format_duration

PACKAGES = ("click", "rich", "tqdm", "requests", "urllib3", "sseclient-py", "backoff")
TIMEOUT = (5.0, 10.0)  # seconds to connect, and for the whole answer
MAX_SKEW = 60.0  # seconds; tokens are refreshed so long before they expire

_NO_ADDRESS = "set, but no address (it is not shown)"
_SIGN_IN = "`arkor-sync login` signs in, or set ARKOR_TOKEN"
_OURS = ("ARKOR_CLOUD_API_URL", "ARKOR_TOKEN", "ARKOR_ORG", "ARKOR_PROJECT", "ARKOR_PROJECT_ID")
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")  # before those in capitals


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: The name of the check.
        found: What was found, without secrets.
        problem: What is wrong with it; empty if nothing is.
        remedy: What to do about it.
        code: The exit code that the problem stands for.
    """

    check: str
    found: str
    problem: str = ""
    remedy: str = ""
    code: ExitCode = ExitCode.COMPLETED

    def to_dict(self) -> Dict[str, Any]:
        """Return it as it is printed with `--json`."""
        return {
            "check": self.check,
            "ok": not self.problem,
            "found": self.found,
            "problem": self.problem or None,
            "remedy": self.remedy or None,
        }


def examine(cwd: Optional[Path] = None) -> Iterator[Finding]:
    """Check this machine, the files and the way to the cloud, one thing after the other.

    Args:
        cwd: The directory of the project; None for the working directory.
    """
    yield from _versions()
    yield from _variables()
    sign_in, credentials = _credentials()
    yield from sign_in
    state = project_state_path(cwd)
    if os.path.isfile(state):
        yield _mode(state, 0o022, "change")
    found, project = _project(cwd, credentials)
    yield found
    address, source = find_base_url(credentials)
    try:
        check_base_url(address)
    except ArkorError as error:
        remedy = "set ARKOR_CLOUD_API_URL to the address of an Arkor cloud, or unset it"
        yield Finding("address", source, str(error), remedy, ExitCode.USAGE)
        return
    yield Finding("address", f"{address} ({source})")
    reached = list(_reach(address, source))
    yield from reached
    unreached = any(each.problem for each in reached if each.check != "clock")
    if credentials is not None and not unreached:
        yield from _identity(address, credentials, project)


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("arkor-sync", f"{__version__}, which speaks as {CLIENT_HEADER}")
    yield Finding("python", f"{python} ({sys.executable})")
    for name in PACKAGES:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            remedy = "install arkor-sync with its extra cli, from where you got it"
            yield Finding(name, "not installed", "it is needed", remedy, ExitCode.FAILED)
    yield Finding("openssl", ssl.OPENSSL_VERSION)


def _variables() -> Iterator[Finding]:
    for name in _OURS:
        if variable(name):
            yield Finding(name, _shown(name))
    used = next((name for name in _CERTIFICATES[:2] if variable(name)), None)
    for name in _CERTIFICATES:
        path = variable(name)
        if path is None:
            continue
        found = safe_line(redact(path))
        if name == used and not Path(path).exists():
            remedy = "name a file with certificates of authorities, or unset it"
            yield Finding(name, found, "there is no such file", remedy, ExitCode.CLOUD)
        elif name == used:
            yield Finding(name, f"{found}: its certificates are trusted, and no others")
        elif name in _CERTIFICATES[:2]:
            yield Finding(name, f"{found}: not used, because {used} comes first")
        else:
            yield Finding(name, f"{found}: not used; REQUESTS_CA_BUNDLE is what counts")
    for lower in _PROXIES:
        upper = lower.upper()
        wins = lower if variable(lower) else upper
        for name in (lower, upper):
            if variable(name):
                note = "" if name == wins else f": not used, because {wins} comes first"
                yield Finding(name, f"{_shown(name)}{note}")


def _shown(name: str) -> str:
    """Return the value of a variable without what may be secret."""
    value = variable(name) or ""
    if name == "ARKOR_TOKEN":
        return "set (it is not shown); it comes before the credentials file"
    if name == "ARKOR_CLOUD_API_URL" or name.lower() in _PROXIES[:3]:
        return _address(value)
    return safe_line(redact(value))


def _address(url: str) -> str:
    """Return scheme, host and port of an address, and nothing else of it."""
    with suppress(ValueError):
        # A proxy may have no scheme; then it needs a port, as the value may be anything.
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if "://" not in url and parts.port is None:
            return _NO_ADDRESS
        if parts.hostname and re.fullmatch(r"[\w.:-]+", parts.hostname):
            port = f":{parts.port}" if parts.port else ""
            hidden = " (with a user name or a password)" if parts.username is not None else ""
            return f"{safe_line(parts.scheme)}://{parts.hostname}{port}{hidden}"
    return _NO_ADDRESS


def _credentials() -> Tuple[List[Finding], Optional[Credentials]]:
    """Look at the credentials; none are made."""
    token = variable("ARKOR_TOKEN")
    if token is not None:
        credentials = TokenCredentials(token)
        object.__setattr__(credentials, "source", "from ARKOR_TOKEN")
        return [_token("the token of ARKOR_TOKEN", credentials)], credentials
    try:
        path = credentials_path()
        found = read_credentials(path)
    except ArkorError as error:
        return [Finding("sign-in", "no", str(error), _SIGN_IN, ExitCode.SIGN_IN)], None
    if found is None and os.path.exists(path):
        problem = f"{path} holds no credentials: it is no JSON, or empty"
        remedy = f"{_SIGN_IN}; the file is replaced then, and its content kept in {path.name}.bak"
        return [Finding("sign-in", "no", problem, remedy, ExitCode.SIGN_IN)], None
    if found is None:
        text = (
            "not signed in: the first job makes an anonymous account; `arkor-sync login` signs in"
        )
        return [Finding("sign-in", text)], None
    kind = "an account" if isinstance(found, OAuthCredentials) else "an anonymous account"
    modes = [_mode(path, 0o077, "read"), _mode(path.parent, 0o022, "replace files in")]
    return [*modes, _token(f"{kind}, from {path}", found)], found


def _mode(path: Path, forbidden: int, do: str) -> Finding:
    """Look at what others may do with a file or a directory."""
    mode = stat.S_IMODE(path.stat().st_mode)
    found = f"{path} ({mode:04o})"
    if os.name == "posix" and mode & forbidden:
        problem = f"other users of this machine can {do} it"
        remedy = f"chmod {mode & ~forbidden:o} {shlex.quote(str(path))}"
        return Finding("file", found, problem, remedy, ExitCode.SIGN_IN)
    return Finding("file", found)


def _token(whose: str, credentials: Credentials) -> Finding:
    """Look at the age of a token."""
    claims = _claims(credentials.bearer)
    now = time.time()
    expires: Optional[float] = claims.get("exp")
    renewed = False
    if isinstance(credentials, OAuthCredentials):
        expires = credentials.expires_at or expires
        renewed = bool(credentials.refresh_token)
    age = f", issued {format_duration(now - claims['iat'])} ago" if "iat" in claims else ""
    if expires is None:
        return Finding("sign-in", f"{whose}{age}; when the token expires is not known")
    if expires > now:
        return Finding("sign-in", f"{whose}{age}; it expires in {format_duration(expires - now)}")
    ago = f"the token expired {format_duration(now - expires)} ago"
    if renewed:
        return Finding("sign-in", f"{whose}{age}; {ago}, and is refreshed at the next request")
    return Finding("sign-in", f"{whose}{age}", ago, _SIGN_IN, ExitCode.SIGN_IN)


def _claims(token: str) -> Dict[str, float]:
    """Return the times in a token that is a JWT; the signature is not checked."""
    for part in token.split(".")[:3]:
        with suppress(ValueError):
            data = parse_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            if isinstance(data, dict) and ("exp" in data or "iat" in data):
                return {
                    name: float(data[name])
                    for name in ("exp", "iat")
                    if type(data.get(name)) in (int, float) and 0 < data[name] < 1e11
                }
    return {}


def _project(
    cwd: Optional[Path], credentials: Optional[Credentials]
) -> Tuple[Finding, Optional[ProjectState]]:
    use = "`arkor-sync projects use ORG/PROJECT` chooses one"
    try:
        project = project_of_environment()
    except ArkorError as error:
        return Finding("project", "none", str(error), use, ExitCode.USAGE), None
    source = "from ARKOR_ORG and ARKOR_PROJECT"
    if project is None:
        path = project_state_path(cwd)
        project, source = read_project_state(cwd), f"from {path}"
        if project is None and os.path.exists(path):
            problem = f"{path} cannot be read, or names no project"
            return Finding("project", "none", problem, use, ExitCode.USAGE), None
    if project is None and isinstance(credentials, (OAuthCredentials, TokenCredentials)):
        problem = f"no project is chosen in {absolute(cwd or '.')}"
        return Finding("project", "none", problem, use, ExitCode.USAGE), None
    if project is None:
        return Finding("project", "none yet: the first job of this directory makes one"), None
    found = f"{safe_line(project.org_slug)}/{safe_line(project.project_slug)} ({source})"
    found = redact(found)
    if isinstance(credentials, AnonymousCredentials) and project.org_slug != credentials.org_slug:
        problem = (
            f"it belongs to another organisation than the account, which has "
            f"{safe_line(credentials.org_slug)}"
        )
        return Finding("project", found, problem, use, ExitCode.USAGE), project
    return Finding("project", found), project


def _reach(address: str, source: str) -> Iterator[Finding]:
    """Ask the cloud something that needs no token."""
    url = build_url(address, "v1", "auth", "cli", "config")
    cloud = ExitCode.CLOUD
    with Transport() as transport:
        try:
            proxy = transport.proxy_of(url)
            yield Finding("proxy", proxy or "none is used for this address")
            begin, sent = Clock.now(), time.time()
            response = transport.request(
                "GET",
                url,
                timeout=TIMEOUT,
                headers={CLIENT_HEADER_NAME: CLIENT_HEADER, "User-Agent": USER_AGENT},
                stream=True,  # the body says nothing that is needed here
                address=source,
            )
        except ArkorError as error:
            check, remedy = "reachable", "check the network, the proxy and the address"
            if "certificate" in str(error).lower():
                check = "tls"
                remedy = "set REQUESTS_CA_BUNDLE to the file of the authority, if it is your own"
            yield Finding(check, "no", redact(str(error)), remedy, exit_code_of(error))
            return
        took = Clock.now() - begin
    status = response.status_code
    record_deprecation(response.headers, CLIENT_HEADER, None)
    found = f"GET {url}: {status} after {took * 1000:.0f} ms"
    if status == 426:
        problem = "the cloud no longer accepts this version"
        yield Finding("reachable", found, problem, UPGRADE, cloud)
    elif not 200 <= status < 300:
        problem = "that is no answer of an Arkor cloud"
        remedy = "check the address and the proxy, or try again later"
        yield Finding("reachable", found, problem, remedy, cloud)
    else:
        yield Finding("reachable", found)
    secure = address.startswith("https:")
    yield Finding("tls", "the certificate is valid" if secure else "none: the address is http://")
    yield _clock(response.headers.get("Date"), sent + took / 2)


def _clock(date: Optional[str], now: float) -> Finding:
    try:
        skew = now - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError, IndexError):
        return Finding("clock", "not checked: the answer has no date")
    if abs(skew) <= MAX_SKEW:
        return Finding("clock", "right within a minute")
    found = f"{format_duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}"
    problem = "it is not the cloud's time: tokens seem to expire too early or too late"
    return Finding("clock", found, problem, "set the clock of this machine", ExitCode.FAILED)


def _identity(
    address: str, credentials: Credentials, project: Optional[ProjectState]
) -> Iterator[Finding]:
    """Ask who the token belongs to, and whether the project is there."""
    client = CloudApiClient(address, credentials, timeout=TIMEOUT, retry="none")
    remedy = _SIGN_IN
    try:
        orgs = [org.slug for org in client.me().orgs]
        names = safe_line(", ".join(filter(None, orgs))) or "none"
        yield Finding("token", f"accepted; organisations: {names}")
        if project is None:
            return
        if project.org_slug not in orgs:
            problem = f"the token is not for the organisation {safe_line(project.org_slug)}"
            remedy = "`arkor-sync projects` shows those of the account"
            yield Finding("project exists", "no", problem, remedy, ExitCode.USAGE)
            return
        remedy = "`arkor-sync projects` shows those that there are"
        slugs = [each.slug for each in client.projects.list(project.org_slug)]
    except ArkorError as error:
        code = exit_code_of(error)
        found = "refused" if code == ExitCode.SIGN_IN else "not checked"
        yield Finding("token", found, redact(str(error)), remedy, code)
        return
    if project.project_slug in slugs:
        yield Finding("project exists", "yes")
    else:
        problem = f"the organisation has no project {safe_line(project.project_slug)}"
        yield Finding("project exists", "no", problem, remedy, ExitCode.USAGE)
