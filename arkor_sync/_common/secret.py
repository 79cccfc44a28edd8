"""Secrets: a type that does not show itself, and rules that find secrets in other values. Pure.

The rule: a value is secret if its name says so, or its own form does. A secret is wrapped where it
comes in, because a report of an error may show the variables of all functions (Sentry does).
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, Mapping

HIDDEN = "[hidden]"

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SECRET_WORD = re.compile(
    "apikeys?|auth|authorization|bearer|cookies?|credentials?|creds|jwt|pass|passphrase|passwd"
    "|passwords?|pats?|pwd|sas|secrets?|signature|tokens?"
)
_LAST_PART = re.compile(
    r"(token|secret|pass(word|wd|phrase)|key|auth(orization)?|bearer|cookie|credential)s?$", re.I
)
_NAMES = (
    r"(?:token|secret|pass(?:word|wd|phrase)?|pwd|key|auth(?:orization)?|cookie|credential"
    r"|sig(?:nature)?|jwt|(?<![a-z])pat)s?"
)
_ASSIGNED = re.compile(
    rf"({_NAMES}[\"']?\s{{0,3}}[=:]\s{{0,3}}[\"']?(?:(?:Bearer|Basic|Token)\s)?)"
    r"(?!\.\.\.(?![^\s&\"',;)]))[^\s&\"',;]+",  # `token=...` in a message is no secret
    re.I,
)
# An option of a command line; a whole number is one of tokens.
_OPTION = re.compile(
    rf"((?<![\w-])--[\w-]{{0,40}}?{_NAMES}\s{{1,3}}[\"']?)(?!-|\d+(?:[\s\"']|$))[^\s\"']+", re.I
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.I)
_WELL_KNOWN = re.compile(
    r"\b(?:ark_live_|hf_|gh[opusr]_|github_pat_|sk-|xox[abeprs]-|glpat-|AKIA|eyJ)[\w.-]{10,}"
)
# Only the groups are kept: they are the parts of a URL without secrets.
_URL = re.compile(r"(\w{1,20}://(?:user:password@)?)(?:[^/?#\s]*@)?([^?#\s]*)\S*")
_USER = re.compile(r"//(?!user:password@)[^/\s@]{1,200}@")
# For a quick look: where `_ASSIGNED` has its sign, and what `_WELL_KNOWN` begins with.
_ASSIGNING = re.compile(r"[=:](?<![0-9].)")
_BEGINNINGS = ("_", "sk-", "xox", "glpat-", "AKIA", "eyJ")
_NAME_FIELDS = ("name", "key", "header", "field")
_SHORTEST_FORM = 12  # characters of what `_BEARER` and `_WELL_KNOWN` match
_SHORTEST = 6  # characters: a shorter text may be a word of the message


class Secret(str):
    """A text whose `repr` does not show it. In all else it is the text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{HIDDEN}'"


def is_secret_name(name: object) -> bool:
    """Whether a value with this name is secret: `HF_PAT`, `x-api-key`, `hubToken`."""
    words = [word.lower() for word in _WORD.findall(str(name))]
    return bool(_LAST_PART.search(str(name))) or any(map(_SECRET_WORD.fullmatch, words))


def hide_secrets(value: Any, secret: bool = False, by_form: bool = True) -> Any:
    """Copy a JSON value, with each secret text in it as a `Secret`.

    Args:
        value: Any value; what is no object, list or text stays as it is.
        secret: Whether its name says that it is secret.
        by_form: Whether a text that looks like a secret is one, whatever its name is.
    """
    try:
        return _hide(value, secret, _Names(), _Texts(by_form))
    except RecursionError:
        return value  # it holds itself, or is nested too deeply: it cannot be sent


class _Names(Dict[object, bool]):
    """Whether names are secret. In a list of jobs each has the same."""

    def __missing__(self, name: object) -> bool:
        self[name] = found = is_secret_name(name)
        return found


class _Texts(Dict[str, str]):
    """What becomes of texts whose names are not secret."""

    def __init__(self, by_form: bool) -> None:
        super().__init__()
        self._by_form = by_form

    def __missing__(self, text: str) -> str:
        is_secret = self._by_form and redact(text) != text
        self[text] = found = Secret(text) if is_secret else str(text)
        return found


def _hide(value: Any, secret: bool, names: _Names, texts: _Texts) -> Any:
    if isinstance(value, str):
        return Secret(value) if secret else texts[value]
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, (dict, Mapping)):  # to look for `dict` first takes a third of the time
        secret = secret or _names_a_secret(value)
        return {key: _hide(each, secret or names[key], names, texts) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        named = len(value) == 2 and isinstance(value[0], str)  # a name and its value
        secret = secret or (named and names[value[0]])
        before = [None, *value]  # of each: it may be an option, whose value follows
        return [
            _hide(each, secret or _is_secret_option(option), names, texts)
            for option, each in zip(before, value)
        ]
    return value


def _is_secret_option(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("--") and is_secret_name(value)


def redact(text: str) -> str:
    """Remove from a text what looks like a secret: `token=abc`, a bearer, the user of a URL.

    Our own messages keep `token=...` and `user:password@`, which show a form.
    """
    if not _may_hold_a_secret(text):
        return text
    if "://" in text:
        text = _URL.sub(r"\1\2", text)
    text = _USER.sub("//", text)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    text = _OPTION.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _WELL_KNOWN.sub(HIDDEN, text)


def _may_hold_a_secret(text: str) -> bool:
    """Whether one of the expressions of `redact` may match. Most texts hold nothing for them."""
    if "//" in text or "--" in text:
        return True
    if (":" in text or "=" in text) and _ASSIGNING.search(text) is not None:
        return True
    if len(text) < _SHORTEST_FORM:
        return False
    for each in _BEGINNINGS:
        if each in text:
            return True
    # `_BEARER` has white space within.
    return len(text.split(None, 1)) == 2 and _BEARER.search(text) is not None


def redact_known(text: str, value: Any) -> str:
    """Remove from a text every `Secret` that a value holds: a server may repeat the request."""
    for secret in sorted(set(_secrets_in(value)), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    return text


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, Secret):
        yield str(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _secrets_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _secrets_in(each)


def _names_a_secret(value: Mapping[Any, Any]) -> bool:
    """Whether an object is a name and its value, as in a list of headers."""
    if "value" not in value:
        return False
    names = (value.get(field) for field in _NAME_FIELDS)
    return any(isinstance(name, str) and is_secret_name(name) for name in names)
