"""Transaction, card profile and feedback in; twelve int16 features out (schema "min12").

The trainer on the host calls this very file, so what a model was trained on is what the board computes.

| feature    | value |
|------------|-------|
| `L_amt`    | amount of the transaction, cents |
| `F_runf`   | frauds in the current run of frauds of the terminal's resolved history (0 when the newest is genuine) |
| `F_rung`   | genuines in the current run of genuines (0 when the newest is a fraud) |
| `F_hfirst` | hours since the first fraud of the latest run of frauds |
| `F_hlast`  | hours since the last resolved fraud |
| `F_hgen`   | hours since the last resolved genuine transaction |
| `F_n30`    | resolved transactions in the last 30 resolved day-buckets |
| `F_f30`    | resolved frauds in those buckets |
| `G_unx30`  | resolved frauds in those buckets whose amount does not explain them |
| `G_rew`    | ratio of the amount to the card's robust mean, Q6: `amt * 64 // (pm + 1)` |
| `G_ewmean` | the card's robust mean `pm`, cents |
| `G_hi7`    | the card's earlier transactions of the last 7 days with a high ratio, `ph` |

All saturate at 32767, which also stands for "never" in the hours. The G_ features of the card are 0 without a
profile (`pn` = 0).

*Resolved*: a transaction of this terminal at least 7 days old. It is a fraud when feedback named it meanwhile, else
genuine. *Day-bucket*: `t // 86400`; the window ends at the day 7 days before now (that day counts as far as it is
resolved) and spans 30 days. *Explained*: amount above 22000 cents, or a ratio above 144 (Q6) on a card with at least
5 transactions.

Times are node time in seconds, 0 <= t < 2^30; amounts cents, 0 <= amt < 2^30; intermediates stay below 2^30, so that
nothing here allocates on a 32-bit board except `save`, `restore` and the constructors.
"""

from array import array
from struct import pack_into, unpack_from

from sentill.compat import const, native
from sentill.errors import StorageError

from .amount_ratio import explained, ratio_q6
from .pending_labels import Pending

N = 12
NAMES = (
    "L_amt",
    "F_runf",
    "F_rung",
    "F_hfirst",
    "F_hlast",
    "F_hgen",
    "F_n30",
    "F_f30",
    "G_unx30",
    "G_rew",
    "G_ewmean",
    "G_hi7",
)
# CRC-32 of "min12/1:" and the names joined by commas: a model made for other features is refused.
SCHEMA_ID = 0x4729259D
DELAY_S = 604_800

_DAY_S = const(86_400)
_DELAY_S = const(604_800)
_DAYS = const(30)
_MAX16 = const(32_767)
_EXPLAINED = const(1)
_FRAUD = const(2)
KNOWN = 2  # of feedback
_MAX_COUNTER = const(0x3FFFFFFF)

# Scalars of a History, one int32 array: a subscript costs what an attribute costs, and it is saved as it stands.
_NOW = const(0)
_DUE = const(1)  # before this time `advance` has nothing to do but move the clock
_RUNF = const(2)
_RUNG = const(3)
_FIRST = const(4)  # times in seconds, -1 for never
_LAST = const(5)
_GEN = const(6)
_N30 = const(7)
_F30 = const(8)
_U30 = const(9)
_DAY = const(10)  # newest day of the window
_BACKWARDS = const(11)
_OVERFLOWS = const(12)
_DUPLICATES = const(13)
_UNKNOWN = const(14)
_SCALARS = const(15)

# Saved image: magic, u16 pending, the scalars as i32, 3 x 30 u16 day totals, the pending transactions.
_MAGIC = b"STH1"
_HEADER = const(6)
_FIXED = const(6 + 4 * 15 + 6 * 30)
_RECORD = const(9)


