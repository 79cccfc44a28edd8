from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from arkor_sync.emulator import Emulator, NgramEngine
from arkor_sync.emulator.engine.ngram_model import NgramModel, encode
from arkor_sync.emulator.engine.structured import instance
from support.emulator_client import Client
from support.servers import LoopbackServer, QuietHandler
from support.waiting import shortest

COLOURS = ["amber", "cobalt", "crimson", "emerald", "ivory", "magenta", "scarlet", "turquoise"]
ANIMALS = ["badger", "cormorant", "dolphin", "giraffe", "hamster", "leopard", "octopus", "walrus"]


def pair(colour: str, animal: str) -> Dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"Where does the {colour} {animal} live?"},
            {"role": "assistant", "content": f"The {colour} {animal} lives in the far north."},
        ]
    }


@pytest.fixture
def records() -> List[Dict[str, Any]]:
    return [pair(colour, animal) for colour in COLOURS for animal in ANIMALS]


@pytest.fixture
def source(tmp_path: Path, records: List[Dict[str, Any]]) -> Dict[str, str]:
    return blob(tmp_path / "data.jsonl", "\n".join(map(json.dumps, records)) + "\n")


def blob(path: Path, text: str) -> Dict[str, str]:
    path.write_text(text, encoding="utf-8")
    return {"type": "blob", "url": path.as_uri()}


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator
        assert emulator.errors == []


def train(client: Client, **config: Any) -> List[Dict[str, Any]]:
    job_id = client.submit(**config)
    return [event.json for event in client.read(job_id)[:-1]]


def of(events: List[Dict[str, Any]], kind: str, field: str = "step") -> List[Any]:
    return [event[field] for event in events if event["type"] == kind and event.get(field)]


def test_the_loss_falls_from_the_uniform_one(client: Client, source: Dict[str, str]) -> None:
    events = train(client, datasetSource=source, maxSteps=32)
    assert [event["type"] for event in events[:2]] == ["training.started", "training.log"]
    losses = of(events, "training.log", "loss")
    assert len(losses) == 32
    text = "".join(COLOURS + ANIMALS) + "Where does the ?lives in the far north.T\1\2\3\5"
    assert losses[0] == pytest.approx(math.log(len(set(text))), abs=0.3)
    assert losses[-1] < losses[0] / 3
    metrics = events[-1]["metrics"]
    assert metrics["finalLoss"] == losses[-1]
    assert metrics["totalSteps"] == 32
    assert 0 < metrics["totalTime"] < 60


def test_the_run_follows_its_config(client: Client, source: Dict[str, str], emu: Emulator) -> None:
    events = train(
        client,
        datasetSource=source,
        numTrainEpochs=2,
        batchSize=8,
        loggingSteps={"steps": 5},
        saveSteps={"ratio": 0.5},
        evalSteps={"steps": 1},
        datasetSplit={"enabled": True, "testSize": 0.25, "seed": 7},
        learningRate=1e-4,
        lrSchedulerType="linear",
        warmupSteps={"steps": 4},
    )
    assert events[0]["metadata"] == {
        "engine": "ngram",
        "totalSteps": 12,
        "trainRecords": 48,
        "evalRecords": 16,
    }
    logs = [event for event in events if event["type"] == "training.log"]
    trained = [event for event in logs if "loss" in event]
    assert [event["step"] for event in trained] == [5, 10, 12]
    assert [event["epoch"] for event in trained] == [0.8333, 1.6667, 2.0]
    assert [event["learningRate"] for event in trained] == [1e-4, pytest.approx(3.75e-5), 1.25e-5]
    assert all(event["samplesPerSecond"] > 0 for event in trained)
    evaluated = [event for event in logs if "loss" not in event]
    assert [event["step"] for event in evaluated] == list(range(1, 13))
    assert evaluated[-1]["evalLoss"] < evaluated[0]["evalLoss"] / 2
    assert of(events, "checkpoint.saved") == [6, 12]


def test_without_a_split_there_is_no_eval_loss(client: Client, source: Dict[str, str]) -> None:
    events = train(client, datasetSource=source, maxSteps=4, evalSteps={"steps": 1})
    assert of(events, "training.log", "evalLoss") == []
    assert of(events, "checkpoint.saved") == []


