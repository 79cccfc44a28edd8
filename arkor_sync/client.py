"""The client of the cloud API; implemented in `arkor_sync.cloud`. Runs on the caller's thread."""

from arkor_sync.cloud.client import CloudApiClient, is_sendable_id

__all__ = ["CloudApiClient", "is_sendable_id"]