class History:
    """A terminal's transactions: a ring of pending ones, day totals and runs of the resolved ones.

    `capacity` (1..65534) bounds the pending transactions. When the ring is full the oldest is resolved early, with the
    feedback received so far, the window then ends at its day if it ended before, and `overflows` counts it. Seven
    bytes per slot and half a KB besides.
    """

    def __init__(self, capacity: int = 512, kernels=None):
        """`kernels`: module to use instead of the fastest, features_thumb or features_plain."""
        if kernels is None:
            kernels = native("risk", "features_thumb")
        if kernels is None:
            from . import features_plain as kernels
        self._own = kernels.own
        self._pending = Pending(capacity, kernels)
        self._s = array("i", bytes(4 * _SCALARS))
        self._n = array("H", bytes(2 * _DAYS))
        self._f = array("H", bytes(2 * _DAYS))
        self._u = array("H", bytes(2 * _DAYS))
        self.clear()

    def clear(self) -> None:
        """Forget everything: as new."""
        self._pending.clear()
        s = self._s
        for i in range(_SCALARS):
            s[i] = 0
        s[_FIRST] = s[_LAST] = s[_GEN] = -1
        for i in range(_DAYS):
            self._n[i] = self._f[i] = self._u[i] = 0

    @property
    def capacity(self) -> int:
        """Most transactions that can be pending."""
        return self._pending.capacity

    @property
    def pending(self) -> int:
        """Transactions not yet resolved."""
        return self._pending.count

    @property
    def now(self) -> int:
        """The latest time seen, seconds."""
        return self._s[_NOW]

    @property
    def backwards(self) -> int:
        """Times that lay before an earlier one and were taken as the latest time seen."""
        return self._s[_BACKWARDS]

    @property
    def overflows(self) -> int:
        """Transactions resolved early because the ring was full."""
        return self._s[_OVERFLOWS]

    @property
    def duplicates(self) -> int:
        """Transactions ignored because their ref was pending already."""
        return self._s[_DUPLICATES]

    @property
    def unknown(self) -> int:
        """Feedback for a ref that is not pending: never seen, or resolved before the news came."""
        return self._s[_UNKNOWN]

    def advance(self, t: int) -> None:
        """Move the clock to `t` and resolve what is 7 days old. A time before the latest one is counted and ignored."""
        s = self._s
        if t < s[_NOW]:
            self._bump(_BACKWARDS)
            return
        s[_NOW] = t
        if t >= s[_DUE]:
            self._catch_up(t - _DELAY_S)

    def _catch_up(self, old: int) -> None:
        """Resolve what happened up to `old`, let the window end there, and find out when there is work again."""
        day = old // _DAY_S
        self._window(day)
        p = self._pending
        while p.count and p.oldest <= old:
            self._resolve()
        due = (day + 1) * _DAY_S
        if p.count and p.oldest < due:
            due = p.oldest
        self._s[_DUE] = due + _DELAY_S

    # At most 11 locals and stack slots per function from here on: MicroPython takes larger frames from the heap.

    def fill(self, x, t: int, amt: int, pm: int, pn: int, ph: int) -> None:
        """Advance to `t` and write the features of a transaction into `x`, an array("h") of 12: native code trusts it.

        `t` seconds, `amt` cents; `pm` the card's robust mean in cents (0..65535), `pn` its transactions (0..255; 0 for
        no profile), `ph` its high-ratio transactions of the last 7 days (0..255).
        """
        self.own(x, t)
        x[0] = amt if amt < _MAX16 else _MAX16
        if pn:
            x[9] = ratio_q6(amt, pm)
            x[10] = pm if pm < _MAX16 else _MAX16
            x[11] = ph
        else:
            x[9] = 0
            x[10] = 0
            x[11] = 0

    def own(self, x, t: int) -> None:
        """Advance to `t` and write the features of the terminal's own history, 1 to 8, into `x`, as in `fill`."""
        s = self._s
        if s[_NOW] <= t < s[_DUE]:
            s[_NOW] = t
        else:
            self.advance(t)
        self._own(s, x)

    def add(self, ref: int, t: int, amt: int, pm: int, pn: int, ph: int) -> bool:
        """Remember a transaction until it resolves; False (and counted) when `ref` is pending already.

        Units as in `fill`; `ref` 0..2^32-1. A `t` before the latest time is taken as that time.
        """
        if t > self._s[_NOW]:
            self.advance(t)
        amt = explained(amt, pm, pn)  # a local of its own would be the 12th slot
        return self.put(ref, amt)

    def put(self, ref: int, is_explained: bool) -> bool:
        """`add` at the latest time seen, knowing already whether the amount explains a fraud."""
        if self._pending.find(ref) >= 0:
            self._bump(_DUPLICATES)
            return False
        s = self._s
        p = self._pending
        if p.count == p.capacity:
            self._bump(_OVERFLOWS)
            self._window(p.oldest // _DAY_S)
            self._resolve()
        t = s[_NOW]
        if not p.count and t + _DELAY_S < s[_DUE]:
            s[_DUE] = t + _DELAY_S
        p.push(t, _EXPLAINED if is_explained else 0)
        return True

    def feedback(self, ref: int) -> int:
        """Note that `ref` was a fraud: 1 when that is news, KNOWN when not, 0 (and counted) when it is not pending."""
        slot = self._pending.find(ref)
        if slot < 0:
            self._bump(_UNKNOWN)
            return 0
        flags = self._pending.flags
        if flags[slot] & _FRAUD:
            return KNOWN
        flags[slot] |= _FRAUD
        return 1

    def _bump(self, counter: int) -> None:
        s = self._s
        if s[counter] < _MAX_COUNTER:
            s[counter] += 1

    def _resolve(self) -> None:
        """Move the oldest pending transaction into the runs and, where its day is in the window, the day totals."""
        s = self._s
        t = self._pending.oldest
        flags = self._pending.flags[self._pending.pop()]
        if flags & _FRAUD:
            if not s[_RUNF]:
                s[_FIRST] = t
            s[_RUNG] = 0
            s[_LAST] = t
            self._bump(_RUNF)
        else:
            s[_RUNF] = 0
            s[_GEN] = t
            self._bump(_RUNG)
        t //= _DAY_S
        if t > s[_DAY] - _DAYS:
            self._count(t % _DAYS, flags)

    def _count(self, bucket: int, flags: int) -> None:
        s = self._s
        n = self._n
        if n[bucket] < 65_535:
            n[bucket] += 1
            s[_N30] += 1
            if flags & _FRAUD:
                self._f[bucket] += 1
                s[_F30] += 1
                if not flags & _EXPLAINED:
                    self._u[bucket] += 1
                    s[_U30] += 1

    def _window(self, day: int) -> None:
        """Let the window end at `day` unless it ends later already; days that drop out leave the totals."""
        s = self._s
        steps = day - s[_DAY]
        if steps <= 0:
            return
        s[_DAY] = day
        if steps > _DAYS:
            steps = _DAYS
        while steps:
            bucket = day % _DAYS
            s[_N30] -= self._n[bucket]
            s[_F30] -= self._f[bucket]
            s[_U30] -= self._u[bucket]
            self._n[bucket] = self._f[bucket] = self._u[bucket] = 0
            day -= 1
            steps -= 1

    def save(self, write) -> None:
        """Hand the whole state to `write(bytes)` in pieces: 246 bytes and 9 per pending transaction."""
        image = bytearray(_FIXED)
        image[:4] = _MAGIC
        pack_into("<H", image, 4, self._pending.count)
        at = _HEADER
        for v in self._s:
            pack_into("<i", image, at, v)
            at += 4
        for days in (self._n, self._f, self._u):
            for v in days:
                pack_into("<H", image, at, v)
                at += 2
        write(image)
        self._pending.save(write)

    def restore(self, readinto, size: int) -> None:
        """Take over what `save` gave, `size` bytes that `readinto` fills buffers with (see store.Store).

        Into a smaller ring the oldest transactions are resolved early, and counted. Raises StorageError, leaving this
        history as it was, when the image is of another version or length; leaving it empty when it is not in order.
        """
        image = bytearray(_FIXED)
        if size >= _FIXED:
            readinto(image)
        if image[:4] != _MAGIC:
            raise StorageError("history", "not a saved history")
        count = unpack_from("<H", image, 4)[0]
        if size != _FIXED + _RECORD * count:
            raise StorageError("history", "saved history has the wrong length")
        self.clear()
        s = self._s
        at = _HEADER
        for i in range(_SCALARS):
            s[i] = unpack_from("<i", image, at)[0]
            at += 4
        for days in (self._n, self._f, self._u):
            for i in range(_DAYS):
                days[i] = unpack_from("<H", image, at)[0]
                at += 2
        p = self._pending
        while count:
            if p.count == p.capacity:
                self._bump(_OVERFLOWS)
                self._window(p.oldest // _DAY_S)
                self._resolve()
            try:
                p.restore(readinto)
            except StorageError:
                self.clear()
                raise
            count -= 1
        s[_DUE] = 0  # found anew by the next `advance`
