"""Callbacks that tell people: Slack, Discord, Teams, webhooks, Apprise."""