def test_a_higher_learning_rate_learns_faster(client: Client, source: Dict[str, str]) -> None:
    def final(rate: float) -> float:
        events = train(client, datasetSource=source, maxSteps=16, learningRate=rate)
        return float(events[-1]["metrics"]["finalLoss"])

    assert final(2e-4) < final(1e-6)
    first, *_, last = of(
        train(client, datasetSource=source, maxSteps=16, learningRate=0), "training.log", "loss"
    )
    assert first == last


def test_the_same_seed_gives_the_same_run(client: Client, source: Dict[str, str]) -> None:
    def run(seed: int) -> Any:
        events = train(client, datasetSource=source, maxSteps=9, seed=seed)
        job = events[0]["jobId"]
        adapter = {"kind": "final", "jobId": job}
        said = client.chat("Where?", adapter=adapter, temperature=1.0, seed=3).json()
        return of(events, "training.log", "loss"), said["choices"][0]["message"]["content"]

    assert run(1) == run(1)
    assert run(1)[0] != run(2)[0]


def test_later_checkpoints_answer_better(
    client: Client, source: Dict[str, str], records: List[Dict[str, Any]], emu: Emulator
) -> None:
    events = train(client, datasetSource=source, batchSize=2, saveSteps={"steps": 2}, maxSteps=64)
    job_id = events[0]["jobId"]

    def right(adapter: Dict[str, Any]) -> int:
        correct = 0
        for record in records[::7]:
            question, wanted = record["messages"]
            body = client.chat(
                question["content"], adapter={"jobId": job_id, **adapter}, temperature=0
            ).json()
            correct += body["choices"][0]["message"]["content"] == wanted["content"]
        return correct

    first = right({"kind": "checkpoint", "step": 2})
    last = right({"kind": "checkpoint", "step": 64})
    assert first <= 2
    assert last >= 9
    assert right({"kind": "final"}) == last


def test_checkpoints_are_files_that_go_away_with_the_emulator(
    source: Dict[str, str], tmp_path: Path
) -> None:
    with Emulator() as emu, Client(emu) as client:
        events = train(client, datasetSource=source, maxSteps=2, saveSteps={"steps": 1})
        paths = [
            Path(a["path"]) for found in of(events, "checkpoint.saved", "artifacts") for a in found
        ]
        final = Path(events[-1]["artifacts"][0]["path"])
        assert len({path.stat().st_size for path in paths}) == 2
        assert sorted(final.parent.iterdir()) == sorted([*paths, final])
        assert events[-1]["artifacts"][0]["type"] == "local-adapter"
    assert not final.exists()
    with Emulator(state_dir=tmp_path / "kept") as emu, Client(emu) as client:
        events = train(client, datasetSource=source, maxSteps=2)
    assert (tmp_path / "kept" / events[0]["jobId"] / "final.ngram").exists()


def test_responses_only_and_the_length_limit(client: Client, source: Dict[str, str]) -> None:
    whole = train(client, datasetSource=source, maxSteps=16)
    answers = train(client, datasetSource=source, maxSteps=16, trainOnResponsesOnly=True)
    assert whole[-1]["metrics"] != answers[-1]["metrics"]
    failed = train(client, datasetSource=source, trainOnResponsesOnly=True, maxLength=10)
    assert failed[-1]["error"].startswith("no record has a text to learn")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the data set is empty"),
        ("\n \n", "the data set is empty"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n{nope\n', "line 2 is not valid JSON"),
        ('\n{"text": "x"}\n', "line 2 has no list of messages"),
        ('{"messages": []}', "line 1 has no list of messages"),
        ('{"messages": [{"content": "x"}]}', "line 1 has a message without a role"),
        ('{"messages": [{"role": "user"}]}', "line 1 has a message without content"),
    ],
)
def test_a_bad_data_set_fails_the_run(
    client: Client, tmp_path: Path, emu: Emulator, text: str, error: str
) -> None:
    events = train(client, datasetSource=blob(tmp_path / "bad.jsonl", text))
    assert [event["type"] for event in events] == ["training.failed"]
    assert error in events[0]["error"]
    assert events[0]["error"].endswith(f": {tmp_path / 'bad.jsonl'}")
    assert events[0]["step"] is None
    assert emu.jobs[events[0]["jobId"]].status == "failed"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("file:///no/such/file.jsonl", "read: No such file or directory: /no/such/file.jsonl"),
        ("file://localhost/no/such%20file", "read: No such file or directory: /no/such file"),
        ("http://127.0.0.1:9/x?key=hidden", "refused: http://127.0.0.1:9/x"),
        ("https://example.com/data.jsonl", "works offline"),
        ("http://example.com/data.jsonl", "works offline"),
        ("http://127.0.0.1:9/data.jsonl", "could not be read"),
        ("file://elsewhere/data.jsonl", "works offline"),
        ("http://[/data", "could not be read"),
    ],
)
def test_a_data_set_out_of_reach_fails_the_run(client: Client, url: str, error: str) -> None:
    events = train(client, datasetSource={"type": "blob", "url": url, "token": "hidden"})
    assert error in events[-1]["error"]
    assert "hidden" not in events[-1]["error"]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"batchSize": 0}, "batchSize"),
        ({"numTrainEpochs": 0}, "no step to train"),
        ({"datasetSplit": {"enabled": True, "testSize": 1}}, "leaves no record"),
    ],
)
def test_a_config_that_makes_no_run_fails_it(
    client: Client, config: Dict[str, Any], error: str
) -> None:
    assert error in train(client, **config)[-1]["error"]


