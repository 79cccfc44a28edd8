"""The credentials of a user; implemented in `arkor_sync.cloud`. Runs on the caller's thread."""

from arkor_sync.cloud.credentials import (
    AnonymousCredentials,
    Credentials,
    OAuthCredentials,
    TokenCredentials,
    credentials_path,
    ensure_credentials,
    read_credentials,
    request_anonymous_token,
    resolve_base_url,
    write_credentials,
)
from arkor_sync.cloud.sign_in import sign_in, sign_in_anonymously, sign_out

__all__ = [
    "AnonymousCredentials",
    "Credentials",
    "OAuthCredentials",
    "TokenCredentials",
    "credentials_path",
    "ensure_credentials",
    "read_credentials",
    "request_anonymous_token",
    "resolve_base_url",
    "sign_in",
    "sign_in_anonymously",
    "sign_out",
    "write_credentials",
]
