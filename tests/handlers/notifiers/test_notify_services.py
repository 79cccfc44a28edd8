"""What each service is told: in its format, within its limits, mentioning only who was meant."""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import json
import pydoc
import re
from typing import Any, Callable, Iterator, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arkor_sync import ArkorUsageError, handlers
from arkor_sync.handlers import (
    DiscordNotifier,
    Notification,
    Sample,
    SlackNotifier,
    TeamsNotifier,
    WebhookNotifier,
)
from arkor_sync.handlers.notifiers.notification import (
    EVENTS,
    ZERO_WIDTH_SPACE,
    break_fences,
    clean,
    fit,
)
from support.clocks import FakeClock
from support.notifier_contexts import FakeRun, texts
from support.waiting import PATIENCE
from support.webhook_services import SERVICES, Discord, Service, Slack, Teams

Make = Callable[..., Any]
EVERYTHING = ("started", "checkpoint", "reconnect", "completed", "failed", "cancelled", "error")

NASTY = [
    "<!channel> <!here> <!everyone> <@U123> <!subteam^S1> <#C1>",
    "@everyone @here <@123> <@&456> <#789> @channel",
    "```\n<!channel> @everyone\n```",
    "`````\n<!channel> @everyone",
    "``````",
    "`",
    "a``",
    "\x1b[2J`\x1b[0m``<!channel>",
    "&lt;!channel&gt; &amp;",
    "[click](https://evil.example) ![x](y) **bold** ~~no~~ ||spoiler|| > quote # head",
    "<at>everyone</at> {{DATE(2020-01-01T00:00:00Z,SHORT)}}",
    "<https://evil.example|click>",
    "\x00\x07\u202e\ud800 bell",
    "line\r\nline\rline",
]


@pytest.fixture
def told() -> Iterator[Make]:
    """Have a notifier tell a local service of some contexts, and return what was accepted."""
    services: List[Service] = []

    def tell(kind: str, contexts: Callable[[FakeRun], List[Any]], **more: Any) -> List[Any]:
        run = more.pop("run", None) or FakeRun()
        service = SERVICES[kind]()
        services.append(service)
        notifier = getattr(handlers, kind)(
            service.url, on=EVERYTHING, clock=FakeClock(1.0), flush_timeout=PATIENCE, **more
        )
        for ctx in contexts(run):
            method = f"on_{type(ctx).__name__[: -len('Context')].lower()}"
            getattr(notifier, method)(ctx)
        notifier.on_end(run.end())
        refused = [post for post in service.posts if post.status >= 300]
        assert not refused, refused
        return service.bodies

    yield tell
    for service in services:
        service.stop()


@pytest.mark.parametrize("kind", SERVICES)
def test_each_service_accepts_every_kind_of_notification(told: Make, kind: str) -> None:
    def all_of(run: FakeRun) -> List[Any]:
        return [
            run.started(),
            run.log(10, loss=0.5, eval_loss=float("inf"), learning_rate=1e-4),
            run.checkpoint(20),
            run.reconnect(),
            run.completed(final_loss=0.25, total_steps=100, total_time=3661.0),
            run.failed(),
            run.cancelled(),
        ]

    bodies = told(kind, all_of, every_n_steps=10)
    assert len(bodies) == 7
    for body, word in zip(bodies, ["started", "step 10", "checkpoint 20", "lost", "completed"]):
        assert word in json.dumps(body)
    assert "CUDA out of memory" in json.dumps(bodies[5])
    assert all("bot" in json.dumps(body) for body in bodies)
    assert all("job-1" in json.dumps(body) for body in bodies)


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("text", ["x", "<", "`", "@", "*", "é", "🦙", "```", "<at>", "\n", "\\"])
def test_no_length_is_too_much_for_a_service(told: Make, kind: str, text: str) -> None:
    run = FakeRun(name=text * 2000, answer=text * 9000)
    bodies = told(
        kind,
        lambda run: [run.checkpoint(1), run.failed(text * 50_000)],
        run=run,
        prompts=[text * 3000] * 30,
    )
    assert len(bodies) == 2


