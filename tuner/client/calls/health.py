import httpx

from tuner.client.answers import Health, Ready
from tuner.client.flow import Ask, Flow
from tuner.client.method import Call, Method, get


class HealthCalls:
    @get("/healthz")
    def health(self) -> Call[Health]:
        """That the API process answers."""
        return Call(Health)

    @get("/readyz")
    def ready(self) -> Call[Ready]:
        """That the database and a runner can work; else Refused with 503, after some attempts."""
        return Call(Ready)

    @Method
    def is_ready(self) -> Flow[bool]:
        """Whether the database answers and a runner is alive; asked once."""
        came = yield Ask("GET", "/readyz")
        return isinstance(came, httpx.Response) and came.is_success

    @get("/metrics")
    def metrics(self) -> Call[str]:
        """In Prometheus' text form."""
        return Call(str)
