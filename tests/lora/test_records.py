"""Records, as they are read, and which of their tokens are learnt."""

from __future__ import annotations

import gzip
import http.server
import json
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from transformers import AutoTokenizer

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.dataset import split
from arkor_sync.emulator.engine.lora.records import (
    AT_ONCE,
    Template,
    TokenizedRecords,
    read,
    tokenized,
)
from support.tiny_model import CHATML, make_tiny_model

USER = {"role": "user", "content": "Where is it?"}
ANSWER = {"role": "assistant", "content": "On its way."}
SYSTEM = {"role": "system", "content": "Be short."}
LINE = json.dumps({"messages": [USER, ANSWER]}).encode() + b"\n"
# As some models do, it writes what was thought in the last answer only.
FORGETFUL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '(thought)' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
RAISES = "{{ raise_exception('no system message, please') if messages[0]['role'] == 'system' }}x"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(make_tiny_model(tmp_path_factory.mktemp("model")))


def blob(path: Path, **more: Any) -> Dict[str, Any]:
    return {"datasetSource": {"type": "blob", "url": path.as_uri()}, **more}


def at(url: str, token: Optional[str] = None) -> Dict[str, Any]:
    return {"datasetSource": {"type": "blob", "url": url, "token": token}}


def template_of(tokenizer: Any, text: Optional[str] = CHATML, **options: Any) -> Template:
    changed = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer, chat_template=text, pad_token="<|pad|>"
    )
    return Template(changed, options.get("responses_only", True), options.get("max_length", 999))


def made(
    tokenizer: Any, directory: Path, conversations: List[Any], text: str = CHATML, **options: Any
) -> TokenizedRecords:
    named = [(f"line {n}", messages) for n, messages in enumerate(conversations, start=1)]
    template = template_of(tokenizer, text, **options)
    return tokenized(named, template, directory, lambda: False)


def learnt(tokenizer: Any, record: Any) -> List[str]:
    """The text of each run of tokens that are learnt."""
    runs: List[List[int]] = [[]]
    for token, label in zip(*record):
        if label == token:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


def test_what_is_learnt_is_what_the_assistant_says_and_that_it_ends(
    tokenizer: Any, tmp_path: Path
) -> None:
    second = {"role": "assistant", "content": "Grüße aus 東京 😀"}
    data = made(tokenizer, tmp_path, [[SYSTEM, USER, ANSWER, USER, second], [USER, ANSWER]])
    assert learnt(tokenizer, data[0]) == [
        "On its way.<|im_end|>\n",
        "Grüße aus 東京 😀<|im_end|>\n",
    ]
    assert learnt(tokenizer, data[1]) == ["On its way.<|im_end|>\n"]
    whole = tokenizer.apply_chat_template([USER, ANSWER], tokenize=False)
    assert tokenizer.decode(data[1][0]) == whole
    assert len(data) == 2
    assert data.tokens == len(data[0][0]) + len(data[1][0])
    assert data.length(1) == len(data[1][0])
    assert data.learnt == sum(label != -100 for n in (0, 1) for label in data[n][1])


def test_without_responses_only_all_is_learnt(tokenizer: Any, tmp_path: Path) -> None:
    data = made(tokenizer, tmp_path, [[USER, ANSWER]], responses_only=False)
    tokens, labels = data[0]
    assert labels == tokens
    # Then a template may write a beginning differently: nothing depends on it.
    made(tokenizer, tmp_path, [[USER, ANSWER, USER, ANSWER]], FORGETFUL, responses_only=False)


def test_a_template_that_writes_a_beginning_differently_is_refused_with_the_line(
    tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match=r"line 2: .* differently than the whole"):
        made(tokenizer, tmp_path, [[USER, ANSWER], [USER, ANSWER, USER, ANSWER]], FORGETFUL)


