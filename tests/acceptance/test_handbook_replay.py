"""Real input: the 20 busiest terminals of the Fraud-Detection-Handbook data over the UART of virtual boards.

Their last 8 weeks go through deployed nodes with the acquirer's profiles and 7-day feedback; every verdict, score,
threshold, model and reason must equal what the same modules compute in CPython. The data are not part of the
repository: $SENTILL_DATA names their folder, else ../shared/data beside the repository is tried.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sentill_host.board.link import Link
from sentill_host.deploy import deploy
from sentill_host.models import replay, transactions
from sentill_host.models.oracle import Reference
from sentill_host.node.client import NodeClient
from sentill_host.virtual import VirtualBoards

FOLDER = Path(os.environ.get("SENTILL_DATA") or Path(__file__).parents[3] / "shared" / "data")
FILE = FOLDER / "handbook_transactions.parquet"
TERMINALS = 20
WEEKS_S = 8 * 7 * 86_400
AT_ONCE = 5

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=f"{FILE} is absent; set SENTILL_DATA to its folder")


def play(port: str, sent: list[transactions.Request]) -> replay.Report:
    with Link(port) as link:
        return replay.play(NodeClient(link), transactions.steps(sent))


def test_the_busiest_terminals_are_judged_on_the_board_as_on_the_pc():
    data = transactions.read(FILE)
    terminals = data.busiest(TERMINALS)
    since = int(data.time[-1]) - WEEKS_S
    sent = transactions.requests(data, terminals, since)
    reports: dict[int, replay.Report] = {}
    for first in range(0, TERMINALS, AT_ONCE):
        part = terminals[first : first + AT_ONCE]
        # A fresh board each: its history must start empty, as the reference's does.
        with VirtualBoards(len(part)) as boards, ThreadPoolExecutor(len(part)) as pool:
            results = deploy.deploy([board.usb for board in boards])
            assert not [result.error for result in results if result.error]
            for terminal, report in zip(
                part, pool.map(play, [b.uart for b in boards], [sent[t] for t in part]), strict=True
            ):
                reports[terminal] = report
    table = np.zeros((2, 3), int)
    for terminal in terminals:
        report = reports[terminal]
        assert report.unanswered == 0, report.summary()
        assert not report.refused, report.summary()
        assert report.feedback_late == 0, report.summary()
        wanted = list(Reference().judgements(transactions.steps(sent[terminal])))
        assert [answer.judgement for answer in report.answers] == wanted
        table += np.array([list(row.values()) for row in report.confusion().values()])
    answers = [answer for report in reports.values() for answer in report.answers]
    scores = {answer.score for answer in answers}
    models = {answer.model for answer in answers}
    fed_back = sum(report.feedback for report in reports.values())
    print(
        f"{TERMINALS} terminals, {len(answers):,} transactions, {fed_back} frauds fed back: all bit-identical; "
        f"{len(scores)} different scores, models {sorted(models)}; "
        f"fraud {table[0].tolist()} genuine {table[1].tolist()} (approve, review, decline)"
    )
    # Sameness would mean little if the node answered the same thing to everyone.
    assert len(scores) > 3
    assert table[:, 1:].sum() > 0
