"""The quality table as text, what it must show, and what the figures of a GPU must."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from measures import Row

BEST_FACCENT = "faccent, best"
SLACK = 0.01
"""Shares below which a difference between two rows counts as none."""

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("rise", "rise", ".2f"),
    ("log_rise", "log p rise", ".2f"),
    ("share", "raised", ".0%"),
    ("transfer", "transfer, nats", ".2f"),
    ("transfer_logit", "transfer, logit", ".2f"),
    ("auroc", "AUROC", ".3f"),
    ("pointing", "pointing", ".2f"),
    ("coherence", "coherence", ".3f"),
    ("ssim", "SSIM", ".3f"),
    ("distance", "latent", ".3f"),
    ("rms", "rms", ".3f"),
    ("seconds", "s / pair", ".2f"),
)
HIGHER = ("rise", "log_rise", "share", "transfer", "transfer_logit", "auroc", "pointing", "coherence", "ssim")
LOWER = ("distance", "seconds")
FAST_KEEPS = 0.9
FAST_COSTS = 1 / 3
PICTURES_A_SECOND = 5.0
"""Of ResNet-50 on an H200."""
TOGETHER = 6.0
"""How many times as fast as a call for each one call of 64 pairs is to be."""
AGAINST_FACCENT = 40.0
"""How many pictures are to be made while faccent makes one."""


@dataclass(frozen=True)
class Verdict:
    """One line of the end: what was expected, whether it holds, and the figures."""

    text: str
    holds: bool

    def __str__(self) -> str:
        return f"{'PASS' if self.holds else 'FAIL'}  {self.text}"


def show(console: Console, title: str, rows: Sequence["Row"]) -> None:
    """Print the table."""
    table = Table("method", *(heading for _, heading, _ in COLUMNS), title=title)
    for row in rows:
        table.add_row(row.name, *cells(row))
    console.print(table)


def cells(row: "Row") -> list[str]:
    """Return the row's figures as text; a dash where there is none."""
    values = ((getattr(row, name), form) for name, _, form in COLUMNS)
    return ["–" if value is None else format(value, form) for value, form in values]


def to_markdown(title: str, rows: Sequence["Row"], verdicts: Sequence[Verdict]) -> str:
    """Return the table and the verdicts as Markdown."""
    lines = [f"## {title}", "", "| method | " + " | ".join(heading for _, heading, _ in COLUMNS) + " |"]
    lines.append("| --- |" + " --- |" * len(COLUMNS))
    lines += [f"| {row.name} | " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {verdict}" for verdict in verdicts), ""])


def verdicts(rows: Sequence["Row"]) -> list[Verdict]:
    """Compare `natural` with faccent's best setting, and `fast` with `natural`."""
    by_name = {row.name: row for row in rows}
    natural, fast, best = (by_name.get(name) for name in ("natural", "fast", BEST_FACCENT))
    found: list[Verdict] = []
    if natural and best:
        found += against(natural, best)
    if natural and fast:
        found += cheap(fast, natural)
    return found


def against(ours: "Row", theirs: "Row") -> list[Verdict]:
    """Tell for each column whether ours is at least as good, and whether most are better."""
    found, better, compared = [], 0, 0
    for name, heading, form in COLUMNS:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if name not in (*HIGHER, *LOWER) or mine is None or other is None:
            continue
        gain = (mine - other if name in HIGHER else other - mine) / max(abs(other), 1e-9)
        compared += 1
        better += gain > SLACK
        text = f"{ours.name}: {heading} {mine:{form}} at least as good as {theirs.name}'s {other:{form}}"
        found.append(Verdict(text, gain >= -SLACK))
    most = f"{ours.name} is better than {theirs.name} on {better} of {compared} columns: most"
    return [*found, Verdict(most, 2 * better > compared)]


def cheap(fast: "Row", natural: "Row") -> list[Verdict]:
    """Tell whether `fast` keeps enough of natural's rise and transfer at a third of its cost."""
    found = []
    for name, heading in (("rise", "rise"), ("transfer", "transfer, nats"), ("transfer_logit", "transfer, logit")):
        mine, other = getattr(fast, name), getattr(natural, name)
        if mine is not None and other:
            found.append(
                Verdict(
                    f"fast keeps {mine / other:.0%} of natural's {heading}: ≥ {FAST_KEEPS:.0%}",
                    mine >= FAST_KEEPS * other,
                )
            )
    if fast.seconds is not None and natural.seconds:
        cost = fast.seconds / natural.seconds
        found.append(Verdict(f"fast costs {cost:.0%} of natural: ≤ {FAST_COSTS:.0%}", cost <= FAST_COSTS))
    return found


def on_a_gpu(speed: float, together: float, faccent_s: float | None) -> list[Verdict]:
    """Tell whether pictures a second, the gain of one call and that over faccent's seconds a picture are as wanted."""
    found = [
        Verdict(f"{speed:.2f} pictures a second: ≥ {PICTURES_A_SECOND:g} on an H200", speed >= PICTURES_A_SECOND),
        Verdict(f"one call of all pairs is {together:.1f} × as fast as one each: ≥ {TOGETHER:g}", together >= TOGETHER),
    ]
    if faccent_s is not None:
        ratio = speed * faccent_s
        found.append(Verdict(f"{ratio:.1f} × as fast as faccent: ≥ {AGAINST_FACCENT:g}", ratio >= AGAINST_FACCENT))
    return found
