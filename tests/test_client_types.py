"""What mypy says of the two clients. `make lint` checks it; nothing here runs."""

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, assert_type

from tuner.client import AsyncClient, Client
from tuner.client.answers import Dataset, Event, StudyPosted, StudyStatus, Trial
from tuner.specs.study import StudySpec

if TYPE_CHECKING:

    def blocking(client: Client) -> None:
        assert_type(client.create_study(StudySpec(name="a")), StudyPosted)
        assert_type(client.study(name="a"), StudyStatus)
        assert_type(client.wait("a", on_progress=lambda status: print(status.state)), StudyStatus)  # noqa: T201
        assert_type(client.trials("a", sort="-value"), Generator[Trial, None, None])
        assert_type(client.events("a", after=0), Generator[Event, None, None])
        assert_type(client.plot("a", "history"), dict[str, Any])
        assert_type(client.download("a"), bytes)
        assert_type(client.upload_dataset("a", {"a.npz": b""}), Dataset)
        assert_type(client.export("a", "yaml"), str)
        client.study()  # type: ignore[call-arg]
        client.study(1)  # type: ignore[arg-type]
        client.study("a", nmae="b")  # type: ignore[call-arg]
        print(client.study("a").stat)  # type: ignore[attr-defined]  # noqa: T201

    async def awaiting(client: AsyncClient) -> None:
        assert_type(await client.create_study(StudySpec(name="a")), StudyPosted)
        assert_type(await client.study(name="a"), StudyStatus)
        assert_type(await client.wait("a"), StudyStatus)
        assert_type(client.trials("a", sort="-value"), AsyncGenerator[Trial, None])
        assert_type([event async for event in client.events("a")], list[Event])
        print(client.study("a").state)  # type: ignore[attr-defined]  # noqa: T201
        await client.study()  # type: ignore[call-arg]
        for _ in client.trials("a"):  # type: ignore[attr-defined]
            pass