@pytest.mark.parametrize("nasty", NASTY)
def test_slack_pages_nobody_but_the_mention(told: Make, nasty: str) -> None:
    run = FakeRun(name=nasty, job_id=nasty, answer=nasty)
    bodies = told(
        "SlackNotifier",
        lambda run: [run.checkpoint(1), run.failed(nasty), run.reconnect()],
        run=run,
        prompts=[nasty],
    )
    assert len(bodies) == 3
    for body in bodies:
        failed = "failed" in body["text"]
        meant = [text for text in texts(body) if text.startswith("<!here> ")]
        assert len(meant) == (1 if failed else 0)
        for text in texts(body):
            left = text[len("<!here> ") :] if text in meant else text
            assert not re.search("[<>]", left), left
            assert not re.search("&(?!amp;|lt;|gt;)", left), left
            assert len(re.findall("```", left)) in (0, 2)
        for block in body["blocks"]:
            for each in block.get("elements", [block.get("text")]):
                assert each["verbatim"] is True


@pytest.mark.parametrize("nasty", NASTY)
def test_discord_pages_nobody_but_the_mention(told: Make, nasty: str) -> None:
    run = FakeRun(name=nasty, job_id=nasty, answer=nasty)
    bodies = told(
        "DiscordNotifier",
        lambda run: [run.checkpoint(1), run.failed(nasty), run.reconnect()],
        run=run,
        prompts=[nasty],
    )
    assert len(bodies) == 3
    for body in bodies:
        assert body.get("content") in (None, "@here")
        meant = ["everyone"] if "content" in body else []
        assert body["allowed_mentions"] == {"parse": meant}
        embed = json.dumps(body["embeds"], ensure_ascii=False)
        assert not re.search("@[a-z0-9!&]", embed), embed
        assert "](h" not in body["embeds"][0]["title"].replace("\\", "¡")
        assert body["embeds"][0].get("description", "").count("```") in (0, 2)
    assert sum("content" in body for body in bodies) == 1


@pytest.mark.parametrize("nasty", NASTY)
def test_teams_shows_the_text_of_a_run_as_it_is(told: Make, nasty: str) -> None:
    run = FakeRun(name=nasty, job_id=nasty, answer=nasty)
    bodies = told(
        "TeamsNotifier",
        lambda run: [run.checkpoint(1), run.failed(nasty)],
        run=run,
        prompts=[nasty],
    )
    for body in bodies:
        card = body["attachments"][0]["content"]
        assert "entities" not in card["msteams"], "without them no text is a mention"
        kinds = {element["type"] for element in card["body"]}
        assert kinds <= {"RichTextBlock", "FactSet"}, "a text block would read Markdown"
        for element in card["body"]:
            for text in texts(element):
                assert "<at" not in text
                assert "{{" not in text


@pytest.mark.parametrize(
    ("mention", "allowed"),
    [
        ("@here", {"parse": ["everyone"]}),
        ("@everyone", {"parse": ["everyone"]}),
        ("<@&456> <@789>", {"parse": [], "roles": ["456"], "users": ["789"]}),
        (None, {"parse": []}),
    ],
)
def test_discord_allows_exactly_the_mention_that_was_asked_for(
    told: Make, mention: Any, allowed: Any
) -> None:
    (body,) = told("DiscordNotifier", lambda run: [run.failed()], mention=mention)
    assert body.get("content") == mention
    assert body["allowed_mentions"] == allowed


def test_slack_may_mention_nobody(told: Make) -> None:
    (body,) = told("SlackNotifier", lambda run: [run.failed()], mention=None)
    assert "<" not in json.dumps(body)


