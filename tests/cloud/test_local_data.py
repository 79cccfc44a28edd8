"""Data of this machine: an Arkor on this machine gets it, a cloud elsewhere is not asked."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from arkor_sync.cloud import local_data
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.credentials import AnonymousCredentials, TokenCredentials, write_credentials
from arkor_sync.cloud.local_data import sendable
from arkor_sync.cloud.models import SUPPORTED_MODELS, BlobDataset, build_job_config
from arkor_sync.cloud.project import ProjectState
from arkor_sync.errors import ArkorUsageError, UnprocessableEntityError
from support.forking import fork
from support.scripted_cloud import JOB, ScriptedCloud
from support.waiting import PATIENCE

MODEL = SUPPORTED_MODELS[0]
RECORDS = [{"messages": [{"role": "user", "content": "Grüße"}]}]
ELSEWHERE = "https://api.example.com"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, for one test, which has written no records yet."""
    monkeypatch.setattr(local_data, "_files", local_data._Files())
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def client_of(base_url: Optional[str], credentials: Any = None) -> CloudApiClient:
    scope = ProjectState("o", "p", "1")
    return CloudApiClient(base_url, credentials or TokenCredentials("t"), scope=scope)


def submit(client: CloudApiClient, dataset: Any) -> Any:
    return client.jobs.create("n", build_job_config(model=MODEL, dataset=dataset))


def sent_file(cloud: ScriptedCloud) -> Path:
    source = cloud.received[-1].json["config"]["datasetSource"]
    assert source["type"] == "blob"
    parts = urlsplit(source["url"])
    assert parts.scheme == "file"
    return Path(url2pathname(parts.path))


LOCAL_URLS = [
    "file:///data.jsonl",
    "FILE:/data.jsonl",
    "file://server/share/data.jsonl",
    " file:///data.jsonl",
    "http://localhost/data.jsonl",
    "https://127.0.0.1:8000/data.jsonl?sig=secret",
    "http://user:secret@127.1/data.jsonl",
    "http://[::1]/data.jsonl",
    "http://[::ffff:127.0.0.1]/data.jsonl",
    "http://0.0.0.0/data.jsonl",
    "http://data.localhost./data.jsonl",
]


@pytest.mark.parametrize("url", LOCAL_URLS)
def test_a_url_of_this_machine_is_not_sent_to_a_cloud_elsewhere(url: str) -> None:
    """That would need a connection, which no test may make to another machine."""
    client = client_of(ELSEWHERE)
    wire = {"type": "blob", "url": url, "token": "secret"}
    for attempt in (
        lambda: submit(client, wire),
        lambda: client.jobs.create("n", {"model": MODEL, "datasetSource": {"url": url}}),
        lambda: submit(client, BlobDataset(url.strip(), token="secret")),
    ):
        with pytest.raises(ArkorUsageError) as caught:
            attempt()
        said = str(caught.value)
        assert said.startswith("dataset: got ")
        assert f"for a cloud that cannot read it ({ELSEWHERE}); give BlobDataset(url, tok" in said
        assert "secret" not in said


def test_a_file_and_a_list_are_not_sent_to_a_cloud_elsewhere(work: Path, temporary: Path) -> None:
    (work / "data.jsonl").write_text(json.dumps(RECORDS[0]))
    for dataset, what in (
        ("data.jsonl", f"file://{work}/data.jsonl on this machine"),
        (RECORDS, "a list of records"),
    ):
        with pytest.raises(ArkorUsageError) as caught:
            submit(client_of(ELSEWHERE), dataset)
        assert str(caught.value) == (
            f"dataset: got {what}, for a cloud that cannot read it ({ELSEWHERE}); give "
            "BlobDataset(url, token=...) or HuggingFaceDataset('owner/repo'): the cloud takes a "
            "URL or a name only, so put the file behind a URL that the cloud can read"
        )
    assert list(temporary.iterdir()) == []


def test_a_cloud_on_this_machine_gets_both(cloud: ScriptedCloud, client: CloudApiClient) -> None:
    cloud.reply({"job": JOB})
    for url in LOCAL_URLS:
        source = {"type": "blob", "url": url, "token": "t"}
        submit(client, source)
        assert cloud.received[-1].json["config"]["datasetSource"] == source


@pytest.mark.parametrize(
    "source",
    [
        {"type": "blob", "url": "https://example.com/data.jsonl"},
        {"type": "blob", "url": "s3://bucket/data.jsonl"},
        {"type": "blob", "url": "http://["},
        {"type": "blob", "url": 5},
        {"type": "huggingface", "name": "localhost/file"},
        "file:///data.jsonl",
        None,
    ],
)
def test_what_is_not_of_this_machine_is_sent_as_it_is(source: Any) -> None:
    def find_address() -> str:
        raise AssertionError("the address makes no difference")

    config = {"model": MODEL, "datasetSource": source}
    assert sendable(config, find_address) is config


