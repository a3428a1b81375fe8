"""`tuner token`: who may use the service, and as what."""

from itertools import islice
from typing import Annotated

import typer

from tuner.cli.door import open_door
from tuner.cli.tables import print_table, tokens_table

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Who uses it; the audit log tells it.")],
    role: Annotated[str, typer.Option(help="reader (read, predict, estimate) or operator (everything).")],
    expires: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Without it, it ends when it is revoked.")
    ] = None,
) -> None:
    """Make a token and print it, alone and once; only its hash is kept.

    From the first token on the service asks everybody for one; a service that runs does so within a second.
    """
    with open_door(makes_database=True) as client:
        made = client.create_token(name, role, expires)
    typer.echo(made.token)
    until = f", until {made.expires_at}" if made.expires_at is not None else ""
    typer.echo(f"This is the {made.role} token {made.name}{until}; it is not shown again.", err=True)


@app.command("list")
def list_tokens(limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50) -> None:
    """List tokens, the newest first, revoked ones too."""
    with open_door() as client:
        print_table(tokens_table(islice(client.tokens(), limit)))


@app.command()
def revoke(name: Annotated[str, typer.Argument()]) -> None:
    """Revoke a token: within a second it opens nothing, nor do the sessions that began with it."""
    with open_door() as client:
        client.revoke_token(name)
    typer.echo(f"{name} is revoked", err=True)
