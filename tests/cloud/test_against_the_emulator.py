"""The client and the emulator were written apart, from the protocol alone: do they agree?"""

from __future__ import annotations

from typing import Iterator

import pytest

from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.cloud.client_version import latest_deprecation
from arkor_sync.cloud.credentials import TokenCredentials, read_credentials
from arkor_sync.cloud.models import (
    SUPPORTED_MODELS,
    HuggingFaceDataset,
    LoraConfig,
    build_job_config,
)
from arkor_sync.cloud.project import read_project_state
from arkor_sync.cloud.sse import FrameParser
from arkor_sync.emulator import Emulator
from arkor_sync.errors import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    UpgradeRequiredError,
)

HELLO = [{"role": "user", "content": "Hello"}]
CONFIG = build_job_config(
    model=SUPPORTED_MODELS[0],
    dataset=HuggingFaceDataset("owner/repo"),
    lora=LoraConfig(r=8, alpha=8),
    max_steps=4,
    save_steps=2,
    logging_steps=1,
)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def test_from_nothing_to_a_trained_checkpoint(emulator: Emulator) -> None:
    client = CloudApiClient(emulator.url)
    job = client.jobs.create("support-bot", CONFIG)
    names = []
    with client.transport() as transport:
        stream = client.jobs.events(job.id, transport=transport, timeout=(5.0, 10.0))
        parser = FrameParser()
        while "end" not in names:
            names += [frame.event for frame in parser.feed(stream.read())]
        stream.close()
    assert names[0] == "training.started"
    assert "checkpoint.saved" in names
    done = client.jobs.get(job.id)
    assert done.status == "completed"
    assert [each.id for each in client.jobs.list()] == [job.id]
    for adapter in (
        {"kind": "final", "jobId": job.id},
        {"kind": "checkpoint", "jobId": job.id, "step": 2},
    ):
        for stream_it in (True, False):
            answer = client.chat(HELLO, adapter=adapter, stream=stream_it, max_tokens=20)
            assert answer.text()
            assert answer.finish_reason


def test_the_identity_and_project_are_known_to_the_cloud(emulator: Emulator) -> None:
    client = CloudApiClient(emulator.url)
    assert client.jobs.list() == []
    state, credentials = read_project_state(), read_credentials()
    assert state is not None
    assert credentials is not None
    assert [org.slug for org in client.me().orgs] == [state.org_slug]
    projects = client.projects.list(state.org_slug)
    assert [(each.slug, each.id) for each in projects] == [(state.project_slug, state.project_id)]
    assert CloudApiClient(emulator.url).jobs.list() == []


def test_constrained_answers(emulator: Emulator) -> None:
    client = CloudApiClient(emulator.url)
    answer = client.chat(
        HELLO, base_model=SUPPORTED_MODELS[0], structured_outputs={"choice": ["yes", "no"]}
    )
    assert answer.content() in ("yes", "no")
    answer = client.chat(
        HELLO, base_model=SUPPORTED_MODELS[0], response_format={"type": "json_object"}, stream=False
    )
    assert isinstance(answer.parsed(), dict)


def test_a_tool_that_must_be_called(emulator: Emulator) -> None:
    tools = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}]
    for stream in (True, False):
        answer = CloudApiClient(emulator.url).chat(
            HELLO,
            base_model=SUPPORTED_MODELS[0],
            tools=tools,
            tool_choice="required",
            stream=stream,
        )
        (call,) = answer.tool_calls()
        assert call["function"]["name"] == "lookup"
        assert answer.finish_reason == "tool_calls"


def test_a_tool_choice_that_is_not_configured(emulator: Emulator) -> None:
    tools = [{"type": "function", "function": {"name": "lookup"}}]
    with pytest.raises(BadRequestError) as caught:
        CloudApiClient(emulator.url).chat(HELLO, base_model=SUPPORTED_MODELS[0], tools=tools)
    assert caught.value.code == "tool_calling_not_configured"


def test_refusals(emulator: Emulator) -> None:
    client = CloudApiClient(emulator.url)
    with pytest.raises(NotFoundError):
        client.jobs.get("no/such job")
    with pytest.raises(BadRequestError):
        client.jobs.create("n", {**CONFIG, "evalSteps": 25})
    with pytest.raises(AuthenticationError):
        CloudApiClient(emulator.url, TokenCredentials("unknown")).me()
    with pytest.raises(UpgradeRequiredError, match="X-Arkor-Client"):
        CloudApiClient(emulator.url, TokenCredentials("x"), client_header="other").me()
    emulator.settings.supported_range = ">=1.0.0"
    with pytest.raises(UpgradeRequiredError, match=r"0\.0\.3-alpha\.1.*>=1\.0\.0.*install a newer"):
        client.me()


def test_a_deprecation_notice(emulator: Emulator) -> None:
    emulator.settings.deprecation = "please upgrade"
    emulator.settings.sunset = "Wed, 01 Jul 2026 00:00:00 GMT"
    CloudApiClient(emulator.url).me()
    notice = latest_deprecation()
    assert notice is not None
    assert (notice.message, notice.sunset) == ("please upgrade", "Wed, 01 Jul 2026 00:00:00 GMT")
