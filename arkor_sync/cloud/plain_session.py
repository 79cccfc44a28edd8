"""The `requests` session that makes all requests: the cloud's and the notifiers'. Any thread.

The rule: what the program gave decides, and nothing is sent that the program did not give.
`requests` alone lets the environment and the home directory win:

* A proxy or a certificate of the program is used whatever the environment says. The environment
  (`HTTPS_PROXY`, `NO_PROXY`, `REQUESTS_CA_BUNDLE`) decides what the program left open.
* The environment's proxy is not used for this machine itself: it could not reach it. A proxy that
  the program gave is used for it too.
* `~/.netrc` is not read. A user name and a password in the URL are sent, unless the program gave an
  `Authorization` header.
* Cookies are not kept: a server that sets many would refuse the requests that carry them.
* Redirects are not followed.

A plain `http://` address of another machine is allowed, because private networks use it. It is
logged, once for each host, because others can read along there.
"""

from __future__ import annotations

import importlib.util
import re
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Optional, Set, Tuple
from urllib.parse import unquote, urlsplit

import requests
from requests.auth import HTTPBasicAuth
from requests.exceptions import InvalidHeader
from requests.utils import get_auth_from_url, get_environ_proxies, select_proxy
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url
from urllib3.util.connection import create_connection

from arkor_sync._common.arguments import refusal
from arkor_sync._common.environment import variable
from arkor_sync._common.log import get_logger
from arkor_sync.cloud.connection_errors import Route
from arkor_sync.cloud.connections import Adapter, Connect
from arkor_sync.cloud.loopback import is_loopback

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}
_PROXY_WANTED = (
    "http://host:port or http://user:password@host:port, in HTTPS_PROXY or in the proxies of the "
    "session; in a user name and a password, write %40 for @, %3A for : and %2F for /"
)

_logger = get_logger("arkor_sync.http")
_warned_of: Set[str] = set()  # hosts


class PlainSession(requests.Session):
    """A session that sends what the program gave it.

    Args:
        template: A session whose proxies, certificates, headers and `trust_env` are taken over.
        connect: Opens the sockets; see `Adapter`.
    """

    def __init__(
        self,
        template: Optional[requests.Session] = None,
        connect: Connect = create_connection,
    ) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, Adapter(connect))
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.auth = _sign_in_with_url
        if template is not None:
            for name in ("headers", "proxies", "verify", "cert", "trust_env"):
                setattr(self, name, getattr(template, name))

    def get_redirect_target(self, *_: object, **__: object) -> None:
        """See no redirects: requests reads the body of one that it does not follow."""
        return

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Refuse headers that cannot be sent, without their values: these may be secret."""
        try:
            prepared = super().prepare_request(request)
            if all(map(_is_header_value, prepared.headers.values())):
                return prepared
        except InvalidHeader:
            pass  # raised below, so that the context does not hold the value
        names = sorted(
            {str(name) for given in (request.headers, self.headers) for name in given or ()}
        )
        wanted = "header values of one line, without white space at their ends"
        got = f"a value that cannot be sent, in one of {', '.join(names)}"
        raise refusal("headers", None, wanted, got=got)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """Find the settings of one request: the program's before the environment's."""
        parts = urlsplit(url)
        if parts.scheme == "http":
            _warn_of_plain_http(parts.hostname or "")
        proxy, _ = self._proxy_of(url, proxies)
        return {
            "proxies": {parts.scheme: proxy} if proxy else {},
            "stream": self.stream if stream is None else stream,
            "verify": self._certificates_of(verify)[0],
            "cert": cert or self.cert,
        }

    def route(self, url: str, timeout: Any = (None, None), address: str = "") -> Route:
        """Describe, for the text of an error, how a URL is reached.

        Args:
            url: The whole URL.
            timeout: Seconds to connect, and seconds for the answer.
            address: Where the URL was found, in words.
        """
        verify, source = self._certificates_of(None)
        certificates = f"the certificates of {source} ({verify}) were used"
        if verify is True:
            certificates = "for an authority of your own, name its file in REQUESTS_CA_BUNDLE"
        try:
            proxy, source = self._proxy_of(url, None)
            via = f"{_host_and_port(proxy)} ({source})" if proxy else ""
            return Route(_host_and_port(url), via, address, certificates, timeout)
        except ValueError:  # the request was refused for the same reason
            return Route("nothing", "", address, certificates, timeout)

    def _certificates_of(self, verify: Any) -> Tuple[Any, str]:
        """Return what a server's certificate is checked with, and where that was found."""
        verify = self.verify if verify is None else verify
        if verify in (None, True):
            for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if self.trust_env else ():
                if variable(name):
                    return variable(name), name
            return True, ""
        return verify, "the session"

    def _proxy_of(self, url: str, proxies: Any) -> Tuple[str, str]:
        """Return the proxy of a URL and where it was found; two empty texts if there is none."""
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
        keys = (f"{scheme}://{host}", scheme, f"all://{host}", "all")  # as requests prefers them
        given, source = {**(self.proxies or {}), **(proxies or {})}, "the session"
        if given.keys().isdisjoint(keys):
            if not self.trust_env or is_loopback(host):
                return "", ""
            environment: Any = get_environ_proxies(url)
            given = {name: value for name, value in environment.items() if value.strip()}
            source = _variable_of(next((key for key in keys if key in given), ""))
        proxy = select_proxy(url, given)
        return (_checked_proxy(proxy), source) if proxy else ("", "")


