from tuner.client.answers import Trial, TrialWithCurves
from tuner.client.bodies import Body, given
from tuner.client.method import Call, delete, get, listing, post


class TrialCalls:
    @listing("/v1/studies/{name}/trials")
    def trials(self, name: str, state: str | None = None, sort: str = "number") -> Call[Trial]:
        return Call(Trial, params=given(state=state, sort=sort))

    @get("/v1/studies/{name}/trials/{number}")
    def trial(self, name: str, number: int) -> Call[TrialWithCurves]:
        return Call(TrialWithCurves)

    @post("/v1/studies/{name}/trials")
    def enqueue_trial(self, name: str, hyperparameters: Body) -> Call[Trial]:
        """What is left out is as the study's space fixes it, or else as in the default configuration."""
        return Call(Trial, json={"hyperparameters": hyperparameters})

    @post("/v1/studies/{name}/trials/{number}/void")
    def void_trial(self, name: str, number: int, reason: str | None = None) -> Call[Trial]:
        return Call(Trial, json={"reason": reason})

    @delete("/v1/studies/{name}/trials/{number}/void")
    def restore_trial(self, name: str, number: int) -> Call[Trial]:
        """It is void no more."""
        return Call(Trial)
