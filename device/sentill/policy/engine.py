"""Limits at work: a payment is judged, counted when it is approved, and set right when it ends otherwise.

    engine = Engine(words, more, store, 1024)
    action = engine.judge(tx, sure, card, group)  # 0 none, 1 warn, 2 review, 3 decline; nothing is counted yet
    engine.limit, engine.why, engine.left         # which limit decided, why, and what it leaves
    engine.take(tx)                               # approved; engine.reached: what marks it has reached by that
    engine.outcome(ref, ending, amount)           # it ended: as a place in transaction.OUTCOMES

Time never goes back in here: an earlier payment counts as one of the latest moment, until `begin` says that the clock
was wrong. `sure` tells whether the clock is right; where it is not, calendar windows are not known, and each limit says
what follows from that.
"""

from array import array

from sentill.compat import const, kernels
from sentill.transaction import OUTCOMES

from . import profile
from .holders import Holders, sound
from .holds import Holds

# Slots of a transaction, and words of the facts: see transaction.py and kernel.py.
_REF = const(0)
_T = const(1)
_AMOUNT = const(2)
_TYPE = const(3)
_CURRENCY = const(4)
_CATEGORY = const(5)
_COUNTRY = const(6)
_ENTRY = const(7)
_FACTS = const(28)
_LIMIT_WORDS = const(12)
_CLOCK_WORDS = const(6)
_FULL = const(0x3FFFFFFF)
_APPROVED = const(0)
_PARTIAL = const(1)
_DECLINED = const(2)
_GIVEN = const(16)
_TERMINAL = b"terminal"

UNKNOWN = 0  # answers of `outcome`
DONE = 1


