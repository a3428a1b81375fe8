from tuner.client.answers import Job, LogEntry
from tuner.client.bodies import Body, body, given
from tuner.client.method import Call, get, listing, patch, post
from tuner.specs.job import PromoteWork, SearchWork


class JobCalls:
    @listing("/v1/jobs")
    def jobs(self, state: str | None = None) -> Call[Job]:
        return Call(Job, params=given(state=state))

    @get("/v1/jobs/{job_id}")
    def job(self, job_id: int | str) -> Call[Job]:
        return Call(Job)

    @post("/v1/studies/{name}/jobs")
    def queue_job(self, name: str, work: SearchWork | PromoteWork | Body) -> Call[Job]:
        """Further work on the study."""
        return Call(Job, json=body(work))

    @post("/v1/jobs/{job_id}/cancel")
    def cancel_job(self, job_id: int | str) -> Call[Job]:
        return Call(Job)

    @post("/v1/jobs/{job_id}/retry")
    def retry_job(self, job_id: int | str) -> Call[Job]:
        return Call(Job)

    @patch("/v1/jobs/{job_id}")
    def set_priority(self, job_id: int | str, priority: int) -> Call[Job]:
        return Call(Job, json={"priority": priority})

    @listing("/v1/jobs/{job_id}/log")
    def job_log(self, job_id: int | str) -> Call[LogEntry]:
        """The oldest entry first."""
        return Call(LogEntry)
