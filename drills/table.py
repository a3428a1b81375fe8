"""The outcomes as a table, in Markdown."""

from collections import Counter
from collections.abc import Sequence

from drills.finding import HEADINGS
from drills.suite import Outcome


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [["drill", "faults", *HEADINGS.values(), "seconds", ""], *map(_row, outcomes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _row(outcome: Outcome) -> list[str]:
    if outcome.missing is not None:
        return [outcome.drill, *["–"] * (len(HEADINGS) + 2), f"skipped: {outcome.missing}"]
    counts = Counter(finding.kind for finding in outcome.findings)
    figures = [outcome.faults, *(counts[kind] for kind in HEADINGS), round(outcome.seconds)]
    return [outcome.drill, *map(str, figures), "; ".join(outcome.notes)]
