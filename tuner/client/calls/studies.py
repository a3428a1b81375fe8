from collections.abc import Callable, Sequence
from typing import Any

from tuner.client.answers import (
    Best,
    Delivery,
    Event,
    Front,
    Importances,
    Report,
    StudyPosted,
    StudyStatus,
    StudySummary,
)
from tuner.client.bodies import Body, body, given
from tuner.client.flow import Flow, Items
from tuner.client.following import events, wait
from tuner.client.method import Call, ItemsMethod, Method, delete, get, listing, patch, post
from tuner.specs.outside_study import OutsideStudySpec
from tuner.specs.study import StudySpec


class StudyCalls:
    @post("/v1/studies")
    def create_study(self, spec: StudySpec | OutsideStudySpec | Body) -> Call[StudyPosted]:
        return Call(StudyPosted, json=body(spec))

    @listing("/v1/studies")
    def studies(self, state: str | None = None) -> Call[StudySummary]:
        """The newest first."""
        return Call(StudySummary, params=given(state=state))

    @get("/v1/studies/{name}")
    def study(self, name: str) -> Call[StudyStatus]:
        return Call(StudyStatus)

    @Method
    def wait(self, name: str, on_progress: Callable[[StudyStatus], object] | None = None) -> Flow[StudyStatus]:
        """The status when the study has ended or is paused; `on_progress` has seen each one before it, and it.

        An outage of up to OUTAGE_SECONDS is waited out; a longer one raises what the last call did.
        """
        return wait(name, on_progress)

    @ItemsMethod
    def events(self, name: str, after: int | None = None) -> Items[Event]:
        """What happens to the study, without an end: from now on, or from the event `after` on (0: from the first one kept).

        A stream that ends or breaks is taken up where it was. Only over HTTP.
        """
        return events(name, after)

    @patch("/v1/studies/{name}")
    def edit_budget(self, /, name: str, **changes: int | float | None) -> Call[StudyStatus]:
        """Of a study under way: n_trials, timeout_seconds, parallel; what is not named stays as it is."""
        return Call(StudyStatus, json=changes)

    @post("/v1/studies/{name}/pause")
    def pause(self, name: str) -> Call[StudyStatus]:
        return Call(StudyStatus)

    @post("/v1/studies/{name}/resume")
    def resume(self, name: str) -> Call[StudyStatus]:
        return Call(StudyStatus)

    @post("/v1/studies/{name}/cancel")
    def cancel(self, name: str) -> Call[StudyStatus]:
        return Call(StudyStatus)

    @delete("/v1/studies/{name}")
    def delete(self, name: str) -> Call[None]:
        """The study can be restored until it is purged."""
        return Call(type(None))

    @post("/v1/studies/{name}/restore")
    def restore(self, name: str) -> Call[StudyStatus]:
        return Call(StudyStatus)

    @post("/v1/studies/{name}/purge")
    def purge(self, name: str) -> Call[None]:
        """All that was deleted under this name is gone for good."""
        return Call(type(None))

    @get("/v1/studies/{name}/best")
    def best(self, name: str, k: int = 5, stage: str | None = None, max_parameters: int | None = None) -> Call[Best]:
        """Without `stage`, of the furthest stage that the study has reached."""
        return Call(Best, params=given(k=k, stage=stage, max_parameters=max_parameters))

    @get("/v1/studies/{name}/best")
    def export(self, name: str, form: str, rank: int = 1, stage: str | None = None) -> Call[str]:
        """The best configurations as `yaml`, or that of the rank as a `torch` or `keras` script."""
        return Call(str, params=given(format=form, rank=rank, stage=stage))

    @get("/v1/studies/{name}/importances")
    def importances(self, name: str) -> Call[Importances]:
        return Call(Importances)

    @get("/v1/studies/{name}/report")
    def report(self, name: str) -> Call[Report]:
        """At any time of the study's life."""
        return Call(Report)

    @get("/v1/studies/{name}/report")
    def report_page(self, name: str) -> Call[str]:
        """The same as one page of HTML that needs nothing else."""
        return Call(str, headers={"Accept": "text/html"})

    @get("/v1/studies/{name}/plots/{kind}")
    def plot(self, name: str, kind: str, params: Sequence[str] = ()) -> Call[dict[str, Any]]:
        """A plotly figure: `data` and `layout`."""
        return Call(dict[str, Any], params={"params": list(params)})

    @get("/v1/studies/{name}/pareto")
    def pareto(self, name: str, limit: int = 100) -> Call[Front]:
        return Call(Front, params={"limit": limit})

    @listing("/v1/studies/{name}/deliveries")
    def deliveries(self, name: str) -> Call[Delivery]:
        """The study's webhooks, the newest first."""
        return Call(Delivery)

    @post("/v1/studies/{name}/deliveries/{delivery_id}/send-again")
    def send_again(self, name: str, delivery_id: str) -> Call[Delivery]:
        return Call(Delivery)
