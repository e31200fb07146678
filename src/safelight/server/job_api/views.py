"""Jobs and batches as the API shows them."""

from collections.abc import Mapping

import msgspec

from safelight.jobs.record import Job, JobView, State, view_of
from safelight.server.job_api.messages import BatchView


def job_view(job: Job) -> JobView:
    """What may be told of a job, the same each time as long as it is the same.

    `not_before` comes from the monotonic clock, and differs a little with every look.
    """
    view = view_of(job)
    if view.not_before is None:
        return view
    return msgspec.structs.replace(view, not_before=view.not_before.replace(microsecond=0))


def batch_view(name: str, counts: Mapping[State, int]) -> BatchView:
    """What has become of the jobs of one batch."""
    waiting, running = counts[State.WAITING], counts[State.RUNNING]
    return BatchView(
        batch=name,
        total=sum(counts.values()),
        waiting=waiting,
        running=running,
        done=counts[State.DONE],
        dead=counts[State.DEAD],
        cancelled=counts[State.CANCELLED],
        ended=not waiting and not running,
    )
