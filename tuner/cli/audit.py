"""`tuner audit`: who has changed what, and when."""

from itertools import islice
from typing import Annotated

import typer

from tuner.cli.door import open_door
from tuner.cli.tables import audit_table, print_table


def audit(
    who: Annotated[str | None, typer.Option(help="A token's name, local:USER, token-file or anonymous.")] = None,
    path: Annotated[str | None, typer.Option(help="How the address begins, as in /v1/studies/mnist-quick.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> None:
    """List the changes that were asked for, the newest first."""
    with open_door() as client:
        print_table(audit_table(islice(client.audit(who, path), limit)))
