"""What a run looks like while it happens: a table on a terminal, a line per board elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

_MOST_ROWS = 24
_LEAST_S = 0.1
_STYLES = {"done": "green", "failed": "red", "held": "yellow"}


@dataclass
class _Line:
    label: str
    step: str = "waiting"
    done: int = 0
    total: int = 0
    state: str = ""
    since_s: float = 0.0


class View:
    """A campaign.Watcher that shows what it sees. `labels` are the jobs' names for people."""

    def __init__(self, console: Console, title: str, labels: Mapping[str, str]):
        self._console = console
        self._title = title
        self._lines = {key: _Line(label or key) for key, label in labels.items()}
        self._live: Live | None = None
        self._drawn_s = 0.0

    def step(self, job: str, step: str, done: int, total: int) -> None:
        """See campaign.Watcher."""
        line = self._lines.setdefault(job, _Line(job))
        if not line.since_s or line.state:
            line.since_s, line.state = time.monotonic(), ""
        line.step, line.done, line.total = step, done, total
        self._draw()

    def ended(self, job: str, state: str, text: str) -> None:
        """See campaign.Watcher."""
        line = self._lines.setdefault(job, _Line(job))
        line.state, line.step, line.done, line.total = state, text, 0, 0
        self._draw()
        if self._live is None:
            ended = sum(bool(line.state) for line in self._lines.values())
            self._console.print(f"{ended}/{len(self._lines)} {line.label} {state}", markup=False)

    def show(self, live: Live) -> None:
        """Be drawn by `live` whenever something happens."""
        self._live = live

    def _draw(self) -> None:
        if self._live is not None and time.monotonic() - self._drawn_s > _LEAST_S:
            self._drawn_s = time.monotonic()
            self._live.refresh()

    def __rich__(self) -> Table:
        """The boards being worked on, the last ones that ended, and how many wait."""
        lines = list(self._lines.values())
        ended = [line for line in lines if line.state]
        active = [line for line in lines if not line.state and line.since_s]
        counts = {state: sum(line.state == state for line in ended) for state in _STYLES}
        told = [f"[{_STYLES[state]}]{count} {state}[/]" for state, count in counts.items() if count]
        told += [f"{len(active)} at work", f"{len(lines) - len(ended) - len(active)} waiting"]
        table = Table(
            "board", "", "step", "time",
            title=f"{escape(self._title)}: {', '.join(told)}", title_justify="left", box=None, title_style="bold",
        )  # fmt: skip
        room = max(0, _MOST_ROWS - len(active))
        shown = sorted(ended, key=lambda line: line.state != "failed")[:room] + active[:_MOST_ROWS]
        for line in [line for line in lines if line in shown]:
            if line.state:
                mark = f"[{_STYLES[line.state]}]{line.state}[/]"
                table.add_row(escape(line.label), mark, escape(line.step), "")
            else:
                bar = ProgressBar(total=line.total or None, completed=line.done, width=20, pulse=not line.total)
                table.add_row(escape(line.label), bar, escape(line.step), f"{time.monotonic() - line.since_s:.0f} s")
        return table


@contextmanager
def live(console: Console, title: str, labels: Mapping[str, str]) -> Iterator[View]:
    """Show a View while the block runs; on a terminal it is gone afterwards."""
    view = View(console, title, labels)
    if not console.is_terminal:
        yield view
        return
    # Without a thread of its own: the workers are forked from this process.
    with Live(view, console=console, transient=True, auto_refresh=False) as shown:
        view.show(shown)
        yield view
