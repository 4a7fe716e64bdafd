"""Read transactions from CSV or Parquet, and play the acquirer: card tokens, profiles, what a terminal would send."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from sentill.risk import features
from sentill.risk.card_profile import Profile
from sentill.wire import protocol
from sentill_host.errors import UsageError

DELAY_S = features.DELAY_S


@dataclass(frozen=True)
class Columns:
    """Names of the columns in a file: time in seconds, amount in cents, fraud 0 or 1."""

    time: str = "time_s"
    card: str = "customer_id"
    terminal: str = "terminal_id"
    amount: str = "amount_cents"
    fraud: str = "fraud"


@dataclass(frozen=True)
class Request:
    """One transaction as the terminal sends it, with the card's profile before it, and its label."""

    ref: int
    t: int
    amt: int
    card: str
    pm: int
    pn: int
    ph: int
    fraud: bool

    @property
    def pairs(self) -> list[tuple[str, int | str | bool]]:
        """The fields of its T frame, without q."""
        return [
            ("ref", self.ref), ("t", self.t), ("amt", self.amt), ("card", self.card),
            ("pm", self.pm), ("pn", self.pn), ("ph", self.ph),
        ]  # fmt: skip


@dataclass
class Transactions:
    """Columns of a file, sorted by time. `card` and `terminal` are numbers standing for the ids in `*_ids`."""

    time: np.ndarray
    card: np.ndarray
    terminal: np.ndarray
    amount: np.ndarray
    fraud: np.ndarray
    card_ids: list[str]
    terminal_ids: list[str]

    def __len__(self) -> int:
        return len(self.time)

    def busiest(self, count: int = 1) -> list[int]:
        """Numbers of the `count` terminals with the most transactions; ties go to the lower number."""
        totals = np.bincount(self.terminal, minlength=len(self.terminal_ids))
        return [int(i) for i in np.argsort(-totals, kind="stable")[:count]]

    def terminal_number(self, terminal_id: str) -> int:
        """Number of the terminal with this id. Raises UsageError."""
        try:
            return self.terminal_ids.index(terminal_id)
        except ValueError:
            raise UsageError(f"no terminal {terminal_id!r} in the file") from None


def read(path: Path, columns: Columns | None = None) -> Transactions:
    """Read a .csv or .parquet file. Raises UsageError that names what is wrong with it."""
    columns = columns or Columns()
    names = [columns.time, columns.card, columns.terminal, columns.amount, columns.fraud]
    if not path.is_file():
        raise UsageError(f"{path}: no such file", "`sentill simulate traffic --out FILE` makes one")
    try:
        if path.suffix.lower() == ".parquet":
            table = papq.read_table(path, columns=names)
        else:
            table = pacsv.read_csv(path, convert_options=pacsv.ConvertOptions(include_columns=names))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UsageError(f"{path}: {str(error).splitlines()[0]}", f"needed columns: {', '.join(names)}") from None
    return from_table(table, columns, str(path))


def from_table(table: pa.Table, columns: Columns | None = None, name: str = "table") -> Transactions:
    """The columns of a table, checked. Raises UsageError for missing columns and values out of range."""
    columns = columns or Columns()
    integers = {}
    for column, most in ((columns.time, protocol.MAX_TIME), (columns.amount, protocol.MAX_AMOUNT), (columns.fraud, 1)):
        try:
            values = _column(table, column, name).cast(pa.int64()).to_numpy()
        except pa.ArrowException:
            raise UsageError(f"{name}: column {column!r} holds something that is no whole number") from None
        if len(values) and (values.min() < 0 or values.max() > most):
            raise UsageError(f"{name}: column {column!r} must be 0..{most}")
        integers[column] = values
    order = np.argsort(integers[columns.time], kind="stable")
    card, card_ids = _encode(table, columns.card, name)
    terminal, terminal_ids = _encode(table, columns.terminal, name)
    return Transactions(
        integers[columns.time][order],
        card[order],
        terminal[order],
        integers[columns.amount][order],
        integers[columns.fraud][order].astype(bool),
        card_ids,
        terminal_ids,
    )


def token(card_id: str) -> str:
    """A card's token on the wire: 16 letters a..p that depend on the id alone. No digits, so it never looks like a card
    number; a real acquirer uses a keyed hash."""
    digest = hashlib.sha256(b"sentill card " + card_id.encode()).hexdigest()[:16]
    return digest.translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))


def requests(data: Transactions, terminals: list[int], since: int = 0) -> dict[int, list[Request]]:
    """What each of `terminals` sends from time `since` (seconds) on.

    The profile of a card comes from all its transactions in the file, at every terminal and also before `since`, each
    known to the acquirer before the next. References are the positions in the file, so they are unique over terminals.
    """
    wanted = np.isin(data.terminal, terminals) & (data.time >= since)
    cards = np.isin(data.card, np.unique(data.card[wanted]))
    profiles: dict[int, Profile] = {}
    result: dict[int, list[Request]] = {terminal: [] for terminal in terminals}
    names: dict[int, str] = {}
    for ref in np.flatnonzero(cards).tolist():
        card, t, amt = int(data.card[ref]), int(data.time[ref]), int(data.amount[ref])
        profile = profiles.get(card)
        if profile is None:
            profile = profiles[card] = Profile()
        if wanted[ref]:
            pm, pn, ph = profile.at(t)
            name = names.setdefault(card, token(data.card_ids[card]))
            request = Request(ref, t, amt, name, pm, pn, ph, bool(data.fraud[ref]))
            result[int(data.terminal[ref])].append(request)
        profile.update(amt, t)
    return result


def steps(sent: list[Request], delay_s: int = DELAY_S) -> Iterator[tuple[str, Request]]:
    """What a terminal's line carries, in order: ("T", request), and ("P", request) for a fraud once `delay_s` have
    passed, before the first transaction at or after that moment."""
    waiting: list[Request] = []
    for request in sent:
        while waiting and waiting[0].t + delay_s <= request.t:
            yield "P", waiting.pop(0)
        yield "T", request
        if request.fraud:
            waiting.append(request)


def _column(table: pa.Table, column: str, name: str) -> pa.ChunkedArray:
    if column not in table.column_names:
        raise UsageError(f"{name}: no column {column!r}")
    if table[column].null_count:
        raise UsageError(f"{name}: column {column!r} has empty values")
    return table[column]


def _encode(table: pa.Table, column: str, name: str) -> tuple[np.ndarray, list[str]]:
    coded = _column(table, column, name).dictionary_encode().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = pa.concat_arrays(coded.chunks) if coded.num_chunks else pa.array([], pa.string()).dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False), [str(v) for v in coded.dictionary.to_pylist()]
