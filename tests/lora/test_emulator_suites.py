"""The suites of the emulator with the engine exchanged: what they say of the protocol holds.

Left out are tests of what the toy answers, and of what LoRA refuses by name: `test_lora_jobs.py`
and `test_chat.py` say what is so here. Tests that make an engine of their own are not of this one.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, Callable, Dict, Iterator

import pytest
from jobs import NO_PING, engine_of

from arkor_sync.emulator import Emulator, LoraEngine
from support import emulator_client
from support.emulator_client import MODEL, Client
from support.tiny_model import make_tiny_model

pytestmark = pytest.mark.slow

THREE_STEPS = {"maxSteps": 3, "saveSteps": 2, "loggingSteps": 1}
SUITES: Dict[str, Dict[str, int]] = {
    "test_emulator_chat": THREE_STEPS,
    "test_emulator_deployed": THREE_STEPS,
    "test_emulator_stream": THREE_STEPS,
    "test_emulator_faults": {"maxSteps": 1},
}
"""The suites, and what each expects of the jobs of the emulator that it is given."""

OF_AN_ENGINE = {
    "test_a_whole_answer_has_the_shape_of_a_chat_completion",
    "test_a_streamed_answer_comes_in_chunks_and_ends_with_done",
    "test_each_target_answers",
    "test_a_streamed_answer",
    "test_a_request_that_the_cloud_takes_is_taken",
    "test_a_conversation_with_tools_in_it_is_taken",
    "test_automatic_tools_have_to_be_configured",
    "test_tools_have_to_be_configured",
}


def of_the_protocol(suite: str) -> Dict[str, Callable[..., None]]:
    """Return the tests of a suite that take any emulator."""
    found = {}
    for name, test in vars(import_module(f"emulator.{suite}")).items():
        if name.startswith("test_") and name not in OF_AN_ENGINE:
            code = inspect.getsource(test)
            if "emu" in inspect.signature(test).parameters and "Engine(" not in code:
                found[name] = test
    return found


for suite in SUITES:
    globals().update(of_the_protocol(suite))


class OfTheSuite(Emulator):
    """Makes the jobs that a suite expects."""

    steps = THREE_STEPS

    def create_job(self, *engine: Any, **more: Any) -> str:
        if not engine:
            more["config"] = {**emulator_client.CONFIG, **self.steps, **more.get("config", {})}
        return super().create_job(*engine, **more)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> None:
    """Let the child's reader be: where a test ends in the middle of a job, the child is another."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoraEngine]:
    engine = engine_of(make_tiny_model(tmp_path_factory.mktemp("tiny")))
    with pytest.MonkeyPatch.context() as patch:
        # Its child outlives the emulators: another one takes seconds to start.
        patch.setattr(engine, "close", lambda: None)
        with Emulator(engine) as emulator, Client(emulator) as client:
            assert client.chat(baseModel=MODEL, maxTokens=1, stream=False).status_code == 200
        yield engine
    engine.close()


@pytest.fixture
def emu(
    engine: LoraEngine, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    source = {"type": "huggingface", "name": "emulator/sample"}
    monkeypatch.setitem(emulator_client.CONFIG, "datasetSource", source)
    with OfTheSuite(engine, **NO_PING) as emulator:
        emulator.steps = SUITES[request.function.__module__.rpartition(".")[2]]
        yield emulator
        assert emulator.errors == []


@pytest.fixture
def client(emu: Emulator) -> Iterator[Client]:
    with Client(emu) as bare:
        yield bare
