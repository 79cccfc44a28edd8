"""Each route of the cloud has a method, and the README names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Tuple

import pytest

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import request_anonymous_token
from arkor_sync.cloud.deployment_models import BaseModelTarget
from arkor_sync.cloud.retries import SAFE_METHODS
from arkor_sync.cloud.sign_in import read_sign_in_config
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.emulator.routes import ROUTES

README = Path(__file__).parents[2] / "arkor_sync" / "cloud" / "README.md"
ROW = re.compile(r"^\| `([A-Z]+) (/v1/\S+)` \| `([\w.]+)\(.*\)` \| (yes|no)\b.*\|$", re.MULTILINE)


class Things(NamedTuple):
    """What the emulator has, for the calls below."""

    url: str
    org: str
    job: str
    deployment: str
    key: str


def read_stream(client: CloudApiClient, things: Things) -> None:
    with client.transport() as transport:
        client.jobs.events(things.job, transport=transport).close()


CALLS: Dict[str, Callable[[CloudApiClient, Things], Any]] = {
    "request_anonymous_token": lambda _, has: request_anonymous_token(has.url),
    "read_sign_in_config": lambda _, has: read_sign_in_config(has.url),
    "client.me": lambda client, _: client.me(),
    "client.projects.list": lambda client, has: client.projects.list(has.org),
    "client.projects.create": lambda client, has: client.projects.create(
        has.org, name="New", slug="new"
    ),
    "client.jobs.list": lambda client, _: client.jobs.list(),
    "client.jobs.create": lambda client, _: client.jobs.create(
        "n", {"model": "m", "datasetSource": {"type": "huggingface", "name": "owner/repo"}}
    ),
    "client.jobs.get": lambda client, has: client.jobs.get(has.job),
    "client.jobs.cancel": lambda client, has: client.jobs.cancel(has.job),
    "client.jobs.events": read_stream,
    "client.chat": lambda client, _: client.chat(
        [{"role": "user", "content": "Hello"}], base_model="m", stream=False
    ),
    "client.deployments.list": lambda client, _: client.deployments.list(),
    "client.deployments.create": lambda client, _: client.deployments.create(
        "new-bot", target=BaseModelTarget("m"), auth_mode="none"
    ),
    "client.deployments.get": lambda client, has: client.deployments.get(has.deployment),
    "client.deployments.update": lambda client, has: client.deployments.update(
        has.deployment, enabled=False
    ),
    "client.deployments.delete": lambda client, has: client.deployments.delete(has.deployment),
    "client.deployments.keys.list": lambda client, has: client.deployments.keys.list(
        has.deployment
    ),
    "client.deployments.keys.create": lambda client, has: client.deployments.keys.create(
        has.deployment, "ci"
    ),
    "client.deployments.keys.revoke": lambda client, has: client.deployments.keys.revoke(
        has.deployment, has.key
    ),
}


def plain(path: str) -> str:
    """Return a path without the names of its parameters, which differ."""
    return re.sub(":[^/]+", ":", path)


def rows() -> Iterator[Tuple[str, str, str, str]]:
    for row in ROW.finditer(README.read_text()):
        yield row[1], plain(row[2]), row[3], row[4]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(ScriptedEngine(steps=3, manual=True)) as running:
        yield running
        assert running.errors == []


def test_the_table_has_every_route_once_and_no_other() -> None:
    documented = sorted((method, path) for method, path, _, _ in rows())
    assert documented == sorted((route.method, plain(route.path)) for route in ROUTES)
    assert all(route.path.startswith("/v1/") for route in ROUTES)


def test_the_table_says_what_is_sent_again() -> None:
    for method, path, _, again in rows():
        safe = method in SAFE_METHODS and not path.endswith("/stream")
        assert again == ("yes" if safe else "no"), path


@pytest.mark.parametrize("name", CALLS)
def test_each_method_of_the_table_asks_its_route_and_nothing_else(
    emulator: Emulator, name: str
) -> None:
    client = emulator.client()
    deployment = emulator.add_deployment("old-bot", {"kind": "base_model", "baseModel": "m"})
    key = client.deployments.keys.create(deployment, "old")
    job = emulator.create_job()
    before = len(emulator.requests)
    CALLS[name](client, Things(emulator.url, emulator.org_slug, job, deployment, key.id))
    (sent,) = emulator.requests[before:]
    (route,) = [each for each in ROUTES if each.name == sent.route]
    assert (route.method, plain(route.path), name) in [row[:3] for row in rows()]
    assert sent.method == route.method
    assert sent.status in (200, 201, 204)
    wanted = {"project": {"orgSlug", "projectSlug"}, "org": {"orgSlug"}}.get(route.needs, set())
    assert set(sent.query) == wanted
    assert ("Authorization" in sent.headers) is (route.needs != "nothing")
    assert sent.headers["X-Arkor-Client"]


def test_every_method_of_the_table_is_tried() -> None:
    assert sorted(CALLS) == sorted(name for _, _, name, _ in rows())
