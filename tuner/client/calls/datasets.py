from collections.abc import Mapping
from typing import IO

from tuner.client.answers import Dataset
from tuner.client.method import Call, delete, get, listing, post

UPLOAD_SECONDS = 600.0
"""Between two bytes of it: the service answers when it has checked every image."""


class DatasetCalls:
    @listing("/v1/datasets")
    def datasets(self) -> Call[Dataset]:
        """The newest first, the built-in one last."""
        return Call(Dataset)

    @post("/v1/datasets")
    def upload_dataset(self, name: str, files: Mapping[str, bytes | IO[bytes]]) -> Call[Dataset]:
        """`files` by their names: IDX files, told apart by `train` and `t10k` or `test` in them, or one .npz. What can be read
        is read as it is sent, and must be able to be read again."""
        parts = [("files", file) for file in files.items()]
        return Call(Dataset, data={"name": name}, files=parts, timeout=UPLOAD_SECONDS)

    @get("/v1/datasets/{name}")
    def dataset(self, name: str) -> Call[Dataset]:
        return Call(Dataset)

    @delete("/v1/datasets/{name}")
    def delete_dataset(self, name: str) -> Call[None]:
        """Refused while a study or a schedule uses it."""
        return Call(type(None))
