"""What must be true when a schedule is over. Pure."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Sequence

from fleet_cloud import JobFacts

from arkor_sync.stores.backend import Holder


class Effect(NamedTuple):
    """What a callback wrote in the transaction of its event's position.

    Attributes:
        job: The job.
        event: The event's id.
        epoch: That of the lease under which it was written.
    """

    job: str
    event: str
    epoch: int


def check(
    jobs: Mapping[str, JobFacts],
    effects: Sequence[Effect],
    holders: Sequence[Holder],
    logs: Sequence[str] = (),
) -> None:
    """Hold what happened against what was promised.

    Raises:
        AssertionError: A promise was broken.
    """
    of_job: Dict[str, List[Effect]] = {job_id: [] for job_id in jobs}
    for effect in effects:
        of_job[effect.job].append(effect)
    states = {each.job_id: each for each in holders}
    for job_id, facts in jobs.items():
        assert facts.ended, f"job {job_id} has not ended"
        events = [each.event for each in of_job[job_id]]
        assert events == facts.events, (
            f"job {job_id}: not the effect of each event once and in order: {events}, but it had "
            f"{facts.events}; under {[each.epoch for each in of_job[job_id]]}"
        )
        epochs = [each.epoch for each in of_job[job_id]]
        assert epochs == sorted(epochs), f"job {job_id}: an old holder wrote after a new one"
        state = states[job_id]
        assert state.finished, f"job {job_id} is not finished"
        assert state.epoch >= epochs[-1]
    for log in logs:
        assert "Traceback" not in log, log[-8000:]
