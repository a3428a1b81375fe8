from tuner.client.answers import Completed, ShouldStop, Suggested
from tuner.client.method import Call, get, post
from tuner.specs.telling import CompleteCall, Measurement, SuggestCall


class OutsideCalls:
    @post("/v1/studies/{name}/suggest")
    def suggest(self, name: str, client_id: str, count: int = 1) -> Call[Suggested]:
        """Trials of an outside study to evaluate; first those that this `client_id` has already."""
        return Call(Suggested, json=SuggestCall(client_id=client_id, count=count).model_dump())

    @post("/v1/studies/{name}/trials/{number}/measure")
    def measure(self, name: str, number: int, step: int, value: float) -> Call[ShouldStop]:
        """Report an intermediate value, which keeps the lease."""
        return Call(ShouldStop, json=Measurement(step=step, value=value).model_dump())

    @get("/v1/studies/{name}/trials/{number}/should-stop")
    def should_stop(self, name: str, number: int) -> Call[ShouldStop]:
        return Call(ShouldStop)

    @post("/v1/studies/{name}/trials/{number}/complete")
    def complete(self, name: str, number: int, how: CompleteCall) -> Call[Completed]:
        """Tell how a trial ended."""
        return Call(Completed, json=how.model_dump(exclude_defaults=True))
