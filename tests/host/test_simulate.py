"""The traffic generator: seeded, within its documented distributions, readable by the replay."""

import collections
import dataclasses

import numpy as np
import pytest

from sentill_host.errors import UsageError
from sentill_host.models import simulate, transactions

SMALL = simulate.TrafficOptions(cards=600, terminals=12, days=60, rate=1.0, seed=7)


@pytest.fixture(scope="module")
def table():
    return simulate.traffic(SMALL)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(table):
    assert simulate.traffic(SMALL).equals(table)
    assert not simulate.traffic(dataclasses.replace(SMALL, seed=8)).equals(table)


def test_columns_are_in_range_and_time_ordered(table):
    time_s = table["time_s"].to_numpy()
    assert (np.diff(time_s) >= 0).all()
    assert time_s.min() >= 0
    assert table["amount_cents"].to_numpy().min() >= 50
    assert (table["fraud"].to_numpy() == (table["scenario"].to_numpy() > 0)).all()
    assert (table["tx_id"].to_numpy() == np.arange(table.num_rows)).all()


def test_volume_and_amounts_follow_the_documentation(table):
    genuine = table.filter(np.asarray(table["scenario"]) == 0)
    expected = SMALL.cards * SMALL.days * SMALL.rate
    assert 0.85 * expected < table.num_rows < 1.1 * expected, (table.num_rows, expected)
    assert 2_500 < np.median(genuine["amount_cents"]) < 4_000
    hours = np.asarray(genuine["time_s"]) % 86_400 // 3_600
    at_night, by_day = (hours < 6).mean(), ((hours >= 9) & (hours < 21)).mean()
    assert at_night < 0.05 < 0.75 < by_day, (at_night, by_day)


def test_every_fraud_pattern_occurs_and_looks_like_itself(table):
    scenario, cents = np.asarray(table["scenario"]), np.asarray(table["amount_cents"])
    assert set(collections.Counter(scenario.tolist())) == {0, 1, 2, 3, 4}
    assert cents[scenario == 1].min() >= 22_050
    assert cents[scenario == 4].max() <= 300
    terminal, time_s = np.asarray(table["terminal_id"]), np.asarray(table["time_s"])
    for hit in np.unique(terminal[scenario == 2]):
        days = np.ptp(time_s[(scenario == 2) & (terminal == hit)]) / 86_400
        assert days > 3, (hit, days)
    assert 0.002 < (scenario > 0).mean() < 0.15


def test_without_frauds_nothing_is_fraud():
    options = simulate.TrafficOptions(cards=50, terminals=3, days=10, frauds=False)
    assert not np.asarray(simulate.traffic(options)["fraud"]).any()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_come_back_as_they_were_written(table, tmp_path, suffix):
    path = tmp_path / f"traffic.{suffix}"
    simulate.write(table, path)
    data = transactions.read(path)
    assert (data.time == table["time_s"].to_numpy()).all()
    assert (data.amount == table["amount_cents"].to_numpy()).all()
    assert [data.terminal_ids[i] for i in data.terminal[:50]] == [str(v) for v in table["terminal_id"][:50].to_pylist()]


def test_bad_requests_are_named(table, tmp_path):
    with pytest.raises(UsageError, match="suffix"):
        simulate.write(table, tmp_path / "traffic.xlsx")
    with pytest.raises(UsageError, match="cards"):
        simulate.TrafficOptions(cards=0).check()
    with pytest.raises(UsageError, match="million"):
        simulate.TrafficOptions(cards=2_000_000, days=3_650).check()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        simulate.write(table, tmp_path / "file" / "traffic.csv")