def test_metrics_are_shown_for_the_eye(told: Make) -> None:
    (body,) = told(
        "DiscordNotifier",
        lambda run: [run.completed(final_loss=0.123456, total_steps=1500, total_time=3661.2)],
    )
    fields = {field["name"]: field["value"] for field in body["embeds"][0]["fields"]}
    assert fields == {"final loss": "0.1235", "total steps": "1500", "total time": "1:01:01"}


# Webhooks of one's own.


@pytest.mark.parametrize("kind", SERVICES)
def test_no_number_is_too_much_for_a_service(told: Make, kind: str) -> None:
    run = FakeRun()
    names = ("loss", "eval_loss", "learning_rate", "epoch", "samples_per_second")
    for huge in (10**4000, -(10**4000), 1e308, float("inf"), float("-inf"), float("nan")):
        metrics = dict.fromkeys(names, huge)
        [body] = told(kind, lambda run, m=metrics: [run.log(1, **m)], every_n_steps=1, run=run)
        assert len(json.dumps(body)) < (25_000 if kind == "WebhookNotifier" else 2500)


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("text", ["score 0.9", "score 0.9\nwhy? -> because", *NASTY])
def test_each_service_accepts_a_plain_text(kind: str, text: str) -> None:
    with SERVICES[kind]() as service:
        notifier = getattr(handlers, kind)(service.url, clock=FakeClock(1.0))
        notifier.notify(text)
        assert notifier._outbox.flush(PATIENCE)
        [body] = service.bodies
    if "score" in text:
        assert "score 0.9" in json.dumps(body)
        assert ("why?" in text) == ("because" in json.dumps(body))
    if kind == "SlackNotifier":
        assert not any(re.search("[<>]", each) for each in texts(body))


def test_a_function_may_return_what_json_has_no_number_for() -> None:
    with Service() as service:
        body = {"loss": float("inf"), "all": [float("nan"), 1.5]}
        notifier = WebhookNotifier(service.url, template=lambda note: body)
        notifier.send(Notification("completed", "job-1", "bot", "bot completed"))
        assert notifier._outbox.flush(PATIENCE)
        assert service.bodies == [{"loss": None, "all": [None, 1.5]}]


def test_a_webhook_gets_all_fields_by_default(told: Make) -> None:
    (body,) = told(
        "WebhookNotifier", lambda run: [run.log(10, loss=float("inf"), epoch=0.5)], every_n_steps=5
    )
    assert len(body.pop("id")) == 32
    assert body == {
        "event": "progress",
        "job_id": "job-1",
        "job_name": "bot",
        "title": "bot: step 10",
        "step": 10,
        "metrics": {"loss": None, "epoch": 0.5},
        "text": "",
        "samples": [],
        "timestamp": "2026-01-01T00:00:01Z",
        "urgent": False,
    }


def test_a_template_is_filled_in_and_keeps_types(told: Make) -> None:
    template = {
        "summary": "{title}: {text} at {step}",
        "step": "{step}",
        "all": ["{metrics}", 7, {"deep": "{urgent}"}],
        "braces": "{} {not-a-name} {{",
    }
    error = "{job_id} {0.__class__} {text!r}"
    (body,) = told("WebhookNotifier", lambda run: [run.failed(error)], template=template)
    assert body == {
        "summary": f"bot failed at step 7: {error} at 7",
        "step": 7,
        "all": [{}, 7, {"deep": True}],
        "braces": "{} {not-a-name} {{",
    }


