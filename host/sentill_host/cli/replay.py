"""`sentill replay`: play a terminal and its acquirer over a node's UART."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sentill_host.board.link import Link
from sentill_host.cli.keys import KeysOption, PasswordOption, keys_at_hand
from sentill_host.cli.output import err, out, print_json, print_table
from sentill_host.errors import RefusedError, VerifyError
from sentill_host.models import replay as player
from sentill_host.models import transactions
from sentill_host.node import access
from sentill_host.node.client import NodeClient

_COLUMNS = transactions.Columns()


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Transactions: .csv or .parquet.")],
    uart: Annotated[str, typer.Option(help="Serial port wired to the node's UART.")],
    terminal: Annotated[str, typer.Option(help="Terminal id to play; the busiest when not given.")] = "",
    speed: Annotated[float, typer.Option(min=0, help="Simulated seconds per second; 0 is as fast as it goes.")] = 0.0,
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many transactions; 0 is all.")] = 0,
    baudrate: Annotated[int, typer.Option(help="Speed of the UART.")] = 115_200,
    time_column: Annotated[str, typer.Option(help="Column: seconds.")] = _COLUMNS.time,
    card_column: Annotated[str, typer.Option(help="Column: card or customer.")] = _COLUMNS.card,
    terminal_column: Annotated[str, typer.Option(help="Column: terminal.")] = _COLUMNS.terminal,
    amount_column: Annotated[str, typer.Option(help="Column: amount in cents.")] = _COLUMNS.amount,
    fraud_column: Annotated[str, typer.Option(help="Column: 1 for fraud.")] = _COLUMNS.fraud,
    keys: KeysOption = None,
    password_file: PasswordOption = None,
    json: Annotated[bool, typer.Option("--json", help="Summary as JSON on stdout.")] = False,
) -> None:
    """Ask a node about every transaction of one terminal and compare its verdicts with the labels.

    The cards' profiles go along with each request, and frauds are fed back seven days later, as an acquirer does.
    Requests carry card tokens, never numbers. A board with keys takes feedback only when it is signed with them. Exit
    code 4 when requests or feedback stay without an answer or are refused.
    """
    columns = transactions.Columns(time_column, card_column, terminal_column, amount_column, fraud_column)
    data = transactions.read(file, columns)
    number = data.terminal_number(terminal) if terminal else data.busiest()[0]
    sent = transactions.requests(data, [number])[number]
    sent = sent[:limit] if limit else sent
    bars = Progress(
        TextColumn("terminal {task.fields[terminal]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=err, transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with Link(uart, baudrate) as link:
        client = NodeClient(link)
        _sign(client, keys, password_file)
        with bars:
            task = bars.add_task("replay", total=len(sent), terminal=data.terminal_ids[number])
            report = player.play(client, transactions.steps(sent), speed, lambda r: bars.update(task, completed=r.sent))
    if json:
        print_json({"file": str(file), "terminal": data.terminal_ids[number], **report.summary()})
    else:
        out.print(f"terminal {data.terminal_ids[number]}: {report.sent:,} transactions in {report.seconds:.1f} s")
        show(report)
    if report.unanswered or report.refused:
        raise VerifyError(
            f"{report.unanswered} frames without an answer, {sum(report.refused.values())} refused",
            "see the counts above",
        )


def _sign(client: NodeClient, keys: Path | None, password_file: Path | None) -> None:
    """Have `client` sign for a board with keys. Raises AccessError when none are at hand."""
    try:
        state = access.challenge(client)
    except RefusedError:
        return  # a node that knows no keys
    if not state.generation:
        return
    opened = keys_at_hand(keys, password_file)
    if opened is None:
        raise access.AccessError(
            f"{client.link.port}: the board has keys of its own and takes feedback only when it is signed",
            "name the fleet's key file with --keys or $SENTILL_KEYS",
        )
    access.sign(client, opened, state)


def show(report: player.Report) -> None:
    """Print a replay's verdicts against the labels, its latencies and what went wrong."""
    table = Table("", *player.VERDICTS, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for label, row in report.confusion().items():
        table.add_row(label, *(f"{row[verdict]:,}" for verdict in player.VERDICTS))
    table.add_row("all", *(f"{count:,}" for count in report.verdicts().values()), style="bold")
    print_table(table)
    for name, title in (("round_trip_us", "round trip"), ("device_us", "on the device")):
        values = report.latency()[name]
        out.print(f"{title}: p50 {values['p50'] / 1000:.2f} ms, p99 {values['p99'] / 1000:.2f} ms")
    out.print(f"feedback: {report.feedback} frauds, of which {report.feedback_late} unknown to the node")
    if report.feedback_late:
        # More transactions in 7 days than the node keeps: news of the oldest frauds comes too late for it.
        out.print("[dim]a terminal this busy needs a larger `history` in the node's configuration (up to 2048)[/]")
    if report.resent or report.unanswered or report.refused:
        out.print(f"sent again: {report.resent}, unanswered: {report.unanswered}, refused: {dict(report.refused)}")
