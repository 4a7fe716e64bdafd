"""Training features are the board's own, whatever computes them, and know nothing a board could not know."""

import numpy as np
import pytest

from sentill_host.models import simulate, transactions
from sentill_host.models.training import dataset

WEEK_S = 7 * 86_400


@pytest.fixture(scope="module")
def data() -> transactions.Transactions:
    table = simulate.traffic(simulate.TrafficOptions(cards=60, terminals=40, days=45, rate=2.0, frauds=True, seed=5))
    return transactions.from_table(table)


def test_features_equal_those_of_a_replay_to_the_board(data: transactions.Transactions) -> None:
    from array import array

    from sentill.risk.features import History, N

    rows = dataset.compute(data)
    sent = transactions.requests(data, data.busiest(5))
    for requests in sent.values():
        history, x = History(), array("h", bytes(2 * N))
        for kind, request in transactions.steps(requests):
            if kind == "P":
                assert history.feedback(request.ref)
                continue
            history.fill(x, request.t, request.amt, request.pm, request.pn, request.ph)
            history.add(request.ref, request.t, request.amt, request.pm, request.pn, request.ph)
            assert list(x) == rows[request.ref].tolist()


def test_the_number_of_processes_changes_nothing(data: transactions.Transactions) -> None:
    seen = []
    rows = dataset.compute(data, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert (rows == dataset.compute(data)).all()
    assert seen[-1][0] == seen[-1][1]


def test_features_do_not_know_labels_of_the_last_seven_days_nor_the_future(data: transactions.Transactions) -> None:
    moment = int(data.time[len(data) // 2])
    changed = transactions.Transactions(**{**vars(data), "fraud": data.fraud ^ (data.time > moment - WEEK_S)})
    before = data.time <= moment
    assert (dataset.compute(changed)[before] == dataset.compute(data)[before]).all()
    cut = transactions.Transactions(
        *(getattr(data, name)[before] for name in ("time", "card", "terminal", "amount", "fraud")),
        data.card_ids,
        data.terminal_ids,
    )
    assert (dataset.compute(cut) == dataset.compute(data)[before]).all()
    after = ~before
    assert (dataset.compute(changed)[after] != dataset.compute(data)[after]).any(), "labels do matter later"


def test_without_profiles_the_card_features_are_zero(data: transactions.Transactions) -> None:
    rows = dataset.compute(data, with_profile=False)
    assert not rows[:, 9:].any()
    assert (rows[:, :8] == dataset.compute(data)[:, :8]).all()


def test_early_resolution_does_not_leak_the_label() -> None:
    time = np.arange(20) * 3_600
    amount = np.full(20, 500)
    rows = dataset.terminal_features(time, amount, np.ones(20, bool), np.zeros((20, 3), int), capacity=4)
    assert rows[-1, 2] == 15, "resolved as genuine: no news had come"
    assert not rows[:, 1].any()
