"""A study's report in the terminal: the verdict, the numbers, what to do next."""

import typer

from tuner.cli.configuration import in_words
from tuner.cli.facts import print_facts
from tuner.cli.tables import NONE, findings_table, models_reported_table, print_table, share
from tuner.client.answers import Report


def print_report(report: Report) -> None:
    best, gain, cost = report.best, report.gain, report.cost
    typer.echo(f"{report.headline}\n")
    print_facts(
        study=f"{report.study}, {report.state}",
        trials=f"{report.trials.total}: {report.trials.complete} complete, {report.trials.pruned} pruned",
        best=None if best is None else f"{share(best.value)} by {best.stage}, which has chosen it",
        at=None if best is None else in_words(best.hyperparameters),
        gain=f"{gain.verdict}{_points(gain.over_default, gain.interval)}",
        tau=None if report.tau.value is None else f"{report.tau.value:.2f}, {report.tau.verdict}",
        optimism=None
        if report.optimism is None
        else _points(report.optimism.value, report.optimism.interval).strip(": "),
        cost=f"{_seconds(cost.cpu_seconds)} of CPU, {_seconds(cost.wall_seconds)} of waiting",
        test_set=f"opened {report.test_ledger.opened} times by all studies",
    )
    if report.ensemble.single is not None:
        typer.echo()
        print_table(models_reported_table(report.ensemble))
        if report.ensemble.words is not None:
            typer.echo(f"Ensemble: {report.ensemble.words}.")
    if report.diagnosis is not None:
        typer.echo(f"\n{report.diagnosis.words}")
        print_table(findings_table(report.diagnosis.findings))
        for blame in report.diagnosis.blame:
            typer.echo(f"* {blame.words}")
        for edge in report.diagnosis.edges:
            typer.echo(f"* {edge.words}")


def _seconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:,.0f} s"


def _points(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    span = "" if interval is None else " ({:+.2f} to {:+.2f})".format(*(100 * end for end in interval))
    return f": {100 * value:+.2f} points{span}"