def _variable_of(key: str) -> str:
    """Return the name of the variable that has the environment's proxy of a scheme."""
    for name in (f"{key}_proxy", f"{key}_proxy".upper()):
        if variable(name):
            return name
    return "the system's settings"


def _host_and_port(url: str) -> str:
    """Return these two parts of a URL, and none that could be secret."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme.lower(), 1080)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_header_value(value: Any) -> bool:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return bool(re.fullmatch(r"[\t -~\x80-\xff]*", text)) and text == text.strip(" \t")


def _warn_of_plain_http(host: str) -> None:
    if host in _warned_of or is_loopback(host):
        return
    _warned_of.add(host)
    _logger.warning(
        "requests to %s are not encrypted (http://): others may read the token and all else; "
        "use https:// unless the network is your own",
        host,
    )


def _checked_proxy(proxy: Any) -> str:
    """Return the URL of a proxy, with `http://` in front if it has no scheme.

    Raises:
        ArkorUsageError: It cannot be used. The message does not show it: it may hold a password,
            and what looks like the host may be a part of one.
    """
    text = proxy.strip() if isinstance(proxy, str) else ""
    url = text if "://" in text else f"http://{text}"
    if not _is_proxy(url):
        raise refusal(
            "proxy", proxy, _PROXY_WANTED, got="a text that is no address of a proxy (not shown)"
        )
    if url.lower().startswith("socks") and importlib.util.find_spec("socks") is None:
        wanted = "an HTTP proxy, or install PySocks: pip install 'requests[socks]'"
        raise refusal("proxy", proxy, wanted, got="a SOCKS proxy")
    return url


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port, parse_url(url).host  # they raise if they cannot be read
        host = parts.hostname or ""
        host.encode("idna")
        unquote(f"{parts.username}{parts.password}").encode("latin-1")  # as requests sends it
    except (ValueError, LocationParseError):
        return False
    is_address = bool(host) and parts.scheme.lower() in _PROXY_SCHEMES
    rest = parts.path.rstrip("/") + parts.query + parts.fragment
    return is_address and not rest and not re.search(r"[\s\x00-\x1f\x7f]", url)


def _sign_in_with_url(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send the user name and the password of the URL, if it has any."""
    if "Authorization" in request.headers:
        return request
    user, password = get_auth_from_url(request.url or "")
    return HTTPBasicAuth(user, password)(request) if user or password else request
