"""`deployments` and `keys`: through a process, and in a terminal."""

from __future__ import annotations

import shlex
from typing import Any, Callable, List

import click
import pytest

from arkor_sync.cli.client import split_step
from arkor_sync.cli.commands.deployments import _find_key, _retention
from arkor_sync.cloud.endpoint import ChatEndpoint
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from arkor_sync.errors import ArkorUsageError
from support.command_line import CommandLine

HOSTILE = "\x1b[31mred\x1b]0;title\x07\nnext\x9b2J\u202e"
MODEL = ("--model", "unsloth/gemma-4-E4B-it")


def routes(emulator: Emulator) -> List[str]:
    return [str(each.route) for each in emulator.requests]


def train(emulator: Emulator, name: str, **script: Any) -> str:
    """Return the id of a job that has ended."""
    script = {"steps": 60, "checkpoints": (50,), **script}
    job = emulator.create_job(ScriptedEngine(**script), name=name)
    emulator.wait_for(lambda: emulator.jobs[job].terminal)
    return job


def deploy(emulator: Emulator, **more: Any) -> str:
    return emulator.add_deployment("support-bot", {"kind": "base_model", "baseModel": "m"}, **more)


# deployments create


def test_a_checkpoint_of_a_job_is_deployed_by_the_names_of_both(
    cli: CommandLine, emulator: Emulator
) -> None:
    job = train(emulator, "triage@v1")
    made = cli(
        "deployments", "create", "support-bot", "--job", "triage@v1@50", "--retention", "30d"
    )
    assert made.stdout.splitlines()[1:7] == [
        "slug: support-bot",
        f"url: {emulator.endpoint_url('support-bot')}",
        f"target: job {job}@50",
        "authMode: fixed_api_key",
        "enabled: yes",
        "retention: 30 days",
    ]
    assert made.stderr == ""
    assert emulator.requests[-1].body == {
        "slug": "support-bot",
        "target": {"kind": "adapter", "adapter": {"kind": "checkpoint", "jobId": job, "step": 50}},
        "authMode": "fixed_api_key",
        "runRetentionMode": "days",
        "runRetentionDays": 30,
    }


def test_a_base_model_that_everybody_may_call(cli: CommandLine, emulator: Emulator) -> None:
    made = cli(
        "deployments",
        *("create", "support-bot", *MODEL, "--auth", "none", "--retention", "unlimited", "--json"),
    ).json
    assert made["target"] == {"kind": "base_model", "baseModel": MODEL[1]}
    assert (made["authMode"], made["runRetentionMode"]) == ("none", "unlimited")
    url = made.pop("url")
    assert made == emulator.client().deployments.get(made["id"]).to_dict()
    assert ChatEndpoint(url).chat("Hello").content()
    assert cli("deployments", "show", "support-bot", "--json").json == {"url": url, **made}
    assert f"\nurl: {url}\n" in cli("deployments", "show", made["id"]).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Support", *MODEL), "slug: got str 'Support'; give 2 to 50 characters of a-z, 0-9 and -"),
        (("a" * 51, *MODEL), "slug: got str"),
        (("ab",), "what is to be served? give --job or --model"),
        (("ab", *MODEL, "--job", "j"), "--job and --model name two things to serve"),
        (("ab", *MODEL, "--retention", "0d"), "'--retention': got '0d'; give a number of days fro"),
        (("ab", *MODEL, "--auth", "jwt"), "'jwt' is not one of 'none', 'fixed_api_key'"),
    ],
)
def test_what_cannot_be_created_is_refused_and_nothing_is_sent(
    cli: CommandLine, emulator: Emulator, arguments: Any, message: str
) -> None:
    ended = cli("deployments", "create", *arguments, code=2)
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
    assert emulator.requests == []
    assert list(cli.cwd.iterdir()) == []


def test_a_slug_that_is_taken_and_a_job_that_does_not_exist(
    cli: CommandLine, emulator: Emulator
) -> None:
    deploy(emulator)
    taken = cli("deployments", "create", "support-bot", *MODEL, code=6)
    assert "409: the slug 'support-bot' is already taken" in taken.stderr
    assert "`arkor-sync deployments update support-bot` changes it" in taken.stderr
    missing = cli("deployments", "create", "other", "--job", "nope", code=2)
    assert "no job of this project has the id or the name 'nope'" in missing.stderr
    assert routes(emulator).count("create_deployment") == 1


