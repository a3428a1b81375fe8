"""The terminal's door: `tuner`. What the service can do goes through its client; only `serve` and `run` start processes."""


def main() -> None:
    """As `tuner.cli.commands.main` says."""
    # Imported late: every worker process imports the main program again, and needs nothing of a terminal.
    from tuner.cli import commands

    commands.main()
