"""The example of notifications, run as its reader runs it, with and without a place to post to."""

from __future__ import annotations

import os

import pytest

from support.example_runs import printed_by
from support.servers import Webhook

NAMES = ("SLACK_WEBHOOK_URL", "DISCORD_WEBHOOK_URL", "TEAMS_WEBHOOK_URL")


def printed(**environment: str) -> str:
    rest = {name: value for name, value in os.environ.items() if name not in NAMES}
    return printed_by("notifications.py", env={**rest, **environment})


def test_it_prints_what_would_be_posted_and_pages_only_for_the_failure() -> None:
    text = printed()
    titles = [line for line in text.splitlines() if "*support-triage" in line]
    assert sorted(titles) == sorted(
        [
            "*support-triage started*",
            "*support-triage: step 50*",
            "*support-triage: checkpoint 50*",
            "*support-triage: step 100*",
            "*support-triage: checkpoint 100*",
            "✅ *support-triage completed*",
            "<!here> ❌ *support-triage failed*",
        ]
    )
    assert text.count("```category: feedback") == 2
    assert "could not be read: No such file" in text
    assert text.count("<!here>") == 1
    assert "status: completed, and then as expected: failed" in text


@pytest.mark.slow
def test_with_a_webhook_in_the_environment_it_posts_there_and_prints_no_message() -> None:
    with Webhook(204) as discord:
        text = printed(DISCORD_WEBHOOK_URL=f"{discord.url}/api/webhooks/1/t")
    posted = discord.posted
    assert len(posted) == 7
    assert [body.get("content") for body in posted] == [None] * 6 + ["@here"]
    assert text == "status: completed, and then as expected: failed\n"