@pytest.mark.parametrize("given", [("create", "other"), ("update", "support-bot")])
def test_a_model_that_does_not_exist_is_not_served(
    cli: CommandLine, emulator: Emulator, given: Any
) -> None:
    deploy(emulator)
    train(emulator, "triage", fails_at=55)
    failed = cli("deployments", *given, "--job", "triage", code=2)
    assert "the job 'triage' (failed) has no final model; its checkpoints: tri" in failed.stderr
    missing = cli("deployments", *given, "--job", "triage@40", code=2)
    assert "the job 'triage' has no checkpoint at step 40; its checkpoints: tri" in missing.stderr
    assert missing.stdout == failed.stdout == ""
    assert not {"create_deployment", "update_deployment"} & set(routes(emulator))
    done = cli("deployments", *given, "--job", "triage@50")
    assert "has no" not in done.stderr


def test_checkpoints_that_cannot_be_read_are_left_to_the_cloud(
    cli: CommandLine, emulator: Emulator
) -> None:
    train(emulator, "triage")
    emulator.faults.add(Fault("status", route="stream", status=403, count=1))
    cli("deployments", "create", "support-bot", "--job", "triage@7")
    assert routes(emulator)[-1] == "create_deployment"


def test_a_model_that_cannot_be_trained_is_said_and_left_to_the_cloud(
    cli: CommandLine, emulator: Emulator
) -> None:
    made = cli("deployments", "create", "support-bot", "--model", "no/such-model", "--json")
    assert "'no/such-model' is not a model that can be trained (unsloth/gemma-4" in made.stderr
    assert made.json["target"]["baseModel"] == "no/such-model"
    assert cli("deployments", "update", "support-bot", *MODEL).stderr == ""


@pytest.mark.parametrize(
    "text", ["0d", "d", "7", "7D", "-1d", "1.5d", "days", "", "07d", "\u0667d"]
)
def test_retentions_that_cannot_work(text: str) -> None:
    nothing: Any = None
    with pytest.raises(click.BadParameter, match="give a number of days from 1, such as 7d"):
        _retention(nothing, nothing, text)


def test_retentions() -> None:
    nothing: Any = None
    read = [_retention(nothing, nothing, text) for text in ("7d", "365d", "unlimited", "disabled")]
    assert read == [7, 365, "unlimited", "disabled"]
    assert _retention(nothing, nothing, None) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a", None)),
        ("a@20", ("a", 20)),
        ("a@b@20", ("a@b", 20)),
        ("a@b", ("a@b", None)),
        ("@20", ("@20", None)),
        ("a@", ("a@", None)),
        ("a@-1", ("a@-1", None)),
        ("a@" + "9" * 19, ("a@" + "9" * 19, None)),
    ],
)
def test_a_step_is_the_digits_behind_the_last_at_sign(text: str, parts: Any) -> None:
    assert split_step(text) == parts


# deployments list, show, update, delete


def test_a_list_has_a_line_for_each_deployment_also_of_an_unknown_kind(
    cli: CommandLine, emulator: Emulator
) -> None:
    empty = cli("deployments", "list")
    assert empty.stdout == ""
    assert (
        empty.stderr == "There is no deployment yet: `arkor-sync deployments create` makes one.\n"
    )
    ids = [
        deploy(emulator),
        emulator.add_deployment("menu", {"kind": "model_menu"}, expiresAt="2026-02-01T00:00:00Z"),
    ]
    assert [line.split("\t") for line in cli("deployments", "list").stdout.splitlines()] == [
        ["support-bot", "model m", "none", "yes", ids[0]],
        ["menu", "model_menu", "none", "yes", ids[1]],
    ]
    listed = cli("deployments", "list", "--json").json
    assert [each["id"] for each in listed] == ids
    assert listed[1]["target"] == {"kind": "model_menu"}
    assert listed[1]["expiresAt"] == "2026-02-01T00:00:00Z"
    assert "expiresAt: 2026-02-01T00:00:00Z" in cli("deployments", "show", ids[1]).stdout


