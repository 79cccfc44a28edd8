"""How many jobs each process follows, and which it takes or gives back. Pure."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, NamedTuple


class Plan(NamedTuple):
    """What one process does next.

    Attributes:
        take: Jobs that nobody follows, and that it begins to follow, in this order.
        give: How many of its own jobs it gives back.
        missing: How many it has not, of its share.
    """

    take: List[str]
    give: int
    missing: int


def plan(
    owner: str, counts: Mapping[str, int], free: Iterable[str], left: Iterable[str], most: int
) -> Plan:
    """Decide what a process takes and gives back, so that all processes follow as many jobs.

    Each process decides for itself. All see the same, but not at the same moment; where two of them
    take the same job, the lease decides.

    Args:
        owner: The process.
        counts: How many jobs each process follows, this one included.
        free: The jobs that nobody has followed for a moment. They are dealt out to the processes
            that are below their share.
        left: The jobs that nobody has followed for longer, such as those of a process that cannot
            begin to follow any. Every process with room takes these.
        most: How many jobs one process follows at most.
    """
    free = sorted(free)
    shares = shares_of(sum(counts.values()) + len(free), counts, most)
    missing = {name: max(0, share - counts[name]) for name, share in shares.items()}
    before = sum(number for name, number in missing.items() if name < owner)
    take = free[before : before + missing[owner]]
    # In an order of its own, so that two processes seldom try the same job.
    in_order = sorted(left, key=lambda job_id: hash((owner, job_id)))
    take += in_order[: max(0, most - counts[owner] - len(take))]
    wanted = sum(missing.values()) - len(free)
    give = 0 if take else max(0, min(counts[owner] - shares[owner], wanted))
    return Plan(take, give, missing[owner])


def shares_of(jobs: int, counts: Mapping[str, int], most: int) -> Dict[str, int]:
    """Divide jobs evenly among processes.

    What cannot be divided goes to those that follow most already, so that fewest jobs move.

    Args:
        jobs: How many there are.
        counts: How many each process follows.
        most: How many one process follows at most.
    """
    each, more = divmod(jobs, len(counts))
    order = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: min(most, each + (rank < more)) for rank, name in enumerate(order)}
