"""Dask computes the same features from partitions, and LightGBM's Dask interface a usable model. One local cluster."""

import numpy as np
import pandas as pd
import pytest

from sentill.risk.features import NAMES
from sentill_host.models import simulate, transactions
from sentill_host.models.training import dataset, partitions
from sentill_host.models.training.fit import Recipe

distributed = pytest.importorskip("dask.distributed", reason="the extra dask is not installed")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    options = simulate.TrafficOptions(cards=60, terminals=40, days=40, rate=2.0, frauds=True, seed=5)
    return simulate.traffic(options).to_pandas()


def test_partitions_give_the_features_and_the_model_of_one_computer(frame: pd.DataFrame) -> None:
    import dask
    import dask.dataframe as dd
    from sklearn.metrics import roc_auc_score

    data = transactions.from_table(simulate.pa.Table.from_pandas(frame, preserve_index=False))
    wanted = dataset.compute(data)
    # Threads of one process: what is tested is the partitioning, not the start of processes.
    with (
        dask.config.set({"dataframe.convert-string": False}),
        distributed.Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client,
    ):
        lazy = partitions.features(dd.from_pandas(frame, npartitions=5, sort=False))
        found = lazy.compute()
        keys = ["time_s", "terminal_id", "customer_id", "amount_cents"]
        assert not frame.duplicated(keys).any(), "the comparison needs distinct rows"
        local = pd.DataFrame(wanted, columns=list(NAMES)).assign(
            time_s=data.time,
            terminal_id=np.array(data.terminal_ids)[data.terminal],
            customer_id=np.array(data.card_ids)[data.card],
            amount_cents=data.amount,
        )
        found = found.assign(**{key: found[key].astype(local[key].dtype) for key in keys})
        pd.testing.assert_frame_equal(
            found[[*keys, *NAMES]].sort_values(keys).reset_index(drop=True),
            local[[*keys, *NAMES]].sort_values(keys).reset_index(drop=True),
            check_dtype=False,
        )
        forest = partitions.train(client, lazy, Recipe("boost", trees=10, leaves=8, min_rows=5))
    assert roc_auc_score(data.fraud, forest.predict(wanted)) > 0.9
