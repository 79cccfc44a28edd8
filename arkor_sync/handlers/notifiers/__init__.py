"""Callbacks that notify people: Slack, Discord, Teams, webhooks, Apprise. Any thread."""