def test_a_function_makes_the_body_of_a_frozen_message(told: Make) -> None:
    seen: List[Notification] = []

    def body(note: Notification) -> Any:
        seen.append(note)
        return {"said": note.samples[0].answer}

    (posted,) = told(
        "WebhookNotifier",
        lambda run: [run.checkpoint(5)],
        template=body,
        prompts=["hi"],
        run=FakeRun(answer="hello"),
    )
    assert posted == {"said": "hello"}
    assert seen[0].samples == (Sample("hi", "hello"),)
    with pytest.raises(AttributeError):
        seen[0].title = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("secret", "key"),
    [("a password", b"a password"), ("whsec_" + base64.b64encode(b"k" * 24).decode(), b"k" * 24)],
)
def test_a_signature_can_be_verified_and_the_id_stays_the_same(secret: str, key: bytes) -> None:
    run = FakeRun()
    with Service((500, {}, "")) as service:
        notifier = WebhookNotifier(
            service.url, secret=secret, clock=FakeClock(1.0), headers={"X-Team": "ml"}
        )
        notifier.on_failed(run.failed())
        notifier.on_end(run.end())
        WebhookNotifier(service.url, secret=secret).on_end(run.end())
        posts = service.wait_for(3)
    for post in posts:
        stamp, message_id = post.headers["webhook-timestamp"], post.headers["webhook-id"]
        signed = f"{message_id}.{stamp}.".encode() + post.raw
        digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert post.headers["webhook-signature"] == f"v1,{digest}"
    assert len({post.headers["webhook-id"] for post in posts}) == 1
    assert posts[0].headers["X-Team"] == "ml"
    assert posts[0].headers["Content-Type"] == "application/json"


def test_without_a_secret_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun()
    with Service() as service:
        run.failed()
        monkeypatch.setenv("ARKOR_WEBHOOK_SECRET", "\n")
        WebhookNotifier(service.url).on_end(run.end())
        assert "webhook-signature" not in service.wait_for(1)[0].headers
        monkeypatch.setenv("ARKOR_WEBHOOK_SECRET", "from the environment")
        WebhookNotifier(service.url).on_end(run.end())
        assert "webhook-signature" in service.wait_for(2)[1].headers


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"template": {"a": ["{nmae}"]}}, "template: got {nmae}; give only fields of Notification"),
        (
            {"secret": "whsec_not base64!"},
            "secret: got a text whose part after whsec_ is no base64; give",
        ),
        ({"on": "finished"}, "on: got str 'finished'; give only started, checkpoint"),
        ({"prompts": "hi"}, "give 'checkpoint' in on"),
        (
            {"prompts": [{"role": "user"}], "on": "checkpoint"},
            "prompts: got a dict with 'role'; give each prompt as a text or a list",
        ),
        ({"secret": "whsec_é"}, "base64"),
        ({"timeout": (0, 1)}, "timeout: got tuple (0, 1)"),
        ({"every_n_steps": 0}, "every_n_steps: got int 0; give a whole number from 1"),
        ({"every_n_steps": -1}, "every_n_steps: got int -1; give a whole number from 1"),
        ({"every_n_steps": 2.5}, "every_n_steps: got float 2.5; give a whole number from 1"),
        ({"attempts": True}, "attempts: got bool True; give"),
        ({"min_interval": -1}, "min_interval: got int -1; give"),
        ({"flush_timeout": "5"}, "flush_timeout: got str '5'; give"),
    ],
)
def test_mistakes_are_found_at_once(arguments: Any, says: str) -> None:
    with pytest.raises(ArkorUsageError, match=re.escape(says)) as caught:
        WebhookNotifier("http://127.0.0.1:9/s3cr3t", **arguments)
    assert "s3cr3t" not in str(caught.value)
    assert "not base64!" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3cr3t", "ftp://host/s3cr3t", "http:///s3cr3t", "http://[s3cr3t"])
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ArkorUsageError, match="SLACK_WEBHOOK_URL") as caught:
        SlackNotifier(url)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None or "s3cr3t" not in str(caught.value.__context__)