class Engine:
    """The limits of one profile (`words`, from profile.load; `more(at, n)` reads n of those that are not kept).

    `store` keeps the cells of holders; `room` is how many words those in use may take here, `held` how many payments
    can still be set right.
    """

    def __init__(self, words, more, store, room: int, held: int = 64):
        keep = words[profile.KEEP]
        cards, groups, terminal = words[profile.BLOCKS : profile.BLOCKS + 3]
        n_groups = 4 if groups else 0
        left = room - terminal - n_groups * groups
        n_cards = left // cards if cards else 0
        if left < 0 or cards and not n_cards:
            raise profile.PolicyError("room", "the cells of one holder do not fit into %d words" % room)
        self._m = m = array("i", words[:keep])
        m.extend(array("i", bytes(4 * (terminal + n_groups * groups + n_cards * cards))))
        self._f = array("i", bytes(4 * _FACTS))
        self._more = more
        self._t = 0
        self._offset_s = 0  # of local time
        self._until = 0  # when that changes
        self._category = self._country = -1  # that the facts are about
        self._holders = (
            Holders(m, keep + terminal + n_groups * groups, cards, n_cards, store, self._mender(0)),
            Holders(m, keep + terminal, groups, n_groups, store, self._mender(1)),
            Holders(m, keep, terminal, 1 if terminal else 0, store, self._mender(2)),
        )
        self.holds = Holds(held)
        self._card = self._group = b""
        kernel = kernels("policy", "kernel")
        self._check = kernel.check
        self._take = kernel.take
        self._restore = kernel.restore
        self._refund = kernel.refund

    def judge(self, tx, sure: bool, card, group=b"") -> int:
        """Hold a transaction against the limits of its card, its group and this terminal; the sternest action.

        `tx` is a row of transaction.SLOTS; `card` and `group` are keys of at most 8 bytes, b"" for none.
        """
        self._see(tx, sure)
        f = self._f
        self._card = card
        self._group = group
        holders = self._holders
        # Those in use push each other out in their own kind only, so that these three stay where they are.
        f[8] = holders[0].find(card)
        f[9] = holders[1].find(group)
        f[10] = holders[2].find(_TERMINAL)
        return self._check(self._m, f)

    @property
    def limit(self) -> int:
        """Number of the limit that decided, -1 for none."""
        return self._f[12]

    @property
    def why(self) -> int:
        """Why it was not held: kernel.BY_LIMIT, BY_CURRENCY, BY_CLOCK."""
        return self._f[13]

    @property
    def left(self) -> int:
        """What it leaves: an amount or uses."""
        return self._f[14]

    @property
    def reached(self):
        """The marks that the last `take` reached, at most 8, as (limit, mark): 0..2 a share of it, 3 exceeded."""
        f = self._f
        return [(name >> 2, name & 3) for name in f[20 : 20 + min(f[19], 8)]]

    def take(self, tx) -> None:
        """Count the transaction just judged, before anything else is asked: it was approved."""
        f = self._f
        self._take(self._m, f)
        i = self.holds.add(tx[_REF], self._card, self._group)
        self.holds.times[i] = self._t
        self.holds.amounts[i] = tx[_AMOUNT]
        self.holds.types[i] = tx[_TYPE]
        for k in range(4):
            self.holds.matched[4 * i + k] = f[15 + k]

    def outcome(self, ref: int, ending: int, amount: int = 0) -> int:
        """Set right what `ref` took, by how it ended (a place in OUTCOMES); UNKNOWN when it is not held, else DONE.

        A partial one keeps `amount`, at most what it took. What a refund gives back, it gives when it is approved. An
        ending that is told twice counts once.
        """
        i = self.holds.find(ref)
        if i < 0 or not 0 <= ending < len(OUTCOMES):
            return UNKNOWN
        holds = self.holds
        taken = holds.amounts[i]
        final = taken if ending == _APPROVED else (amount if amount < taken else taken) if ending == _PARTIAL else 0
        self._recall(i)
        f = self._f
        if final < taken or ending > _PARTIAL:
            f[0] = taken - final
            f[1] = 1 if ending == _DECLINED else 2 if ending != _PARTIAL else 0
            self._restore(self._m, f, 0 if ending == _PARTIAL else 1)
            if holds.types[i] & _GIVEN:
                self._refund(self._m, f, 1)
            holds.amounts[i] = final
        if ending > _PARTIAL:
            holds.drop(i)
        elif not holds.types[i] & _GIVEN:
            f[0] = final
            self._refund(self._m, f, 0)
            holds.types[i] |= _GIVEN
        return DONE

    def _recall(self, i) -> None:
        # The facts of what is held at place i.
        holds = self.holds
        f = self._f
        self._then(holds.times[i])
        f[3] = 65536 << (holds.types[i] & 15)
        f[8] = self._holders[0].find(holds.card(i))
        f[9] = self._holders[1].find(holds.group(i))
        f[10] = self._holders[2].find(_TERMINAL)
        for k in range(4):
            f[15 + k] = holds.matched[4 * i + k]

    def balance(self, i: int, t: int, card, group=b"") -> int:
        """What limit number `i` leaves at `t`: an amount or uses. 0 for a holder without a key, too."""
        self._advance(t if t > self._t else self._t)
        m = self._m
        at = m[profile.LIMITS] + _LIMIT_WORDS * i
        scope = m[at] >> 2 & 3
        cell = self._holders[scope].find((card, group, _TERMINAL)[scope])
        if not cell:
            return 0
        cell += m[at] >> 12
        now = m[m[at + 2]]
        used = m[cell + 2]
        if m[at] & 3 == profile.ROLLING:
            used = 0
            for back in range(profile.BUCKETS):
                k = m[cell] - back
                if now - k < profile.BUCKETS and k >= 0:
                    used += m[cell + 3 + (k & 15)]
        elif m[at] & 3 == profile.EACH or now > m[cell]:
            used = 0
        return m[at + 1] - used if m[at + 1] > used else 0

    def begin(self, t: int) -> None:
        """The clock was wrong and shows `t` from now on: what was counted ahead of that counts as of now."""
        self._t = self._until = 0
        m = self._m
        for at in range(m[profile.CLOCKS], m[profile.CLOCKS] + _CLOCK_WORDS * m[profile.CLOCKS + 1], _CLOCK_WORDS):
            m[at] = m[at + 1] = 0
        self._advance(t)
        for holders in self._holders:
            holders.mend_all()

    def keep(self) -> None:
        """Hand the cells of all holders in use to the store."""
        for holders in self._holders:
            holders.put_all()

    # The facts of a payment

    def _see(self, tx, sure) -> None:
        t = tx[_T]
        if t < self._t:
            t = self._t
        self._advance(t)
        f = self._f
        f[0] = tx[_AMOUNT]
        f[1] = 1 << tx[_ENTRY]
        f[3] = 65536 << tx[_TYPE]
        f[7] = tx[_CURRENCY]
        m = self._m
        f[11] = 1 if sure and m[profile.SINCE] <= t < m[profile.UNTIL] else 0
        t += self._offset_s
        f[2] = 256 << t // 86_400 % 7  # node time begins on a Monday
        f[4] = 1 << t // 3_600 % 24
        if tx[_CATEGORY] != self._category:
            self._category = tx[_CATEGORY]
            f[5] = self._category_sets(tx[_CATEGORY])
        if tx[_COUNTRY] != self._country:
            self._country = tx[_COUNTRY]
            f[6] = self._country_sets(tx[_COUNTRY])

    def _category_sets(self, category) -> int:
        m = self._m
        at = m[profile.CATEGORIES]
        sets = 0
        for at in range(at, at + 2 * m[profile.CATEGORIES + 1], 2):
            if m[at] >> 14 <= category <= m[at] & 0x3FFF:
                sets = m[at + 1]
        return sets

    def _country_sets(self, country) -> int:
        m = self._m
        at = m[profile.COUNTRIES]
        for at in range(at, at + 2 * m[profile.COUNTRIES + 1], 2):
            if m[at] == country:
                return m[at + 1]
        return 0

    # Time

    def _advance(self, t) -> None:
        self._t = t
        m = self._m
        at = m[profile.CLOCKS]
        n = m[profile.CLOCKS + 1]
        while n:
            if t >= m[at + 1]:
                self._turn(at, t)
            at += _CLOCK_WORDS
            n -= 1
        if t >= self._until:
            self._offset_s, self._until = self._row(m[profile.ZONE], m[profile.ZONE + 1], t)

    def _turn(self, at, t) -> None:
        # Another bucket, another window.
        m = self._m
        if m[at + 3]:
            m[at] = t // m[at + 3]
            end = m[at + 3] * (m[at] + 1) if m[at] < _FULL // m[at + 3] else _FULL
            m[at + 1] = end
        elif m[at + 5]:
            m[at], m[at + 1] = self._edge(m[at + 4], m[at + 5], t)
        else:
            m[at + 1] = _FULL

    def _edge(self, first, n, t):
        # The latest of n moments in order that is not after t, and the next one; 0 is before all.
        low = 0
        high = n
        while low < high:
            middle = low + high >> 1
            if self._more(first + middle, 1)[0] <= t:
                low = middle + 1
            else:
                high = middle
        start = self._more(first + low - 1, 1)[0] if low else 0
        return start, self._more(first + low, 1)[0] if low < n else _FULL

    def _row(self, first, n, t):
        # The seconds in the row that holds at t, and until when.
        i = 0
        while i + 1 < n and self._more(first + 2 * i + 2, 1)[0] <= t:
            i += 1
        return self._more(first + 2 * i + 1, 1)[0], self._more(first + 2 * i + 2, 1)[0] if i + 1 < n else _FULL

    def _then(self, t) -> None:
        # Set the past of each clock to t.
        m = self._m
        for at in range(m[profile.CLOCKS], m[profile.CLOCKS] + _CLOCK_WORDS * m[profile.CLOCKS + 1], _CLOCK_WORDS):
            if m[at + 3]:
                m[at + 2] = t // m[at + 3]
            else:
                m[at + 2] = m[at] if t >= m[at] else _FULL

    def _mender(self, scope):
        def mend(start):
            m = self._m
            at = m[profile.LIMITS]
            for at in range(at, at + _LIMIT_WORDS * m[profile.LIMITS + 1], _LIMIT_WORDS):
                if m[at] >> 2 & 3 == scope:
                    sound(m, start + (m[at] >> 12), m[at] & 3, m[m[at + 2]])

        return mend
