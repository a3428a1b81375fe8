from tuner.client.answers import Model, Predictions
from tuner.client.method import Call, get, listing, post


class ModelCalls:
    @listing("/v1/models")
    def models(self) -> Call[Model]:
        return Call(Model)

    @get("/v1/models/{model_id}")
    def model(self, model_id: str) -> Call[Model]:
        return Call(Model)

    @get("/v1/models/{model_id}/download")
    def download(self, model_id: str) -> Call[bytes]:
        """The model's zip archive: weights, configuration, card."""
        return Call(bytes)

    @post("/v1/models/{model_id}/predict")
    def predict(self, model_id: str, png: bytes) -> Call[Predictions]:
        return Call(Predictions, content=png, headers={"Content-Type": "image/png"})
