"""Features of labelled transactions, computed by the device's own code: per card, then per terminal, in parallel."""

import multiprocessing
from array import array
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from sentill.risk.card_profile import Profile
from sentill.risk.features import DELAY_S, History, N
from sentill_host.models.transactions import Transactions

# Groups (cards, terminals) per task: small enough for a smooth progress bar, large enough to hide the pickling.
GROUPS_PER_TASK = 128
Progress = Callable[[int, int], None]


def card_profiles(time: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Profile of one card before each of its transactions.

    `time` (seconds, not decreasing) and `amount` (cents) are of shape (n,). Returns int32 (n, 3): pm, pn, ph.
    """
    profile = Profile()
    rows = np.empty((len(time), 3), np.int32)
    for i, (t, amt) in enumerate(zip(time.tolist(), amount.tolist(), strict=True)):
        rows[i] = profile.at(t)
        profile.update(amt, t)
    return rows


def terminal_features(
    time: np.ndarray,
    amount: np.ndarray,
    fraud: np.ndarray,
    profiles: np.ndarray,
    capacity: int = 512,
    delay_s: int = DELAY_S,
) -> np.ndarray:
    """Features of one terminal's transactions as its board computes them when each arrives: int16 (n, 12).

    Shapes (n,), (n,), (n,) and (n, 3); times do not decrease. The board hears of a fraud once `delay_s` have passed,
    before the first transaction at or after that moment.
    """
    history = History(capacity)
    rows = np.empty((len(time), N), np.int16)
    x = array("h", bytes(2 * N))
    waiting: deque[tuple[int, int]] = deque()
    columns = (time.tolist(), amount.tolist(), fraud.tolist(), profiles.tolist())
    for ref, (t, amt, bad, (pm, pn, ph)) in enumerate(zip(*columns, strict=True)):
        while waiting and waiting[0][0] <= t:
            history.feedback(waiting.popleft()[1])
        history.fill(x, t, amt, pm, pn, ph)
        rows[ref] = x
        history.add(ref, t, amt, pm, pn, ph)
        if bad:
            waiting.append((t + delay_s, ref))
    return rows


def compute(
    data: Transactions,
    workers: int = 1,
    capacity: int = 512,
    delay_s: int = DELAY_S,
    progress: Progress | None = None,
    with_profile: bool = True,
) -> np.ndarray:
    """Features of every transaction, int16 (n, 12), in the order of `data`.

    Cards first (their profiles span terminals), then terminals, each group by itself, by `workers` processes; the
    result does not depend on their number. Not `with_profile`: as if the acquirer sent no profiles. `progress` is
    called with (groups done, groups in all).
    """
    cards = groups(data.card) if with_profile else []
    terminals = groups(data.terminal)
    total = len(cards) + len(terminals)
    profiles = np.zeros((len(data), 3), np.int32)
    rows = np.empty((len(data), N), np.int16)
    done = 0
    with _mapper(workers) as run:
        tasks = ([(data.time[i], data.amount[i]) for i in chunk] for chunk in _chunks(cards))
        for chunk, results in zip(_chunks(cards), run(_card_task, tasks), strict=True):
            for index, result in zip(chunk, results, strict=True):
                profiles[index] = result
            done += len(chunk)
            if progress:
                progress(done, total)
        jobs = (
            [(data.time[i], data.amount[i], data.fraud[i], profiles[i], capacity, delay_s) for i in chunk]
            for chunk in _chunks(terminals)
        )
        for chunk, results in zip(_chunks(terminals), run(_terminal_task, jobs), strict=True):
            for index, result in zip(chunk, results, strict=True):
                rows[index] = result
            done += len(chunk)
            if progress:
                progress(done, total)
    return rows


def groups(keys: np.ndarray) -> list[np.ndarray]:
    """Positions of equal keys, ascending within a group; groups in order of their key."""
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1) if len(keys) else []


def _chunks(all_groups: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(all_groups), GROUPS_PER_TASK):
        yield all_groups[start : start + GROUPS_PER_TASK]


def _card_task(task: list[tuple]) -> list[np.ndarray]:
    return [card_profiles(*arguments) for arguments in task]


def _terminal_task(task: list[tuple]) -> list[np.ndarray]:
    return [terminal_features(*arguments) for arguments in task]


class _mapper:
    """`with _mapper(n) as run:` gives an ordered, lazy map over n processes, or over none where n is 1."""

    def __init__(self, workers: int):
        self.workers = workers

    def __enter__(self) -> Callable:
        if self.workers <= 1:
            self.pool = None
            return map
        # Spawn works the same on every system and inherits no locks from threads of the parent.
        self.pool = multiprocessing.get_context("spawn").Pool(self.workers)
        return self.pool.imap

    def __exit__(self, kind: object, *_: object) -> None:
        if self.pool is not None:
            if kind is None:
                self.pool.close()
            else:
                self.pool.terminate()
            self.pool.join()