@pytest.mark.parametrize(
    ("messages", "options", "said"),
    [
        ([USER, ANSWER], {"max_length": 9}, r"line 1 has \d+ tokens, and at most 9 are allowed"),
        ([SYSTEM, USER], {}, "line 1 has nothing to learn: no message of the assistant"),
        ([ANSWER, USER], {}, "line 1 begins with the assistant"),
        ([SYSTEM, ANSWER], {"text": RAISES}, "line 1: .* refuses it: no system message, please"),
    ],
    ids=["long", "no answer", "answer first", "raises"],
)
def test_a_record_that_cannot_be_learnt_is_named(
    tokenizer: Any, tmp_path: Path, messages: Any, options: Dict[str, Any], said: str
) -> None:
    text = options.get("text", CHATML)
    limit = options.get("max_length", 999)
    whole = {"responses_only": "text" not in options}
    with pytest.raises(TrainingFailed, match=said):
        made(tokenizer, tmp_path, [messages], text, max_length=limit, **whole)


def test_a_model_without_a_template_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    template = template_of(tokenizer, None)
    with pytest.raises(TrainingFailed, match="the model has no chat template"):
        tokenized([("line 1", [USER, ANSWER])], template, tmp_path, lambda: False)


def test_blank_lines_and_a_byte_order_mark_are_left_out_and_the_lines_keep_their_numbers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + LINE + b"\n  \r\n" + LINE.rstrip() + b"\r\n\n" + LINE.rstrip()
    )
    named = list(read(blob(path)))
    assert [name for name, _ in named] == ["line 1", "line 4", "line 6"]
    assert all(record == [USER, ANSWER] for _, record in named)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 3 is not valid JSON"),
        (b"\xff", "line 3 is not valid JSON"),
        (b"[]", "line 3 has no list of messages"),
        (b'{"messages": []}', "line 3 has no list of messages"),
        (b'{"messages": [{"content": "x"}]}', "line 3 has a message without a role"),
        (b'{"messages": [{"role": "user"}]}', "line 3 has a message without content"),
        (LINE[:30], "line 3 is not valid JSON"),
    ],
)
def test_a_line_that_is_no_record_is_named_with_the_file(
    tmp_path: Path, line: bytes, said: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(LINE + b"\n" + line + b"\n" + LINE)
    with pytest.raises(TrainingFailed) as caught:
        list(read(blob(path)))
    assert str(caught.value) == f"the data set's {said}: {path}"


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tokenizer: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(TrainingFailed, match="the data set is empty"):
        tokenized(read(blob(path)), template_of(tokenizer), tmp_path, lambda: False)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "x", "No such file or directory"), (tmp_path, "Is a direct")):
        with pytest.raises(TrainingFailed, match=f"could not be read: {reason}.*{path}"):
            list(read(blob(path)))


def test_a_format_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    for value in ("alpaca", {"type": "sharegpt"}, {"type": ["chatml"]}, 5):
        with pytest.raises(TrainingFailed, match=r"datasetFormat .*reads chatml or messages"):
            read(blob(tmp_path / "x", datasetFormat=value))


def test_the_records_held_out_are_the_same_for_a_seed() -> None:
    def held(**options: Any) -> List[int]:
        train, out = split(list(range(50)), {"datasetSplit": {"enabled": True, **options}})
        assert sorted([*train, *out]) == list(range(50))
        return out

    assert held(seed=1) == held(seed=1)
    assert held(seed=1) != held(seed=2)
    assert len(held()) == 5
    assert len(held(testSize=0.001)) == 1
    assert split(list(range(3)), {"datasetSplit": {"enabled": False}}) == ([0, 1, 2], [])
    with pytest.raises(TrainingFailed, match="leaves no record to learn from"):
        held(testSize=1)


