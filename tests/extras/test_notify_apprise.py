"""Notifications through the real Apprise, to a local service."""

from __future__ import annotations

import logging
from typing import Any

import apprise  # noqa: F401 - the notifier imports it when it is made
import pytest

from arkor_sync import ArkorUsageError, CloudApiClient, create_trainer
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import AppriseNotifier
from support.clocks import FakeClock
from support.notifier_contexts import FakeRun
from support.waiting import PATIENCE
from support.webhook_services import DROP, HANG, Service

# What Apprise imports is its own business.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Hook(Service):
    path = "/s3cr3t-path"
    seconds = PATIENCE
    """That Apprise waits for an answer."""

    @property
    def apprise_url(self) -> str:
        settings = f"cto={PATIENCE}&rto={self.seconds}"
        return f"json://user:s3cr3t-password@{self.host}{self.path}?{settings}"


def tell(notifier: AppriseNotifier, run: FakeRun, *contexts: Any) -> None:
    for ctx in contexts:
        getattr(notifier, f"on_{type(ctx).__name__[: -len('Context')].lower()}")(ctx)
    notifier.on_end(run.end())


def test_apprise_is_told_with_title_body_and_type() -> None:
    run = FakeRun(answer="hello")
    with Hook() as hook:
        notifier = AppriseNotifier(
            hook.apprise_url,
            on=("checkpoint", "failed", "completed"),
            prompts=["hi"],
            flush_timeout=PATIENCE,
        )
        tell(notifier, run, run.checkpoint(5), run.failed("out of memory"))
        told = {body["title"]: body for body in hook.bodies}
        assert set(told) == {"bot: checkpoint 5", "bot failed at step 7"}
        assert told["bot: checkpoint 5"]["type"] == "info"
        assert "hi\nhello" in told["bot: checkpoint 5"]["message"]
        assert told["bot failed at step 7"]["type"] == "failure"
        assert "out of memory" in told["bot failed at step 7"]["message"]
        assert "job job-1" in told["bot failed at step 7"]["message"]
        tell(notifier, run, run.completed(final_loss=0.5))
        assert hook.bodies[-1]["type"] == "success"
        assert "final loss: 0.5" in hook.bodies[-1]["message"]


@pytest.mark.parametrize("nasty", ["@everyone @here", "<!channel> <@123>", "<@&9> <#1>"])
def test_the_text_of_a_run_mentions_nobody(nasty: str) -> None:
    run = FakeRun(name=nasty)
    with Hook() as hook:
        tell(AppriseNotifier(hook.apprise_url, flush_timeout=PATIENCE), run, run.failed(nasty))
        (body,) = hook.bodies
    for mention in nasty.split():
        assert mention not in body["title"] + body["message"]


def test_who_took_it_is_not_told_again_when_another_did_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = FakeRun()
    with Hook() as good, Hook((500, {}, ""), (500, {}, "")) as bad:
        both = f"{good.apprise_url}, {bad.apprise_url}"
        notifier = AppriseNotifier(both, clock=FakeClock(1.0), flush_timeout=PATIENCE)
        tell(notifier, run, run.failed())
        assert len(good.posts) == 1
        assert [post.status for post in bad.posts] == [500, 500, 200]
    assert caplog.text == ""


@pytest.mark.parametrize("answer", [(500, {}, ""), (404, {}, ""), DROP, HANG], ids=str)
def test_what_nobody_takes_is_logged_and_the_url_is_in_no_log(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("apprise", "urllib3.connectionpool"):
        caplog.set_level(logging.DEBUG, logger=name)
    run = FakeRun()
    with Hook(always=answer) as hook:
        hook.seconds = 0.1 if answer == HANG else PATIENCE
        notifier = AppriseNotifier(
            hook.apprise_url, clock=FakeClock(1.0), attempts=2, flush_timeout=PATIENCE
        )
        tell(notifier, run, run.failed())
        assert len(hook.wait_for(2)) == 2
    assert "AppriseNotifier: failed of job job-1 was not delivered: JSON did not accept it" in (
        caplog.text
    )
    assert "s3cr3t" not in caplog.text + repr(notifier)


def test_a_url_that_apprise_cannot_read_is_refused_without_being_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ArkorUsageError, match="APPRISE_URL") as caught:
        AppriseNotifier("nonsense://s3cr3t@host")
    assert "s3cr3t" not in caplog.text + str(caught.value)


def test_it_is_off_where_the_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun()
    monkeypatch.delenv("APPRISE_URL", raising=False)
    off = AppriseNotifier()
    tell(off, run, run.failed())
    assert not off.enabled
    with Hook() as hook:
        monkeypatch.setenv("APPRISE_URL", hook.apprise_url)
        tell(AppriseNotifier(flush_timeout=PATIENCE), run, run.failed())
        assert len(hook.bodies) == 1


@pytest.mark.parametrize("answer", [(500, {}, ""), DROP, HANG], ids=str)
@pytest.mark.arkor(engine=ScriptedEngine(steps=20))
def test_a_service_that_breaks_in_the_middle_does_not_harm_the_run(
    answer: Any, arkor_client: CloudApiClient
) -> None:
    seen = []
    with Hook() as hook:

        def breaks(ctx: Any) -> None:
            seen.append(ctx.step)
            if ctx.step == 5:
                hook.wait_for(1)
                hook.always = answer

        notifier = AppriseNotifier(
            hook.apprise_url,
            every_n_steps=1,
            min_interval=0,
            attempts=1,
            flush_timeout=0.1,
        )
        trainer = create_trainer(
            name="bot",
            model="unsloth/gemma-4-E4B-it",
            dataset={"type": "huggingface", "name": "arkorlab/triage-demo"},
            client=arkor_client,
            callbacks=[{"on_log": breaks}, notifier],
        )
        assert trainer.wait(PATIENCE).status == "completed"
        assert seen == list(range(1, 21))
        hook.open.set()
        hook.always = DROP
        assert notifier._outbox.flush(PATIENCE)
