"""A cursor store in Redis or Valkey, for several machines. Any thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from arkor_sync._common.arguments import check
from arkor_sync._common.extras import import_extra
from arkor_sync._common.log import get_logger
from arkor_sync._common.secret import redact
from arkor_sync.errors import (
    CursorStoreError,
    LeaseHeldError,
    StoreUnavailableError,
    text_of,
)
from arkor_sync.stores import redis_scripts as scripts
from arkor_sync.stores.backend import (
    REFUSED,
    SUBMITTED,
    SUBMITTING,
    UNKNOWN,
    Holder,
    Intent,
    Member,
    Save,
    Taken,
)
from arkor_sync.stores.base import decode_position
from arkor_sync.stores.batching import MOST
from arkor_sync.stores.leased import LeasedStore
from arkor_sync.stores.redis_client import check_client, make_client

logger = get_logger("arkor_sync.stores")

_FINISHED = "finished"  # of submissions that are `submitted`, once the job is known to be finished
_LISTS = (SUBMITTING, SUBMITTED, REFUSED, UNKNOWN, _FINISHED)
_LONGEST_WAIT = 3.0  # seconds for the server, or for a connection that another thread uses

# How a refusal begins that ends by itself, or when somebody has looked after the server.
_TRANSIENT = (
    *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF"),
    *("NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED"),
)


class RedisCursorStore(LeasedStore):
    """Keeps positions in Redis or Valkey, so that several machines can follow jobs together.

    It is given as `cursor_store`. One object serves all runs of a process, in any thread. It needs
    the extra `redis`, and Redis 6 or later, or Valkey. What it cannot promise when a server fails
    over to a replica, and which settings of the server it needs, is in `stores/README.md`.

    Args:
        url_or_client: A URL such as `redis://host:6379/0`, `rediss://...` or `unix://...`, or a
            `redis.Redis` or `redis.RedisCluster` with timeouts of its own. The password is never
            shown.
        ttl: Seconds that a lease lasts without a renewal, from 1 to 3600.
        prefix: What all keys begin with, as their hash tag.
        max_connections: How many connections there may be at the same time; a client that is given
            has a limit of its own.

    Attributes:
        owner: This process, as text for people; unique.

    Raises:
        ArkorUsageError: An argument cannot work, or redis-py is not installed.
    """

    def __init__(
        self,
        url_or_client: Any,
        *,
        ttl: float = 15.0,
        prefix: str = "arkor",
        max_connections: int = 4,
    ) -> None:
        library = import_extra("redis", "redis", "RedisCursorStore")
        fits = isinstance(prefix, str) and prefix != "" and not set(prefix) & set("{}")
        check("prefix", prefix, fits, "a text without braces")
        fits = type(max_connections) is int and max_connections > 0
        check("max_connections", max_connections, fits, "a whole number above 0")
        backend = RedisBackend(library, prefix)
        super().__init__(backend, ttl)
        backend.connect(url_or_client, max_connections, min(_LONGEST_WAIT, self.ttl / 4))


class RedisBackend:
    """Keeps leases, positions, members and submissions in Redis; see `Backend`.

    Args:
        library: The module `redis`.
        prefix: What all keys begin with.
    """

    joined = False  # there is no transaction of the program

    def __init__(self, library: Any, prefix: str) -> None:
        self._library = library
        self._prefix = prefix

    def connect(self, given: Any, max_connections: int, wait: float) -> None:
        """Use the client that is given, or one for a URL. Nothing is sent yet.

        Args:
            given: A client or a URL.
            max_connections: How many connections to the URL there may be.
            wait: Seconds to wait for an answer, and for a connection that another thread uses.
        """
        library = self._library
        self._is_own = not isinstance(given, (library.Redis, library.RedisCluster))
        if self._is_own:
            self._client = make_client(library, given, max_connections, wait)
        else:
            self._client = check_client(given)
        self._scripts: Dict[str, Any] = {}
        self._is_checked = False

    def take(self, job_id: str, owner: str, ttl: float) -> Taken:  # noqa: D102
        self._check_policy()
        decode_position(job_id, self.load(job_id))  # take nothing that cannot be used
        keys = [self._job(job_id), self._key("jobs")]
        answer = self._run(scripts.TAKE, keys, [job_id, owner, _ms(ttl)])
        self._refuse_newer(answer, f"the position of job {job_id}")
        if _text(answer[0]) == "held":
            raise LeaseHeldError(
                f"job {job_id} is followed by {_text(answer[1])}; its lease lasts for another "
                f"{answer[2] / 1000:.1f} s unless it is renewed"
            )
        return Taken(answer[1], _optional(answer[2]))

    def renew(self, leases: Sequence[Tuple[str, int]], owner: str, ttl: float) -> Set[str]:  # noqa: D102
        keys = [self._job(job_id) for job_id, _ in leases]
        held = self._run(scripts.RENEW, keys, [owner, _ms(ttl), *(epoch for _, epoch in leases)])
        return {job_id for (job_id, _), each in zip(leases, held) if each}

    def save(self, saves: Sequence[Save]) -> Set[str]:  # noqa: D102
        keys = [self._job(each.job_id) for each in saves]
        args: List[Any] = []
        for each in saves:
            args += [each.owner, each.epoch, each.text, int(each.finished)]
        kept = dict(zip((each.job_id for each in saves), self._run(scripts.SAVE, keys, args)))
        for job_id in (job_id for job_id, result in kept.items() if result < 0):
            logger.error(
                "job %s: Redis no longer has its position: it was restarted without what it had "
                "kept, or removed the row to free memory. The job will be followed from its first "
                "event",
                job_id,
            )
        return {job_id for job_id, result in kept.items() if result < 1}

    def release(self, job_id: str, owner: str, epoch: int) -> None:  # noqa: D102
        self._run(scripts.RELEASE, [self._job(job_id)], [owner, epoch])

    def load(self, job_id: str) -> Optional[str]:  # noqa: D102
        with self._errors():
            row = self._client.hmget(self._job(job_id), ["version", "text"])
        if int(row[0] or 0) > scripts.VERSION:
            self._refuse_newer(["newer", row[0]], f"the position of job {job_id}")
        return _optional(row[1])

    def holders(self, job_ids: Optional[Collection[str]]) -> List[Holder]:  # noqa: D102
        if job_ids is None:
            with self._errors():
                found = set(self._client.sscan_iter(self._key("jobs"), count=1000))
            job_ids = sorted(map(_text, found))
        ids = list(job_ids)
        return [
            Holder(job_id, _text(row[0]), row[1], row[2] / 1000, _seconds(row[4]), bool(row[3]))
            for job_id, row in zip(ids, self._read(scripts.HOLDERS, map(self._job, ids)))
            if row
        ]

    def join(self, owner: str, ttl: float) -> List[Member]:  # noqa: D102
        return _members(self._run(scripts.JOIN, [self._key("members")], [owner, _ms(ttl)]))

    def members(self) -> List[Member]:  # noqa: D102
        return _members(self._run(scripts.MEMBERS, [self._key("members")], []))

    def leave(self, owner: str) -> None:  # noqa: D102
        with self._errors():
            self._client.zrem(self._key("members"), _bytes(owner))

    def open_submission(self, key: str, name: str, owner: str, ttl: float) -> Intent:  # noqa: D102
        self._check_policy()
        keys = [self._submission(key), self._status(SUBMITTING)]
        answer = self._run(scripts.OPEN_SUBMISSION, keys, [key, name, owner, _ms(ttl)])
        self._refuse_newer(answer, f"the submission {key!r}")
        return _intent(key, answer[2], bool(answer[1]))

    def close_submission(  # noqa: D102
        self,
        key: str,
        owner: str,
        epoch: int,
        status: str,
        job_id: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> bool:
        keys = [self._submission(key), *map(self._status, _LISTS), self._status(status)]
        args = [key, owner, epoch, status, job_id or "", detail or ""]
        answer = self._run(scripts.CLOSE_SUBMISSION, keys, args)
        self._refuse_newer(answer, f"the submission {key!r}")
        return bool(answer[1])

    def submissions(self, statuses: Collection[str]) -> List[Intent]:  # noqa: D102
        lists = {*statuses, _FINISHED} if SUBMITTED in statuses else set(statuses)
        found = self._submissions(lists)
        return [each for each in found if each.status in statuses]

    def _submissions(self, lists: Collection[str]) -> List[Intent]:
        with self._errors():
            listed = [
                (made, _text(key))
                for status in lists
                for key, made in self._client.zrange(self._status(status), 0, -1, withscores=True)
            ]
        keys = list(dict.fromkeys(key for _, key in sorted(listed)))  # one may move meanwhile
        rows = self._read(scripts.SUBMISSIONS, map(self._submission, keys))
        return [_intent(key, row, False) for key, row in zip(keys, rows) if row]

    def unfinished_submissions(self) -> List[Intent]:  # noqa: D102
        found = self._submissions([SUBMITTED])
        holders = self.holders([each.job_id for each in found if each.job_id is not None])
        finished = {each.job_id for each in holders if each.finished}
        # These are listed apart from now on, so that they are not read again.
        ended = [each.key for each in found if each.job_id in finished]
        lists = [self._status(SUBMITTED), self._status(_FINISHED)]
        for begin in range(0, len(ended), MOST):
            self._run(scripts.MOVE_SUBMISSIONS, lists, ended[begin : begin + MOST])
        return [each for each in found if each.job_id not in finished]

    def prune(self, age: float) -> int:  # noqa: D102
        keys: Dict[Optional[str], List[str]] = {}
        for each in self.submissions([SUBMITTED]):
            keys.setdefault(each.job_id, []).append(each.key)
        lists = [self._key("jobs"), *map(self._status, _LISTS)]
        pruned = 0
        for job in self.holders(None):
            if job.finished and job.expires_in <= 0 and (job.saved_ago or 0.0) >= age:
                of_job = keys.get(job.job_id, [])
                rows = [self._job(job.job_id), *lists, *map(self._submission, of_job)]
                pruned += self._run(scripts.PRUNE, rows, [_ms(age), job.job_id, *of_job])
        return pruned

    def forget_submission(self, key: str) -> bool:  # noqa: D102
        keys = [self._submission(key), *map(self._status, _LISTS)]
        answer = self._run(scripts.FORGET_SUBMISSION, keys, [key])
        self._refuse_newer(answer, f"the submission {key!r}")
        return bool(answer[1])

    def after_fork(self) -> None:
        """Do nothing: redis-py makes connections of its own in a forked child."""

    def close(self) -> None:
        """Close the connections, but not those of a client that was given."""
        if self._is_own:
            with self._errors():
                self._client.connection_pool.disconnect()

    def _key(self, *names: str) -> bytes:
        return _bytes(":".join([f"{{{self._prefix}}}", *names]))

    def _job(self, job_id: str) -> bytes:
        return self._key("job", job_id)

    def _submission(self, key: str) -> bytes:
        return self._key("submission", key)

    def _status(self, status: str) -> bytes:
        return self._key("submissions", status)

    def _run(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        if not keys:
            return []
        with self._errors():
            known = self._scripts.get(script)
            if known is None:
                known = self._scripts[script] = self._client.register_script(script)
            return known(keys, [_bytes(each) if isinstance(each, str) else each for each in args])

    def _read(self, script: str, keys: Iterable[bytes]) -> Iterator[Any]:
        """Run a script that reads rows, for some hundred of them at a time."""
        wanted = list(keys)
        for begin in range(0, len(wanted), MOST):
            yield from self._run(script, wanted[begin : begin + MOST], [])

    def _refuse_newer(self, answer: Sequence[Any], what: str) -> None:
        if _text(answer[0]) == "newer":
            raise CursorStoreError(
                f"{what} is stored in version {_text(answer[1])}, and this arkor_sync reads up to "
                f"version {scripts.VERSION}; upgrade arkor_sync"
            )

    def _check_policy(self) -> None:
        """Warn once if the server removes keys when its memory is full: any lease may be one."""
        if self._is_checked:
            return
        try:
            with self._errors():
                policy = str(self._client.info("memory").get("maxmemory_policy", ""))
        except StoreUnavailableError:
            raise
        except CursorStoreError:
            policy = ""  # it is forbidden to ask
        self._is_checked = True
        if policy.startswith("allkeys"):
            logger.warning(
                "Redis has maxmemory-policy %s: it may remove leases and positions when its memory "
                "is full, and jobs are then followed from the start; set it to noeviction",
                policy,
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the errors of redis-py into ours."""
        errors = self._library.exceptions
        away = (
            errors.ConnectionError,
            errors.TimeoutError,
            errors.ClusterDownError,
            errors.RedisClusterException,
            errors.ChildDeadlockedError,
            OSError,
        )
        waits = (errors.ReadOnlyError, errors.TryAgainError, errors.OutOfMemoryError)
        refused = (errors.AuthenticationError, errors.AuthorizationError)
        try:
            yield
        except (errors.RedisError, *away) as error:
            said = redact(text_of(error)) or type(error).__name__
            if isinstance(error, errors.MovedError) or said.startswith("MOVED"):
                said = "it is a node of a cluster; give a redis.RedisCluster"
            elif isinstance(error, away) and not isinstance(error, refused):
                raise StoreUnavailableError(f"Redis cannot be reached: {said}") from error
            elif isinstance(error, waits) or said.startswith(_TRANSIENT):
                raise StoreUnavailableError(f"Redis cannot do it now: {said}") from error
            raise CursorStoreError(f"Redis refused: {said}") from error


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    """Return a text as such; a client that is given may have decoded it already."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def _optional(value: Any) -> Optional[str]:
    return _text(value) if value else None


def _seconds(milliseconds: Optional[int]) -> Optional[float]:
    return None if milliseconds is None else milliseconds / 1000


def _members(answer: Sequence[Any]) -> List[Member]:
    pairs = zip(answer[::2], answer[1::2])
    return [Member(_text(owner), int(left) / 1000) for owner, left in pairs]


def _intent(key: str, row: Sequence[Any], mine: bool) -> Intent:
    name, status, job_id, detail, owner, epoch, left, age = row
    return Intent(
        key,
        _text(name),
        _text(status),
        _optional(job_id),
        _optional(detail),
        epoch,
        left / 1000,
        age / 1000,
        mine,
        _optional(owner),
    )
