from tuner.client.bodies import Body, body
from tuner.client.method import Call, post
from tuner.specs.estimate import Estimate
from tuner.specs.study import StudySpec


class EstimateCalls:
    @post("/v1/estimates")
    def estimate(self, spec: StudySpec | Body) -> Call[Estimate]:
        """What the study would cost. Refused with 503 while nothing was timed yet: a runner does so then, within seconds."""
        return Call(Estimate, json=body(spec))
