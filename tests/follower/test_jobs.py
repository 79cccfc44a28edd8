"""What a follower knows of its jobs: when each is begun again, and what is given back."""

from __future__ import annotations

from typing import Any, List, Optional

from arkor_sync._follower_jobs import FIRST_DELAY, LEFT_AFTER, LONGEST_DELAY, Jobs
from arkor_sync.stores.backend import Holder, Member

ME, OTHER = "me", "other"


def holder(job: str, owner: Optional[str] = OTHER, ends: float = 10.0, **more: Any) -> Holder:
    return Holder(job, owner, 1, ends, None, more.get("finished", False))


def jobs_of(*ids: str, members: Any = (ME,), most: int = 100) -> Jobs:
    jobs = Jobs(ME, most)
    jobs.name(ids)
    look(jobs, [], members)
    return jobs


def look(jobs: Jobs, holders: List[Holder], members: Any = (ME,), now: float = 0.0) -> None:
    members = [Member(each, 5.0) for each in members]
    jobs.look(now, jobs.to_look_up(now, members), holders)


def begin(jobs: Jobs, *ids: str, now: float = 0.0) -> None:
    for job_id in ids:
        jobs.known[job_id].begun(object(), now)


def take(jobs: Jobs, now: float = 0.0) -> List[str]:
    return jobs.decide(now, ()).take


def test_a_lease_that_has_ended_is_no_holder() -> None:
    jobs = jobs_of("a", "b")
    look(jobs, [holder("a"), holder("b", ends=-0.1)])
    assert take(jobs) == ["b"]


def test_what_is_finished_is_never_begun_nor_looked_up_again() -> None:
    jobs = jobs_of("a", "b")
    look(jobs, [holder("a", ends=-1.0, finished=True)])
    jobs.name(["a", "b"])
    assert jobs.to_look_up(0.0, []) == take(jobs) == ["b"]
    jobs.name(["b"])
    assert not jobs.finished  # nothing is kept of what the source no longer names


def test_what_the_source_no_longer_names_is_followed_to_its_end_and_given_to_nobody() -> None:
    jobs = jobs_of("a", "b")
    begin(jobs, "a", "b")
    jobs.name(["b"])
    assert set(jobs.runs) == {"a", "b"}
    assert jobs.give(5) == [jobs.known["b"]]
    jobs.known["a"].ended(1.0)
    jobs.name(["b"])
    assert set(jobs.known) == {"b"}


def test_a_job_is_begun_again_after_delays_that_grow_up_to_a_cap() -> None:
    (job,) = jobs_of("a").known.values()
    delays = [job.delay(0.0) for _ in range(12)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert max(delays) == LONGEST_DELAY
    job.begun(object(), 100.0)
    job.ended(110.0)
    assert job.delay(110.0) == LONGEST_DELAY  # it had hardly begun
    job.begun(object(), 1000.0)
    job.ended(2000.0)
    assert job.delay(2000.0) == FIRST_DELAY


def test_before_its_time_a_job_is_not_begun() -> None:
    jobs = jobs_of("a", "b")
    jobs.known["a"].not_before = 3.0
    assert take(jobs, 2.9) == ["b"]
    assert take(jobs, 3.0) == ["a", "b"]
    jobs.known["a"].not_before = 99.0
    assert take(jobs, LEFT_AFTER + 9) == ["b"]


def test_the_newest_are_given_back() -> None:
    jobs = jobs_of("a", "b", "c", "d", members=(ME, OTHER))
    for now, job_id in enumerate("badc"):
        begin(jobs, job_id, now=float(now))
    assert jobs.decide(9.0, ()).give == 2
    assert jobs.give(2) == [jobs.known["c"], jobs.known["d"]]
    assert jobs.decide(9.0, ()).give == 0


def test_it_gives_back_no_faster_than_others_take() -> None:
    ids = [f"job-{number:03}" for number in range(200)]
    jobs = jobs_of(*ids, members=(ME, OTHER))
    begin(jobs, *ids)
    first = jobs.give(jobs.decide(0.0, ()).give)
    assert len(first) == 25
    assert jobs.decide(0.0, ()).give == 0
    taken = [job_id for job_id, job in jobs.known.items() if job in first][:10]
    for job_id in taken:
        jobs.known[job_id].ended(0.1)
    look(jobs, [holder(each) for each in taken], (ME, OTHER))
    assert jobs.decide(1.0, ()).give == 10


def test_what_nobody_takes_comes_back_and_less_is_given_after_that() -> None:
    jobs = jobs_of("a", "b", "c", "d", members=(ME, OTHER))
    begin(jobs, "a", "b", "c", "d")
    pauses = []
    now = 10.0
    for _ in range(3):
        given = jobs.give(jobs.decide(now, ()).give)
        assert len(given) == 2
        for job in given:
            job.ended(now)
        assert jobs.decide(now, ()) == ([], 0, 0)
        now += LEFT_AFTER + 0.1
        retaken = take(jobs, now)  # the other process takes nothing: it may be broken
        assert len(retaken) == 2
        begin(jobs, *retaken, now=now)
        begun = now
        while not jobs.decide(now, ()).give:
            now += 1.0
        pauses.append(now - begun)
    assert pauses[0] > LEFT_AFTER
    assert pauses[0] < pauses[1] < pauses[2]


def test_the_jobs_of_who_is_no_member_do_not_count() -> None:
    jobs = jobs_of("a", "b", "c", "d", "e", members=(ME,))
    begin(jobs, "a", "b")
    look(jobs, [holder(each, "a script") for each in "cde"])
    assert jobs.decide(0.0, ()) == ([], 0, 0)
    look(jobs, [holder(each) for each in "cd"], (ME, OTHER))
    assert jobs.decide(0.0, ()) == (["e"], 0, 1)


def test_what_is_being_begun_counts_as_its_own() -> None:
    jobs = jobs_of("a", "b", "c", "d", members=(ME, OTHER))
    assert jobs.decide(0.0, {"a", "b"}) == ([], 0, 0)


def test_the_jobs_that_nobody_has_room_for_are_counted() -> None:
    assert jobs_of("a", "b", "c", "d", "e", members=(ME, OTHER), most=2).too_many() == 1
    assert jobs_of("a", "b", members=(ME, OTHER), most=2).too_many() == 0


def test_the_jobs_of_a_member_are_looked_up_less() -> None:
    jobs = jobs_of("a", "b", "c", "d", members=(ME, OTHER))
    begin(jobs, "a", "b")
    look(jobs, [holder("c", ends=9.0), holder("d", ends=0.7)], (ME, OTHER))
    jobs.decide(0.0, ())
    both = [Member(ME, 5.0), Member(OTHER, 5.0)]
    assert jobs.to_look_up(0.5, both) == []
    assert jobs.to_look_up(0.7, both) == ["d"]  # its lease may have ended
    assert jobs.to_look_up(2.0, both) == ["c", "d"]
    assert jobs.to_look_up(0.5, [Member(ME, 5.0)]) == ["c", "d"]  # the other has left
    jobs.known["a"].ended(0.5)
    jobs.known["b"].ended(0.5)
    jobs.decide(0.5, ())
    assert jobs.to_look_up(0.5, both) == ["a", "b", "c", "d"]  # it is below its share