class DataHandler(QuietHandler):
    def do_GET(self) -> None:  # noqa: N802
        seen = self.headers.get("Authorization")
        if self.path == "/moved":
            self.answer(302, Location="/data.jsonl")
        else:
            body = json.dumps(pair("amber", "badger")).encode()
            self.answer(200 if seen == "Bearer key" else 403, body)


def test_a_data_set_over_loopback_http(client: Client) -> None:
    with LoopbackServer(DataHandler) as server:
        blob = {"type": "blob", "url": f"{server.url}/data.jsonl", "token": "key"}
        assert train(client, datasetSource=blob)[-1]["type"] == "training.completed"
        events = train(client, datasetSource={**blob, "token": "other"})
        assert events[-1]["error"] == f"the data set could not be read: HTTP 403: {blob['url']}"
        events = train(client, datasetSource={**blob, "url": f"{server.url}/moved"})
        assert events[-1]["error"] == (
            f"the data set could not be read: HTTP 302: {server.url}/moved"
        )


def test_a_checkpoint_that_cannot_be_written_fails_the_run_and_is_named() -> None:
    with Emulator(NgramEngine(manual=True)) as emu:
        job_id = emu.create_job(config={"maxSteps": 2})
        job = emu.jobs[job_id]
        job.directory.write_text("")
        emu.wait_for(lambda: not emu.step(job_id))
        path = job.directory / "final.ngram"
        assert job.error == f"{path} cannot be written: File exists"
        assert emu.errors == []


def test_a_port_that_is_taken_is_named() -> None:
    with Emulator() as emu:
        port = int(emu.url.rpartition(":")[2])
        with pytest.raises(OSError, match=rf"port {port} of 127\.0\.0\.1: Address already in use"):
            Emulator(port=port).start()