@pytest.mark.parametrize("unset", [None, "", " "])
@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        (SlackNotifier, "SLACK_WEBHOOK_URL"),
        (DiscordNotifier, "DISCORD_WEBHOOK_URL"),
        (TeamsNotifier, "TEAMS_WEBHOOK_URL"),
        (WebhookNotifier, "ARKOR_WEBHOOK_URL"),
    ],
)
def test_the_url_comes_from_the_environment_and_without_it_nothing_happens(
    kind: Any,
    variable: str,
    unset: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = FakeRun()
    monkeypatch.setattr("arkor_sync.handlers.notifiers.delivery._reported_as_off", set())
    if unset is None:
        monkeypatch.delenv(variable, raising=False)
    else:
        monkeypatch.setenv(variable, unset)
    off = kind(on=EVERYTHING, every_n_steps=1)
    for ctx in (run.started(), run.log(1), run.checkpoint(1), run.failed()):
        getattr(off, f"on_{type(ctx).__name__[: -len('Context')].lower()}")(ctx)
    off.on_end(run.end())
    assert not off.enabled
    assert "off" in repr(off)
    kind(), kind(), kind("")
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        (
            "WARNING",
            f"{kind.__name__} is off: {variable} is not set; set it, or give url='' if nobody is "
            "to be notified",
        )
    ]
    with Service() as service:
        monkeypatch.setenv(variable, service.url)
        kind().on_end(run.end())
        service.wait_for(1)


@pytest.mark.parametrize("kind", [*SERVICES, "AppriseNotifier"])
def test_a_notifier_that_is_off_on_purpose_logs_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("arkor_sync.handlers.notifiers.delivery._reported_as_off", set())
    assert not getattr(handlers, kind)("").enabled
    assert not getattr(handlers, kind)(" \n").enabled
    assert caplog.text == ""


# The help.


@pytest.mark.parametrize("kind", [*SERVICES, "AppriseNotifier"])
def test_help_shows_each_argument_with_its_values_and_default(kind: str) -> None:
    cls = getattr(handlers, kind)
    parameters = inspect.signature(cls).parameters
    assert parameters["on"].default == ("completed", "failed", "cancelled", "error")
    assert all(f"'{event}'" in str(parameters["on"].annotation) for event in EVENTS)
    text = pydoc.render_doc(cls, renderer=pydoc.plaintext)
    arguments = text.partition("Args:")[2]
    described = re.findall(r"^ \|\s+(\w+): ", arguments, re.MULTILINE)
    assert described[: len(parameters)] == list(parameters)
    for event in EVENTS:
        assert f"`{event}`" in text


# The pure parts.


@settings(max_examples=100)
@given(st.text(alphabet="a<&`@é🦙\\*", max_size=60), st.integers(1, 40))
def test_a_text_that_is_cut_fits_and_no_escape_is_cut_in_two(text: str, limit: int) -> None:
    from arkor_sync.handlers.notifiers.slack import escape

    cut = fit(text, limit, escape)
    assert len(cut.encode("utf-16-le")) // 2 <= limit
    assert re.fullmatch("([^&]|&amp;|&lt;|&gt;)*", cut)
    if len(escape(clean(text)).encode("utf-16-le")) // 2 <= limit:
        assert cut == escape(clean(text))
    else:
        assert cut.endswith("…")


def test_cleaning_keeps_lines_and_drops_what_cannot_be_shown() -> None:
    assert clean("  a\r\nb\rc\x00\x1b[0m\u202e\ud800d\t\n") == "a\nb\nc?d"
    assert len(clean("x" * 10**6)) == 20_000


@pytest.mark.parametrize(("service", "body"), [(Slack, []), (Discord, {}), (Teams, {})])
def test_the_local_services_refuse_what_the_real_ones_refuse(service: Any, body: Any) -> None:
    import requests

    with service() as running:
        assert requests.post(running.url, json=body, timeout=PATIENCE).status_code == 400
        assert requests.post(running.url + "x", json=body, timeout=PATIENCE).status_code == 404


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("around", ["{}", "a{}", "{}b", "a{}b"])
def test_no_number_of_backticks_meets_a_fence(count: int, around: str) -> None:
    text = break_fences(around.format("`" * count))
    assert f"```{text}```".count("```") == 2
    assert f"```{text}```".strip("`") == text
    assert "``" not in text
    assert text.replace(ZERO_WIDTH_SPACE, "") == around.format("`" * count)
