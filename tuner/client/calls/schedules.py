from typing import Any

from tuner.client.answers import Decision, Schedule, ScheduleRun
from tuner.client.bodies import Body, body
from tuner.client.method import Call, delete, get, listing, patch, post
from tuner.specs.schedule import ScheduleSpec


class ScheduleCalls:
    @post("/v1/schedules")
    def create_schedule(self, spec: ScheduleSpec | Body) -> Call[Schedule]:
        return Call(Schedule, json=body(spec))

    @listing("/v1/schedules")
    def schedules(self) -> Call[Schedule]:
        return Call(Schedule)

    @get("/v1/schedules/{name}")
    def schedule(self, name: str) -> Call[Schedule]:
        return Call(Schedule)

    @patch("/v1/schedules/{name}")
    def edit_schedule(self, /, name: str, **changes: Any) -> Call[Schedule]:
        """A field that is not named stays as it is."""
        return Call(Schedule, json=changes)

    @delete("/v1/schedules/{name}")
    def delete_schedule(self, name: str) -> Call[None]:
        return Call(type(None))

    @post("/v1/schedules/{name}/run")
    def run_schedule(self, name: str) -> Call[ScheduleRun]:
        """Now, beside its due times."""
        return Call(ScheduleRun)

    @listing("/v1/schedules/{name}/runs")
    def schedule_runs(self, name: str) -> Call[ScheduleRun]:
        """The newest first."""
        return Call(ScheduleRun)

    @listing("/v1/schedules/{name}/champions")
    def champions(self, name: str) -> Call[Decision]:
        """What every challenge of the schedule came to, the newest first."""
        return Call(Decision)