def test_lists_that_are_empty_say_so(cli: CommandLine, emulator: Emulator) -> None:
    none = cli("deployments", "list")
    assert none.stdout == ""
    assert none.stderr == "There is no deployment yet: `arkor-sync deployments create` makes one.\n"
    deploy(emulator)
    none = cli("keys", "list", "support-bot", "--json")
    assert none.json == []
    assert none.stderr == "It has no key yet: `arkor-sync keys issue` makes one.\n"


def test_what_the_cloud_says_of_a_deployment_is_shown_harmless(
    cli: CommandLine, emulator: Emulator, terminal: Callable[..., Any]
) -> None:
    target = {"kind": "base_model", "baseModel": HOSTILE}
    emulator.add_deployment(HOSTILE, target, authMode=HOSTILE)
    piped = cli("deployments", "list").stdout
    assert piped.splitlines() == [
        "red next\tmodel red next\tred next\tyes\t" + piped.split("\t")[-1].strip()
    ]
    shown = terminal("deployments", "list", columns=200)
    assert shown.wait() == 0
    assert b"\x1b]0;" not in shown.printed
    assert b"\x1b[31m" not in shown.printed
    assert "red next" in shown.text
    asked = terminal("deployments", "delete", emulator.client().deployments.list()[0].id)
    asked.until("Type its slug")
    assert "This deletes red next and its keys" in " ".join(asked.text.split())
    asked.press("ctrl-c")
    assert asked.wait() == 130


def test_an_update_changes_what_was_given(cli: CommandLine, emulator: Emulator) -> None:
    id = deploy(emulator)
    job = train(emulator, "triage-v2")
    changed = cli("deployments", "update", "support-bot", "--job", "triage-v2", "--disable")
    assert f"target: job {job}\n" in changed.stdout
    assert "enabled: no\n" in changed.stdout
    assert emulator.requests[-1].body == {
        "target": {"kind": "adapter", "adapter": {"kind": "final", "jobId": job}},
        "enabled": False,
    }
    as_json = cli("deployments", "update", id, "--enable", "--auth", "fixed_api_key", "--json").json
    assert (as_json["enabled"], as_json["authMode"]) == (True, "fixed_api_key")
    assert emulator.requests[-1].body == {"enabled": True, "authMode": "fixed_api_key"}
    before = len(emulator.requests)
    assert "nothing to change" in cli("deployments", "update", id, code=2).stderr
    both = cli("deployments", "update", id, "--job", "a", *MODEL, code=2)
    assert "give one of them" in both.stderr
    assert len(emulator.requests) == before
    unknown = cli("deployments", "show", "nope", code=2).stderr
    assert "has the slug or the id 'nope'; `arkor-sync deployments list` shows them" in unknown


def test_a_delete_needs_a_terminal_or_a_word(cli: CommandLine, emulator: Emulator) -> None:
    deploy(emulator)
    refused = cli("deployments", "delete", "support-bot", code=2, stdin="support-bot\n")
    assert "there is no terminal to ask in; give --yes" in refused.stderr
    assert emulator.requests == []
    emulator.faults.add(Fault("reset_peer", route="delete_deployment"))
    deleted = cli("deployments", "delete", "support-bot", "--yes")
    assert deleted.stdout == "deleted support-bot\n"
    assert "trying again in" in deleted.stderr, "its first answer was lost"
    assert emulator.client().deployments.list() == []
    id = deploy(emulator)
    gone = cli("deployments", "delete", id, "--yes", "--json").json
    assert gone == {"id": id, "slug": "support-bot", "deleted": True}


def test_a_delete_in_a_terminal_wants_the_slug(
    cli: CommandLine, emulator: Emulator, terminal: Callable[..., Any]
) -> None:
    deploy(emulator)
    for typed, code, left in (("yes", 1, 1), ("support-bot", 0, 0)):
        asked = terminal("deployments", "delete", "support-bot")
        asked.until("Type its slug")
        asked.press(f"{typed}\r")
        assert asked.wait() == code, asked.text
        assert routes(emulator).count("delete_deployment") == 1 - left
        assert ("nothing was deleted" in asked.text) is bool(left)


# keys


