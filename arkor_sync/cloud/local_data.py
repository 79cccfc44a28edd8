"""Data of this machine, when a job is submitted: refused, or sent as a URL. Any thread.

A cloud on another machine cannot read a file of this one, nor a URL of the loopback: it would
accept the job, which would fail later. An Arkor on this machine can. For it, records of a list are
written to a file first.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional
from urllib.parse import urlsplit

from arkor_sync._common.arguments import refusal
from arkor_sync._common.paths import reason_of
from arkor_sync._common.process import register_hooks
from arkor_sync.cloud.loopback import is_loopback
from arkor_sync.cloud.training_data import Records
from arkor_sync.cloud.urls import check_base_url, without_query


def sendable(config: Mapping[str, Any], find_address: Callable[[], str]) -> Mapping[str, Any]:
    """Return a job's configuration as it can be sent.

    Args:
        config: The configuration. `datasetSource` may hold `Records`.
        find_address: Returns the address of the cloud, and signs nobody in. It is called if the
            data is of this machine.

    Raises:
        ArkorUsageError: The cloud is on another machine, or the records cannot be written.
    """
    source: Any = config.get("datasetSource")
    what = _name_of_local_data(source)
    if not what:
        return config
    base_url = check_base_url(find_address())
    if not is_loopback(urlsplit(base_url).hostname or ""):
        got = f"{what}, for a cloud that cannot read it ({base_url})"
        wanted = (
            "BlobDataset(url, token=...) or HuggingFaceDataset('owner/repo'): the cloud takes a "
            "URL or a name only, so put the file behind a URL that the cloud can read"
        )
        raise refusal("dataset", source, wanted, got=got)
    records = source.get("records")
    if not isinstance(records, Records):
        return config
    return {**config, "datasetSource": {"type": "blob", "url": _files.write(records).as_uri()}}


def _name_of_local_data(source: Any) -> str:
    """Describe a `datasetSource` of this machine; return nothing for any other."""
    if not isinstance(source, Mapping):
        return ""
    if isinstance(source.get("records"), Records):
        return "a list of records"
    url: Any = source.get("url")
    try:
        parts = urlsplit(url.strip())
        is_local = parts.scheme == "file" or is_loopback(parts.hostname or "")
    except (ValueError, AttributeError):
        return ""  # no URL: the cloud says what is wrong with it
    return f"{without_query(url)[:200]} on this machine" if is_local else ""


class _Files:
    """Files with records. They are removed when this process ends, but not by a forked child."""

    def __init__(self) -> None:
        self._paths: Dict[str, bytes] = {}  # with a digest of the records, once they are in it

    def write(self, records: Records) -> Path:
        """Write records to a file that only this user can read (0600); equal ones only once."""
        sums = sha256()
        for line in records.lines:
            sums.update(f"{line}\n".encode("ascii"))
        digest = sums.digest()
        for name, written in list(self._paths.items()):
            if written == digest and os.path.exists(name):
                return Path(name)
        register_hooks(self)
        try:
            descriptor, name = tempfile.mkstemp(".jsonl", "arkor-dataset-")
            self._paths[name] = b""
            try:
                with open(descriptor, "w", encoding="ascii") as file:
                    file.writelines(f"{line}\n" for line in records.lines)
            except BaseException:
                os.unlink(name)
                raise
            self._paths[name] = digest
        except OSError as error:
            got = f"records that cannot be written to a temporary file: {reason_of(error)}"
            wanted = "the path of a JSONL file, or set TMPDIR to a folder with space"
            raise refusal("dataset", records, wanted, got=got) from error
        return Path(name)

    def after_fork(self) -> None:
        """Leave the files to the parent."""
        self._paths = {}

    def at_exit(self, timeout: float) -> Optional[str]:
        """Remove the files."""
        del timeout
        for path in list(self._paths):
            with suppress(OSError):
                os.unlink(path)
        return None


_files = _Files()
