"""The client of the cloud API. Its home is `arkor_sync.cloud`."""

from arkor_sync.cloud.client import CloudApiClient, is_sendable_id

__all__ = ["CloudApiClient", "is_sendable_id"]