def test_a_key_is_printed_once_and_only_on_standard_output(
    cli: CommandLine, emulator: Emulator
) -> None:
    deploy(emulator, authMode="fixed_api_key")
    issued = cli("keys", "issue", "support-bot", "  our web shop ")
    (key,) = issued.stdout.splitlines()
    assert key.startswith("ark_live_")
    assert issued.stderr.startswith("The key our web shop (")
    told, _, curl = issued.stderr.splitlines()
    assert told.endswith(") is shown only this once: store it now.")
    assert shlex.split(curl.replace("$KEY", key)) == [
        "curl",
        f"{emulator.endpoint_url('support-bot')}/chat/completions",
        *("-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"),
        *("-d", '{"messages": [{"role": "user", "content": "Hello"}]}'),
    ]
    assert key not in issued.stderr
    as_json = cli("keys", "issue", "support-bot", "ci", "--json", "--debug")
    assert as_json.json["label"] == "ci"
    assert as_json.json["plaintext"] not in as_json.stderr
    assert "curl" not in as_json.stderr
    listed = cli("keys", "list", "support-bot")
    assert [line.split("\t")[1:4] for line in listed.stdout.splitlines()] == [
        ["our web shop", key[:17], "yes"],
        ["ci", as_json.json["prefix"], "yes"],
    ]
    all_of_it = cli("keys", "list", "support-bot", "--json")
    assert "plaintext" not in all_of_it.stdout
    assert key not in listed.stdout + all_of_it.stdout


def test_a_key_is_revoked_by_its_label_or_its_id(cli: CommandLine, emulator: Emulator) -> None:
    issued = emulator.client().deployments.keys
    id = deploy(emulator)
    shop, ci = (issued.create(id, label) for label in ("our web shop", "ci"))
    assert cli("keys", "revoke", "support-bot", "ci").stdout == f"revoked ci ({ci.id})\n"
    assert cli("keys", "revoke", id, shop.id, "--json").json == issued.list(id)[0].to_dict()
    assert [each.enabled for each in issued.list(id)] == [False, False]


def test_which_key_a_name_is(emulator: Emulator) -> None:
    client = emulator.client()
    deployment = client.deployments.get(deploy(emulator))
    first, second, third = (client.deployments.keys.create(deployment.id, "ci") for _ in range(3))
    client.deployments.keys.revoke(deployment.id, third.id)
    with pytest.raises(ArkorUsageError) as caught:
        _find_key(client, deployment, "ci")
    assert str(caught.value) == (
        f"2 keys of support-bot have the label 'ci': {first.id}, {second.id}; give the id of one"
    )
    assert _find_key(client, deployment, third.id).id == third.id, "also one that was revoked"
    assert _find_key(client, deployment, second.prefix).id == second.id
    client.deployments.keys.revoke(deployment.id, first.id)
    assert _find_key(client, deployment, "ci").id == second.id, "the only one that is accepted"
    with pytest.raises(ArkorUsageError, match="'nope'; `arkor-sync keys list support-bot` shows"):
        _find_key(client, deployment, "nope")


@pytest.mark.parametrize("label", ["", "   ", "x" * 81])
def test_labels_that_cannot_work(cli: CommandLine, emulator: Emulator, label: str) -> None:
    ended = cli("keys", "issue", "support-bot", label, code=2)
    assert "label: got str" in ended.stderr
    assert "give 1 to 80 characters that say what the key is for" in ended.stderr
    assert emulator.requests == []


def test_a_hostile_label_is_shown_harmless(cli: CommandLine, emulator: Emulator) -> None:
    deploy(emulator)
    issued = cli("keys", "issue", "support-bot", HOSTILE)
    assert issued.stderr.startswith("The key red next (")
    assert "\x1b" not in issued.stderr
    assert cli("keys", "list", "support-bot").stdout.split("\t")[1] == "red next"


def test_a_key_whose_answer_is_lost_is_told(cli: CommandLine, emulator: Emulator) -> None:
    deploy(emulator)
    emulator.faults.add(Fault("reset_peer", route="create_key"))
    lost = cli("keys", "issue", "support-bot", "ci", code=6)
    assert "a key may have been issued nevertheless" in lost.stderr
    assert routes(emulator).count("create_key") == 1