def test_tokens_that_cannot_be_written_are_told_with_the_directory(
    tokenizer: Any, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    records = [("line 1", [USER, ANSWER])] * (AT_ONCE + 1)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
        with pytest.raises(TrainingFailed, match=f"{tmp_path} cannot be written: File too large"):
            tokenized(records, template_of(tokenizer), tmp_path, lambda: False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_reading_ends_when_the_job_does(tokenizer: Any, tmp_path: Path) -> None:
    def endless() -> Iterator[Any]:
        while True:
            asked.append(1)
            yield "line 1", [USER, ANSWER]

    asked: List[int] = []
    template = template_of(tokenizer)
    data = tokenized(endless(), template, tmp_path, lambda: len(asked) >= AT_ONCE)
    assert len(data) == AT_ONCE


class Server:
    """Answers as it is told; the headers of each request are kept."""

    def __init__(self, respond: Callable[[http.server.BaseHTTPRequestHandler], None]) -> None:
        seen: List[Dict[str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append({name.lower(): value for name, value in self.headers.items()})
                respond(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.seen = seen
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/data.jsonl?secret=1"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answers(
    body: bytes, status: int = 200, length: Optional[int] = None, **headers: str
) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def test_an_address_gets_the_token_and_not_what_netrc_has_for_it() -> None:
    (Path.home() / ".netrc").write_text("machine 127.0.0.1 login me password netrc\n")
    (Path.home() / ".netrc").chmod(0o600)
    with Server(answers(LINE * 3)) as server:
        assert len(list(read(at(server.url, "s3cret")))) == 3
        assert len(list(read(at(server.url)))) == 3
    assert server.seen[0]["authorization"] == "Bearer s3cret"
    assert "authorization" not in server.seen[1]


def test_a_redirect_to_another_host_gets_no_token() -> None:
    with Server(answers(LINE)) as other:
        there = f"http://localhost:{other.port}/x"
        with Server(answers(b"", 302, Location=there)) as server:
            assert len(list(read(at(server.url, "s3cret")))) == 1
    assert server.seen[0]["authorization"] == "Bearer s3cret"
    assert "authorization" not in other.seen[0]


def test_what_is_compressed_on_its_way_is_unpacked_and_streamed() -> None:
    body = gzip.compress(LINE * 20_000)
    with Server(answers(body, Content_Encoding="gzip")) as server:
        assert sum(1 for _ in read(at(server.url))) == 20_000


@pytest.mark.parametrize("packed", [False, True])
def test_a_connection_that_is_cut_fails_the_job_and_names_no_secret(packed: bool) -> None:
    body = gzip.compress(LINE * 5000) if packed else LINE * 5000
    headers = {"Content_Encoding": "gzip"} if packed else {}
    half = body[: len(body) // 2]
    if not packed:
        half = half[: half.rindex(b"\n") + 1]  # at the end of a record, where it is not seen
    respond = answers(half, length=len(body), **headers)
    with Server(respond) as server, pytest.raises(TrainingFailed) as caught:
        list(read(at(server.url, "s3cret")))
    where = f"http://127.0.0.1:{server.port}/data.jsonl"
    reason = "the connection ended in the middle"
    assert str(caught.value) == f"the data set could not be read: {reason}: {where}"


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_answer_that_is_no_success_fails_the_job(status: int) -> None:
    with Server(answers(LINE, status)) as server, pytest.raises(TrainingFailed) as caught:
        list(read(at(server.url)))
    where = f"http://127.0.0.1:{server.port}/data.jsonl"
    assert str(caught.value) == f"the data set could not be read: HTTP {status}: {where}"


@pytest.mark.parametrize("url", ["http://example.com/x", "ftp://127.0.0.1/x", "file://host/x", "x"])
def test_an_address_that_is_not_safe_is_refused(url: str) -> None:
    with pytest.raises(TrainingFailed, match="must begin with https:// or file://"):
        list(read(at(url, "s3cret")))


MANY = """
import resource, sys
from pathlib import Path
from transformers import AutoTokenizer
from arkor_sync.emulator.engine.dataset import split
from arkor_sync.emulator.engine.lora.records import Template, read, tokenized
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
config = {"datasetSource": {"type": "blob", "url": Path(sys.argv[2]).as_uri()}}
peaks = []
def stopping():
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return False
data = tokenized(read(config), Template(tokenizer, False, 999), Path(sys.argv[3]), stopping)
print(len(data), (peaks[-1] - peaks[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_a_hundred_thousand_records_take_little_memory(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = make_tiny_model(tmp_path_factory.mktemp("model"))
    path = tmp_path / "data.jsonl"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(LINE * 1000)
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(folder), str(path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, growth = map(int, done.stdout.split())
    assert count == 100_000
    assert growth < 60  # MB, after the first thousand
