"""The same features and training over many machines: functions over partitions, for data that outgrow one computer.

Needs the extra `dask`. A cluster is the caller's: start `dask.distributed.Client(...)` first.

    frame = dask.dataframe.read_parquet("s3://.../transactions/*.parquet")
    model = train(client, features(frame), recipe)

Two shuffles bring together first each card's rows (profiles), then each terminal's (features): the functions applied
to the groups are those of dataset.py, so values are those of the board.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sentill.risk.features import DELAY_S, NAMES
from sentill_host.models.training.convert import FloatForest, from_lightgbm
from sentill_host.models.training.dataset import card_profiles, groups, terminal_features
from sentill_host.models.training.fit import Recipe, centred, renumber
from sentill_host.models.transactions import Columns

if TYPE_CHECKING:
    import dask.dataframe as dd
    from dask.distributed import Client

PROFILE = ("pm", "pn", "ph")


def add_profiles(part: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """A partition that holds all rows of its cards, with the columns pm, pn, ph; sorted by time."""
    part = part.sort_values(columns.time, kind="stable")
    found = np.zeros((len(part), 3), np.int32)
    time, amount = part[columns.time].to_numpy(), part[columns.amount].to_numpy()
    for rows in groups(part[columns.card].to_numpy()):
        found[rows] = card_profiles(time[rows], amount[rows])
    return part.assign(**{name: found[:, i] for i, name in enumerate(PROFILE)})


def add_features(part: pd.DataFrame, columns: Columns, capacity: int = 512, delay_s: int = DELAY_S) -> pd.DataFrame:
    """A partition that holds all rows of its terminals, with the twelve feature columns (int16); sorted by time."""
    part = part.sort_values(columns.time, kind="stable")
    found = np.zeros((len(part), len(NAMES)), np.int16)
    time, amount, fraud = (part[name].to_numpy() for name in (columns.time, columns.amount, columns.fraud))
    profiles = part[list(PROFILE)].to_numpy()
    for rows in groups(part[columns.terminal].to_numpy()):
        found[rows] = terminal_features(time[rows], amount[rows], fraud[rows], profiles[rows], capacity, delay_s)
    return part.assign(**{name: found[:, i] for i, name in enumerate(NAMES)})


def features(
    frame: "dd.DataFrame", columns: Columns | None = None, capacity: int = 512, delay_s: int = DELAY_S
) -> "dd.DataFrame":
    """The twelve features beside the columns of a Dask frame of transactions, lazily; the order of rows is not kept."""
    columns = columns or Columns()
    known = frame.shuffle(columns.card).map_partitions(add_profiles, columns)
    return known.shuffle(columns.terminal).map_partitions(add_features, columns, capacity, delay_s)


def train(client: "Client", frame: "dd.DataFrame", recipe: Recipe, columns: Columns | None = None) -> FloatForest:
    """Fit a "boost" recipe with LightGBM's Dask interface to a frame that `features` made."""
    import lightgbm

    columns = columns or Columns()
    inputs = [NAMES[i] for i in recipe.features]
    settings: dict[str, Any] = {
        "n_estimators": recipe.trees,
        "num_leaves": recipe.leaves,
        "max_depth": recipe.depth,
        "learning_rate": recipe.learning_rate,
        "min_child_samples": recipe.min_rows,
        "colsample_bytree": recipe.share,
        "random_state": recipe.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    frame = frame.persist()
    model = lightgbm.DaskLGBMClassifier(client=client, **settings)
    model.fit(frame[inputs].astype("float32"), frame[columns.fraud])
    forest = centred(from_lightgbm(model.booster_))
    return FloatForest([renumber(tree, recipe.features) for tree in forest.trees], forest.base)