def test_a_data_set_over_loopback_http_is_not_asked_for_through_a_proxy(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with LoopbackServer(DataHandler) as server:
        blob = {"type": "blob", "url": f"{server.url}/data.jsonl", "token": "key"}
        assert train(client, datasetSource=blob)[-1]["type"] == "training.completed"


def test_a_hub_data_set_is_the_bundled_sample_and_the_job_says_so_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    name = "typo/\x1b[2J\nfoo" + "o" * 200
    events = train(client, numTrainEpochs=3, datasetSource={"type": "huggingface", "name": name})
    note = events[0]["metadata"]["note"]
    assert note.startswith(r"the local Arkor does not download 'typo/\x1b[2J\nfooo")
    assert "it trains on its own sample of 24 records instead" in note
    assert "to train on your data, give a JSON Lines file" in note
    assert note.count("o" * 50) == 1
    assert len(note) < 300
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("arkor_sync.emulator", "WARNING")
    assert record.getMessage() == f"job 'run': {note}"
    assert [event for event in events[1:] if "note" in str(event)] == []


@pytest.mark.parametrize("own", ["the sample by its name", "a file"])
def test_a_job_that_gets_its_data_set_says_nothing(
    client: Client, source: Dict[str, str], caplog: pytest.LogCaptureFixture, own: str
) -> None:
    if own != "a file":
        source = {"type": "huggingface", "name": "emulator/sample"}
    assert "note" not in train(client, datasetSource=source)[0]["metadata"]
    assert caplog.records == []


def test_the_bundled_sample_is_learnt(client: Client) -> None:
    events = train(client, numTrainEpochs=3)
    assert events[0]["metadata"]["trainRecords"] == 24
    adapter = {"kind": "final", "jobId": events[0]["jobId"]}
    body = client.chat("Could you add a dark mode?", adapter=adapter, temperature=0).json()
    assert "feature: Dark mode" in body["choices"][0]["message"]["content"]


def test_loose_step_fields_are_made_the_best_of(source: Dict[str, str]) -> None:
    with Emulator(strict_steps=False) as emu, Client(emu) as client:
        config = {"saveSteps": 2, "loggingSteps": {}, "warmupSteps": {"steps": "x"}}
        events = train(client, datasetSource=source, maxSteps=4, **config)
        assert of(events, "checkpoint.saved") == [2, 4]
        assert len(of(events, "training.log")) == 4
        assert emu.errors == []


def test_a_run_can_be_stepped_by_hand(source: Dict[str, str]) -> None:
    with Emulator(NgramEngine(manual=True, step_delay=3600)) as emu, Client(emu) as client:
        job_id = client.submit(datasetSource=source, maxSteps=3)
        assert emu.jobs[job_id].status == "queued"
        assert emu.step(job_id, 2) == 2
        assert emu.jobs[job_id].step == 1
        assert emu.step(job_id, 9) == 3


def test_stop_ends_a_run_at_once(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(pair(c, a)) for c in COLOURS for a in ANIMALS)
    source = blob(tmp_path / "d", lines)

    def seconds_to_stop() -> float:
        emu = Emulator().start()
        with Client(emu) as client:
            job_id = client.submit(datasetSource=source, maxSteps=100_000)
            emu.wait_for(lambda: emu.jobs[job_id].step)
        before = time.monotonic()
        emu.stop()
        return time.monotonic() - before

    assert shortest(seconds_to_stop, 1.0) < 1.0


def test_the_model_is_a_distribution() -> None:
    texts = ["the cat sat", "the dog sat", "a cat ran"]
    examples = [
        encode([{"role": "user", "content": f"tell {t}"}, {"role": "assistant", "content": t}])
        for t in texts
    ]
    model = NgramModel({c for e in examples for c in e.text})
    for example in examples:
        model.learn(example, 0.7)
    span = examples[0].spans[-1]
    text = examples[0].text[: span.start + 4]
    odds = model._distribution(text, span.start, model._ranked(span.words))
    assert sum(odds.values()) == pytest.approx(1.0)
    assert all(p > 0 for p in odds.values())
    copy = NgramModel.restore(model.dump())
    assert copy.loss(examples[0]) == model.loss(examples[0])


def test_sampling_follows_temperature_and_top_p() -> None:
    examples = [encode([{"role": "assistant", "content": c * 3}]) for c in "aaab"]
    model = NgramModel("ab")
    for example in examples:
        model.learn(example, 1.0)

    def first(temperature: float, top_p: float) -> set:
        return {
            next(
                model.generate(
                    [], temperature=temperature, top_p=top_p, limit=1, rng=random.Random(seed)
                )
            )
            for seed in range(60)
        }

    assert first(0, 1.0) == {"a"}
    assert first(2.0, 0.1) == {"a"}
    assert first(0.001, 1.0) == {"a"}
    assert first(2.0, 1.0) >= {"a", "b"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, {"text": "t"}),
        ({"type": "string"}, "t"),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 5}, 5),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"type": ["null", "string"]}, None),
        ({"type": "integer", "minimum": 3}, 3),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, 0),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"const": 1}}}, {"a": 1}),
        ({"properties": {"a": {"$ref": "#/none"}}}, {"a": "t"}),
    ],
)
def test_a_value_that_fits_a_schema(schema: Any, value: Any) -> None:
    assert instance(schema, lambda: "t") == value


@pytest.mark.slow
def test_a_hundred_steps_take_seconds_at_most(client: Client, tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"{rng.choice(COLOURS)}{n}" for n in range(200)]
    lines = []
    for _ in range(300):
        question, answer = (" ".join(rng.choices(words, k=n)) for n in (12, 24))
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": messages}))
    config = {"datasetSource": blob(tmp_path / "d", "\n".join(lines)), "saveSteps": {"steps": 25}}
    before = time.process_time()  # what other programs take of the machine does not count
    events = train(client, maxSteps=100, batchSize=4, **config)
    assert events[-1]["type"] == "training.completed"
    assert time.process_time() - before < 20
