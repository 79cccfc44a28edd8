"""The setting `ARKOR`, checked. Runs on the caller's thread."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Mapping, Optional

from django.conf import settings
from django.utils.module_loading import import_string

from arkor_sync._common.arguments import check, did_you_mean, refusal, show
from arkor_sync._common.secret import Secret
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import TokenCredentials
from arkor_sync.cloud.project import ProjectState
from arkor_sync.stores.leased import LEAST_TTL, MOST_TTL
from arkor_sync.stream.error_policy import ErrorPolicy


@dataclasses.dataclass(frozen=True)
class ArkorSettings:
    """What `ARKOR` says. In the settings the names are in capitals.

    Attributes:
        base_url: The cloud; else `ARKOR_CLOUD_API_URL`.
        token: Signs in; better left to the environment, `ARKOR_TOKEN`.
        project: `organisation/project`; else `ARKOR_ORG` and `ARKOR_PROJECT`.
        callbacks: The dotted path of a function that gets a `Run` and returns its callbacks.
        database: The alias of the database that has the tables.
        ttl: Seconds that a lease lasts without a renewal.
        slots: How many callbacks run at once in a process; each has a connection.
        max_runs: How many jobs a process follows at most.
        error_policy: The dotted path of an `ErrorPolicy`, or of a function that returns one.
    """

    base_url: Optional[str] = None
    token: Optional[str] = dataclasses.field(default=None, repr=False)
    project: Optional[str] = None
    callbacks: Optional[str] = None
    database: str = "default"
    ttl: float = 15.0
    slots: int = 4
    max_runs: int = 200
    error_policy: Optional[str] = None

    def __post_init__(self) -> None:
        for name in ("base_url", "project", "callbacks", "error_policy"):
            value = getattr(self, name)
            fits = value is None or (isinstance(value, str) and value != "")
            check(_shown(name), value, fits, "a text, or leave it out")
        if self.token is not None:
            if not isinstance(self.token, str) or not self.token.strip():
                raise refusal(_shown("token"), self.token, "a text, or leave it out", secret=True)
            object.__setattr__(self, "token", Secret(self.token.strip()))
        if self.project is not None:
            parts = self.project.split("/")
            fits = len(parts) == 2 and all(part.strip() for part in parts)
            check(_shown("project"), self.project, fits, "'organisation/project'")
        known = settings.DATABASES
        fits = isinstance(self.database, str) and self.database in known
        check(_shown("database"), self.database, fits, f"one of DATABASES: {', '.join(known)}")
        is_number = type(self.ttl) in (int, float)
        fits = is_number and LEAST_TTL <= self.ttl <= MOST_TTL
        check(_shown("ttl"), self.ttl, fits, f"seconds from {LEAST_TTL:g} to {MOST_TTL:g}")
        for name in ("slots", "max_runs"):
            value = getattr(self, name)
            check(_shown(name), value, type(value) is int and value >= 1, "a whole number from 1")

    def client(self) -> CloudApiClient:
        """Make a client of the cloud."""
        credentials = None if self.token is None else TokenCredentials(self.token, self.base_url)
        scope = None
        if self.project is not None:
            organisation, _, project = self.project.partition("/")
            scope = ProjectState(organisation.strip(), project.strip())
        return CloudApiClient(self.base_url, credentials, scope=scope)

    def callbacks_of(self, run: Any) -> Any:
        """Return what the program's function says for a `Run`; None if it has none."""
        return None if self.callbacks is None else self.callbacks_function()(run)

    def callbacks_function(self) -> Callable[[Any], Any]:
        """Import the function that returns the callbacks of a `Run`."""
        function: Callable[[Any], Any] = _import("callbacks", self.callbacks)
        check(_shown("callbacks"), function, callable(function), "the path of a function of a Run")
        return function

    def policy(self) -> ErrorPolicy:
        """Return the error policy of the program; the default aborts the run."""
        if self.error_policy is None:
            return ErrorPolicy.abort()
        policy = _import("error_policy", self.error_policy)
        if not isinstance(policy, ErrorPolicy) and callable(policy):
            policy = policy()
        wanted = "the path of an ErrorPolicy, or of a function that returns one"
        check(_shown("error_policy"), policy, isinstance(policy, ErrorPolicy), wanted)
        return policy


NAMES: Dict[str, str] = {each.name.upper(): each.name for each in dataclasses.fields(ArkorSettings)}


def arkor_settings() -> ArkorSettings:
    """Read the setting `ARKOR`.

    Raises:
        ArkorUsageError: It has an unknown key, or a value that cannot work.
    """
    given = getattr(settings, "ARKOR", {})
    check("ARKOR", given, isinstance(given, Mapping), "a dict such as {'PROJECT': 'org/project'}")
    for key in given:
        if key not in NAMES:
            wanted = f"only {', '.join(NAMES)}{did_you_mean(key, NAMES)}"
            raise refusal("ARKOR", given, wanted, got=f"the key {show(key)}")
    return ArkorSettings(**{NAMES[key]: value for key, value in given.items()})


def _shown(name: str) -> str:
    return f"ARKOR[{name.upper()!r}]"


def _import(name: str, path: Optional[str]) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        got = f"{show(path)} ({error})"
        wanted = "a dotted path such as 'site.training.callbacks'"
        raise refusal(_shown(name), path, wanted, got=got) from error
