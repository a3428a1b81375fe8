"""`tuner backup` and `tuner restore`: the whole installation in one archive, and back."""

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.door import check_database
from tuner.cli.ownership import owning
from tuner.client.address import Address
from tuner.errors import InvalidInput
from tuner.settings import Settings


def backup(file: Annotated[Path, typer.Argument(help="The archive to write; nothing may be there yet.")]) -> None:
    """Write database, uploaded data sets and models into one archive; whatever runs goes on."""
    settings = _on_this_machine("tuner backup")
    check_database(settings)
    from tuner.store.backup import back_up  # half a second, for which no other command should wait

    manifest = back_up(settings, file)
    for name in manifest.missing:
        typer.echo(f"tuner: the files of model {name} are not there, so they are not in the backup", err=True)
    typer.echo(f"{file}: {_in_words(manifest.counts)}, {sum(entry.size for entry in manifest.files.values()):,} bytes")


def restore(file: Annotated[Path, typer.Argument(help="An archive of `tuner backup`.")]) -> None:
    """Fill an empty data folder and an empty database from an archive; running jobs go on with the next `tuner serve`."""
    settings = _on_this_machine("tuner restore")
    from tuner.store import backup
    from tuner.store.archive import open_archive

    with open_archive(file) as archive, owning(settings, "`tuner restore`"):
        backup.restore(settings, archive)
    manifest = archive.manifest
    told = f"as of {manifest.created_at}, by tuner {manifest.tuner_version}"
    typer.echo(f"{settings.data_dir}: {_in_words(manifest.counts)}, {told}")


def _on_this_machine(command: str) -> Settings:
    """The settings of the installation here. Raises InvalidInput where the command line is one for a service elsewhere."""
    if url := Address().url:
        rule = f"`{command}` works on a data folder, on the machine that has it"
        raise InvalidInput(f"{rule}, but TUNER_URL names a service, {url}; run it there, without TUNER_URL")
    return Settings()


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