def refusal_of(client: CloudApiClient) -> str:
    with pytest.raises(ArkorUsageError) as caught:
        submit(client, BlobDataset("file:///data.jsonl"))
    return str(caught.value)


def test_the_address_is_found_as_for_a_request_but_nobody_signs_in(
    home: Path, work: Path, cloud: ScriptedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "(https://api.arkor.ai)" in refusal_of(CloudApiClient())
    assert list(home.iterdir()) == list(work.iterdir()) == []
    asked = []

    def credentials() -> TokenCredentials:
        asked.append(1)
        return TokenCredentials("t", "https://of-the-function.example.com")

    client = CloudApiClient(None, credentials)
    assert "(https://of-the-function.example.com)" in refusal_of(client)
    assert len(asked) == 1
    write_credentials(AnonymousCredentials("t", "a", "https://of-the-file.example.com", "o"))
    assert "(https://of-the-file.example.com)" in refusal_of(CloudApiClient())
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", cloud.url)
    cloud.reply({"job": JOB})
    submit(client_of(None), BlobDataset("file:///data.jsonl"))
    assert CloudApiClient(None, credentials)._session.find_address() == cloud.url
    assert len(asked) == 1, "the variable has it already"
    assert [each.path for each in cloud.received] == ["/v1/jobs"]


# The file of a list.


def test_a_list_is_sent_as_a_file_that_only_this_user_can_read(
    cloud: ScriptedCloud, client: CloudApiClient, temporary: Path
) -> None:
    cloud.reply({"job": JOB})
    old = os.umask(0)
    try:
        submit(client, RECORDS)
    finally:
        os.umask(old)
    path = sent_file(cloud)
    assert path.parent == temporary
    assert path.match("arkor-dataset-*.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [json.loads(line) for line in path.read_text().splitlines()] == RECORDS
    submit(client, [*RECORDS, *RECORDS])
    assert sent_file(cloud) != path, "the first job may still read it"
    assert path.exists()


def test_equal_records_are_written_once(
    cloud: ScriptedCloud, client: CloudApiClient, temporary: Path
) -> None:
    for _ in range(3):
        cloud.reply({"error": "not yet"}, status=422)
    cloud.reply({"job": JOB})
    for _ in range(3):
        with pytest.raises(UnprocessableEntityError):
            submit(client, RECORDS)
    (path,) = temporary.iterdir()
    path.unlink()  # as a program may that tidies up the folder
    submit(client, RECORDS)
    assert list(temporary.iterdir()) == [sent_file(cloud)]
    assert [json.loads(line) for line in sent_file(cloud).read_text().splitlines()] == RECORDS


def test_records_that_cannot_be_written_are_not_sent(
    cloud: ScriptedCloud, client: CloudApiClient, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "missing"))
    with pytest.raises(ArkorUsageError, match=r"^dataset: got records that cannot be written to a"):
        submit(client, RECORDS)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    (temporary / "new.jsonl").touch()
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(tempfile, "mkstemp", lambda *_: (full, str(temporary / "new.jsonl")))
    with pytest.raises(ArkorUsageError, match=r"No space left on device; give .* or set TMPDIR"):
        submit(client, RECORDS)
    assert cloud.received == []
    assert list(temporary.iterdir()) == []


# Python 3.12 and newer warn of a fork while a thread of a request is ending.
STRICT = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
PROGRAM = """
import os, sys
from arkor_sync import CloudApiClient, ProjectState, TokenCredentials, create_trainer

url, folder = sys.argv[1:]
create_trainer(
    name="n",
    model="unsloth/gemma-4-E4B-it",
    dataset=[{"messages": [{"role": "user", "content": "hi"}]}],
    client=CloudApiClient(url, TokenCredentials("t"), scope=ProjectState("o", "p", "1")),
).start()
pid = os.fork()
if not pid:
    sys.exit()  # not os._exit: what runs at the exit runs here too
os.waitpid(pid, 0)
assert len(os.listdir(folder)) == 1
"""


def test_the_file_is_removed_when_the_program_ends_but_not_by_its_child(
    cloud: ScriptedCloud, temporary: Path
) -> None:
    cloud.reply({"job": JOB})
    done = subprocess.run(
        [sys.executable, *STRICT, "-c", PROGRAM, cloud.url, str(temporary)],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sent_file(cloud).parent == temporary
    assert list(temporary.iterdir()) == []


def test_a_forked_child_writes_files_of_its_own(
    cloud: ScriptedCloud, client: CloudApiClient, temporary: Path
) -> None:
    cloud.reply({"job": JOB})
    submit(client, RECORDS)
    first = sent_file(cloud)
    wait = fork(lambda: submit(client, RECORDS))
    assert wait() == 0
    assert sent_file(cloud) != first
    assert first.exists()
