"""One thing's facts, a line each."""

import typer


def print_facts(**facts: str | None) -> None:
    """Facts that are None are left out."""
    for name, fact in facts.items():
        if fact is not None:
            typer.echo(f"{name.replace('_', ' '):<11}{fact}")
