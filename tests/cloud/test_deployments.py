"""The routes of deployments and their keys: what is sent, what is made of the answers."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
import traceback
from typing import Any, Dict, Iterator, List

import pytest

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.deployment_models import (
    AdapterTarget,
    AuthMode,
    BaseModelTarget,
    Deployment,
    DeploymentKey,
    DeploymentTarget,
    IssuedKey,
    UnknownTarget,
)
from arkor_sync.cloud.deployments import endpoint_url
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.emulator import Emulator, Fault
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorUsageError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    ResponseError,
)
from support.scripted_cloud import JOB, Reply, ScriptedCloud

SECRET = "ark_live_0123456789abcdef0123456789abcdef"
QUERY = "?orgSlug=my%20org&projectSlug=my%26project"
MODEL = BaseModelTarget("m")
WIRE: Dict[str, Any] = {
    "id": "d-1",
    "slug": "support-bot",
    "orgId": "o",
    "projectId": "p",
    "target": {"kind": "base_model", "baseModel": "m"},
    "authMode": "none",
    "urlFormat": "openai_compat",
    "enabled": True,
    "customDomain": None,
    "runRetentionMode": "days",
    "runRetentionDays": 7,
    "createdAt": "2026-01-01T00:00:00.000Z",
    "updatedAt": "2026-01-02T00:00:00.000Z",
}
KEY = {
    "id": "k-1",
    "label": "ci",
    "prefix": "ark_live_01234567",
    "enabled": True,
    "createdAt": "2026-01-01T00:00:00.000Z",
    "lastUsedAt": None,
}
ISSUED = {name: KEY[name] for name in ("id", "label", "prefix", "createdAt")}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


# What the cloud answers.


def test_a_deployment(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"deployment": {**WIRE, "expiresAt": "2026-02-01T00:00:00Z", "region": "eu"}})
    found = client.deployments.get("d/1")
    assert cloud.received[0].target == f"/v1/endpoints/d%2F1{QUERY}"
    assert found.target == MODEL
    assert found.auth_mode == AuthMode.NONE
    assert (found.enabled, found.custom_domain, found.url_format) == (True, None, "openai_compat")
    assert (found.retention, found.expires_at) == (7, "2026-02-01T00:00:00Z")
    assert found.extra == {"region": "eu"}
    assert Deployment.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    ("mode", "days", "retention"),
    [
        ("unlimited", None, "unlimited"),
        ("disabled", None, "disabled"),
        ("weeks", None, "weeks"),
        (None, None, None),
    ],
)
def test_how_long_it_keeps_what_it_was_asked(mode: Any, days: Any, retention: Any) -> None:
    found = Deployment.from_dict({**WIRE, "runRetentionMode": mode, "runRetentionDays": days})
    assert found.retention == retention


TARGETS: List[Any] = [
    ({"kind": "adapter", "adapter": {"kind": "final", "jobId": "j"}}, AdapterTarget("j")),
    (
        {"kind": "adapter", "adapter": {"kind": "checkpoint", "jobId": "j", "step": 20}},
        AdapterTarget("j", 20),
    ),
    ({"kind": "base_model", "baseModel": "m"}, MODEL),
    ({"kind": "model_menu"}, UnknownTarget("model_menu")),
    (
        {"kind": "model_menu", "models": ["a"]},
        UnknownTarget("model_menu", extra={"models": ["a"]}),
    ),
    ({"kind": "ensemble", "of": [1]}, UnknownTarget("ensemble", extra={"of": [1]})),
    (
        {"kind": "adapter", "adapter": {"kind": "merged", "jobId": "j"}},
        UnknownTarget("adapter", extra={"adapter": {"kind": "merged", "jobId": "j"}}),
    ),
    ({"kind": "base_model"}, UnknownTarget("base_model")),
    (
        {"kind": "adapter", "adapter": {"kind": "final", "jobId": "j", "rank": 8}, "weight": 1},
        AdapterTarget("j", extra={"adapter": {"rank": 8}, "weight": 1}),
    ),
]


@pytest.mark.parametrize(("wire", "target"), TARGETS)
def test_targets_keep_all_that_they_were_made_of(wire: Any, target: DeploymentTarget) -> None:
    read = DeploymentTarget.from_dict(wire)
    assert read == target
    assert type(read) is type(target)
    assert read.kind == wire["kind"]
    assert read.to_dict() == wire


def test_a_target_of_an_unknown_kind_does_not_break_a_list(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    wires = [
        {**WIRE, "id": str(number), "target": wire} for number, (wire, _) in enumerate(TARGETS)
    ]
    cloud.reply({"deployments": wires})
    found = client.deployments.list()
    assert [each.target for each in found] == [target for _, target in TARGETS]
    assert [each.to_dict()["target"] for each in found] == [wire for wire, _ in TARGETS]
    assert cloud.received[0].target == f"/v1/endpoints{QUERY}"


@pytest.mark.parametrize("target", [None, "x", {}, {"kind": None}])
def test_a_target_without_a_kind_is_named(
    cloud: ScriptedCloud, client: CloudApiClient, target: Any
) -> None:
    cloud.reply({"deployments": [WIRE, {**WIRE, "target": target}]})
    with pytest.raises(ResponseError, match=r"deployments\[1\]\.target"):
        client.deployments.list()


def test_another_way_to_ask_who_calls_does_not_break_a_list(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply({"deployments": [{**WIRE, "authMode": "jwt", "urlFormat": "grpc"}]})
    (found,) = client.deployments.list()
    assert (found.auth_mode, found.url_format) == ("jwt", "grpc")
    assert "auth_mode='jwt'" in repr(found)


# What is sent.


def test_create_sends_what_was_given(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"deployment": WIRE}, status=201)
    made = client.deployments.create(
        "support-bot",
        target=AdapterTarget.checkpoint(TrainingJob.from_dict(JOB), 20),
        auth_mode=AuthMode.FIXED_API_KEY,
        retention=30,
    )
    assert made == Deployment.from_dict(WIRE)
    (sent,) = cloud.received
    assert (sent.method, sent.target) == ("POST", f"/v1/endpoints{QUERY}")
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.json == {
        "slug": "support-bot",
        "target": {
            "kind": "adapter",
            "adapter": {"kind": "checkpoint", "jobId": "job-1", "step": 20},
        },
        "authMode": "fixed_api_key",
        "runRetentionMode": "days",
        "runRetentionDays": 30,
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"enabled": False}, {"enabled": False}),
        ({"auth_mode": "none"}, {"authMode": "none"}),
        ({"retention": "unlimited"}, {"runRetentionMode": "unlimited"}),
        ({"retention": 1}, {"runRetentionMode": "days", "runRetentionDays": 1}),
        (
            {"target": AdapterTarget.final("j"), "enabled": True},
            {"target": TARGETS[0][0], "enabled": True},
        ),
        ({"target": UnknownTarget("model_menu")}, {"target": {"kind": "model_menu"}}),
    ],
)
def test_update_sends_exactly_what_was_given(
    cloud: ScriptedCloud, client: CloudApiClient, given: Any, sent: Any
) -> None:
    cloud.reply({"deployment": WIRE})
    client.deployments.update("d-1", **given)
    (request,) = cloud.received
    assert (request.method, request.target) == ("PATCH", f"/v1/endpoints/d-1{QUERY}")
    assert request.json == sent


def test_delete_and_revoke_return_nothing(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply(status=204)
    client.deployments.delete("d-1")
    client.deployments.keys.revoke("d-1", "k/1")
    assert [(each.method, each.target) for each in cloud.received] == [
        ("DELETE", f"/v1/endpoints/d-1{QUERY}"),
        ("DELETE", f"/v1/endpoints/d-1/keys/k%2F1{QUERY}"),
    ]


# What is refused before anything is sent.

BASE: Dict[str, Any] = {"target": MODEL, "auth_mode": "none"}
SLUGS = ["", "a", "-ab", "ab-", "Ab", "a b", "a_b", "a.b", "ä-b", "a" * 51, "ab\n", None, 5]
RETENTIONS = [0, -1, 1.5, True, "days", "7d", "weeks", float("nan"), [7]]
REFUSED: List[Any] = [
    *(
        (lambda c, slug=slug: c.create(slug, **BASE), "slug: got .*; give 2 to 50")
        for slug in SLUGS
    ),
    *(
        (
            lambda c, days=days: c.create("ab", **BASE, retention=days),
            "retention: got .*; give a wh",
        )
        for days in RETENTIONS
    ),
    (lambda c: c.create("ab", target=MODEL, auth_mode="jwt"), "auth_mode: got str 'jwt'; give 'no"),
    (lambda c: c.create("ab", target=MODEL, auth_mode=None), "auth_mode: got None; give 'none' or"),
    (lambda c: c.create("ab", target=None, auth_mode="none"), "target: got None; give AdapterTarg"),
    (lambda c: c.create("ab", target="m", auth_mode="none"), "target: got str 'm'; give AdapterTa"),
    (lambda c: c.update("d"), "update: got nothing to change; give target, auth_mode, enabled or"),
    (lambda c: c.update("d", enabled="yes"), "enabled: got str 'yes'; give True or False"),
    *(
        (
            lambda c, call=call, id=id: call(c, id),
            "deployment_id: got .*; give the id of a deployme",
        )
        for id in ("", ".", "..", None, 5)
        for call in (
            lambda c, id: c.get(id),
            lambda c, id: c.update(id, enabled=True),
            lambda c, id: c.delete(id),
            lambda c, id: c.keys.list(id),
            lambda c, id: c.keys.create(id, "x"),
            lambda c, id: c.keys.revoke(id, "k"),
        )
    ),
    (lambda c: c.keys.revoke("d", ".."), r"key_id: got str '\.\.'; give the id of a key"),
    *(
        (lambda c, label=label: c.keys.create("d", label), "label: got .*; give 1 to 80 characters")
        for label in ("", " \n ", "x" * 81, None, 5)
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_work_is_refused_and_not_sent(
    cloud: ScriptedCloud, client: CloudApiClient, number: int
) -> None:
    call, message = REFUSED[number]
    with pytest.raises(ArkorUsageError, match=f"^{message}"):
        call(client.deployments)
    assert cloud.received == []


@pytest.mark.parametrize("step", [-1, 1.5, "", None, True])
def test_steps_that_cannot_work(step: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"^step: got .*; give the step of a checkpoint"):
        AdapterTarget.checkpoint("j", step)
    with pytest.raises(ArkorUsageError, match=r"^job: got .*; give a TrainingJob or the id"):
        AdapterTarget.final(step)


@pytest.mark.parametrize("slug", ["ab", "a1", "0-0", "a" * 50, "a--b"])
def test_slugs_at_the_limits_are_taken_here_and_there(emulator: Emulator, slug: str) -> None:
    made = emulator.client().deployments.create(slug, **BASE)
    assert made.slug == slug


def test_a_label_is_trimmed(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"key": {**ISSUED, "plaintext": SECRET}}, status=201)
    client.deployments.keys.create("d-1", f"  {'x' * 80}\n")
    assert cloud.received[0].json == {"label": "x" * 80}


# The text of a key.


def issue(cloud: ScriptedCloud, client: CloudApiClient) -> IssuedKey:
    cloud.replies = [Reply(201, {"key": {**ISSUED, "plaintext": SECRET, "scope": "all"}})]
    return client.deployments.keys.create("d-1", "ci")


def test_a_key_is_issued(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    issued = issue(cloud, client)
    assert cloud.received[0].target == f"/v1/endpoints/d-1/keys{QUERY}"
    assert issued.plaintext == SECRET
    assert str(issued.plaintext) == SECRET
    assert (issued.id, issued.label, issued.prefix) == ("k-1", "ci", "ark_live_01234567")
    assert issued.extra == {"scope": "all"}
    assert issued.to_dict()["plaintext"] == SECRET, "its wire form, for who asks for it"


def test_its_text_is_shown_nowhere(
    cloud: ScriptedCloud, client: CloudApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issued = issue(cloud, client)
    logging.getLogger("of.the.program").warning("%s %r %s", issued, issued, [issued.plaintext])
    for text in (repr(issued), str(issued), f"{issued}", f"{[issued]}", repr(issued.plaintext)):
        assert SECRET not in text
        assert SECRET[20:] not in text
    assert "id='k-1', label='ci'" in repr(issued), "what is no secret can be read"
    assert SECRET not in caplog.text
    assert SECRET not in repr(vars(issued))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle_holds_its_text_and_other_copies_do(
    cloud: ScriptedCloud, client: CloudApiClient, protocol: int
) -> None:
    issued = issue(cloud, client)
    carried = pickle.dumps([issued, {"key": issued}], protocol)
    assert SECRET.encode() not in carried
    again = pickle.loads(carried)[0]
    assert again == issued
    assert again.plaintext == ""
    for copied in (copy.copy(issued), copy.deepcopy(issued), dataclasses.replace(issued)):
        assert copied.plaintext == SECRET


def test_a_list_of_keys_has_none(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"keys": [{**KEY, "plaintext": SECRET, "scope": "all"}, {**KEY, "enabled": False}]})
    found = client.deployments.keys.list("d-1")
    assert found[0] == DeploymentKey.from_dict({**KEY, "scope": "all"})
    assert found[0].extra == {"scope": "all"}
    assert [key.enabled for key in found] == [True, False]
    assert "label='ci'" in repr(found[0])
    for key in found:
        assert SECRET not in f"{key!r}{vars(key)}{key.to_dict()}"
        assert "plaintext" not in key.to_dict()
        assert SECRET.encode() not in pickle.dumps(key)


BROKEN = [
    Reply(201, '{"key": {"id": "k-1", "plaintext": "' + SECRET),
    Reply(201, {"key": {**ISSUED, "plaintext": [SECRET]}}),
    Reply(201, {"key": {**ISSUED, "id": None, "plaintext": SECRET}}),
    Reply(201, [{"plaintext": SECRET}]),
    Reply(201, SECRET),
    Reply(201, '{"key": {"plaintext": "' + SECRET, length=4000),
    Reply(silent=True),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_an_answer_that_breaks_shows_none_and_says_that_a_key_may_exist(
    cloud: ScriptedCloud, client: CloudApiClient, number: int
) -> None:
    cloud.replies = [BROKEN[number]]
    with pytest.raises(
        (ResponseError, ArkorConnectionError), match="may have been issued"
    ) as caught:
        client.deployments.keys.create("d-1", "ci")
    error = caught.value
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert SECRET not in shown
    assert SECRET.encode() not in pickle.dumps(error)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        assert SECRET not in repr(frame.f_locals) or frame.f_code.co_filename == __file__
    assert len(cloud.received) == 1


def test_a_refusal_that_repeats_a_key_does_not_show_it(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply({"keys": [{**KEY, "id": None, "plaintext": SECRET}]})
    with pytest.raises(ResponseError, match=r"keys\[0\]\.id: expected a string") as caught:
        client.deployments.keys.list("d-1")
    assert SECRET not in str(caught.value)


def test_a_deployment_without_its_answer_may_exist(
    cloud: ScriptedCloud, client: CloudApiClient
) -> None:
    cloud.reply(silent=True)
    with pytest.raises(ArkorConnectionError, match=r"'ab' may have been created .*\.list\(\)"):
        client.deployments.create("ab", **BASE)
    assert len(cloud.received) == 1


# Against the emulator.


def test_the_life_of_a_deployment(emulator: Emulator) -> None:
    client = emulator.client()
    made = client.deployments.create("support-bot", target=MODEL, auth_mode="none")
    assert (made.retention, made.enabled, made.expires_at) == (7, True, None)
    assert client.deployments.list() == [made]
    assert client.deployments.get(made.id) == made
    with pytest.raises(ConflictError, match="'support-bot' is already taken"):
        client.deployments.create("support-bot", **BASE)
    with pytest.raises(BadRequestError, match="'www' is reserved"):
        client.deployments.create("www", **BASE)
    changed = client.deployments.update(made.id, target=AdapterTarget.final("j"), enabled=False)
    assert (changed.slug, changed.target, changed.enabled) == (
        "support-bot",
        AdapterTarget("j"),
        False,
    )
    assert changed.auth_mode == "none", "what was not given stays"
    issued = client.deployments.keys.create(made.id, "  ci ")
    assert issued.plaintext.startswith(issued.prefix)
    (listed,) = client.deployments.keys.list(made.id)
    assert (listed.id, listed.label, listed.enabled) == (issued.id, "ci", True)
    client.deployments.keys.revoke(made.id, issued.id)
    client.deployments.keys.revoke(made.id, issued.id)  # it stays in the list, and can be again
    assert [key.enabled for key in client.deployments.keys.list(made.id)] == [False]
    client.deployments.delete(made.id)
    for call in (client.deployments.get, client.deployments.delete, client.deployments.keys.list):
        with pytest.raises(NotFoundError):
            call(made.id)
    assert client.deployments.list() == []


def test_what_only_the_cloud_can_make_is_listed_too(emulator: Emulator) -> None:
    emulator.add_deployment("one-click", {"kind": "ensemble", "of": ["a"]}, expiresAt="2026-02-01")
    client = emulator.client()
    client.deployments.create("support-bot", target=UnknownTarget("model_menu"), auth_mode="none")
    one_click, menu = client.deployments.list()
    assert one_click.target == UnknownTarget("ensemble", extra={"of": ["a"]})
    assert one_click.expires_at == "2026-02-01"
    assert menu.target.kind == "model_menu"


def test_a_delete_whose_answer_is_lost_has_worked(emulator: Emulator) -> None:
    client = emulator.client()
    made = client.deployments.create("support-bot", **BASE)
    emulator.faults.add(Fault("reset_peer", route="delete_deployment"))
    client.deployments.delete(made.id)
    assert client.deployments.list() == []
    routes = [each.route for each in emulator.requests]
    assert routes.count("delete_deployment") == 2


@pytest.mark.parametrize(
    ("base_url", "slug", "url"),
    [
        ("https://api.arkor.ai", "support-bot", "https://support-bot.arkor.app/v1"),
        ("https://api.arkor.ai/ ", "ab", "https://ab.arkor.app/v1"),
        ("http://127.0.0.1:80/", "ab", "http://127.0.0.1:80/deployed/ab/v1"),
        ("http://[::1]:80", "ab", "http://[::1]:80/deployed/ab/v1"),
        ("https://staging.arkor.ai", "ab", None),
        ("http://api.arkor.ai", "ab", None),
        ("https://api.arkor.ai", "evil.example/", None),
        ("http://localhost:80", "a b'c", None),
    ],
)
def test_the_address_of_a_deployment(base_url: str, slug: str, url: Any) -> None:
    assert endpoint_url(base_url, slug) == url
    client = CloudApiClient(base_url.strip())
    assert client.deployments.endpoint_url(slug) == url
