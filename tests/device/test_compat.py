"""Modules that are borrowed for one use, or lent for several."""

import sys

from sentill.compat import Lent, borrow
from support import MICROPYTHON, SkipTest, raises


def test_what_is_borrowed_leaves_and_what_is_lent_stays_until_the_end():
    if not MICROPYTHON:
        raise SkipTest("CPython keeps what it has imported")
    first = borrow("keys", "renewal")
    assert not kept()
    with Lent("keys", "renewal"):
        lent = borrow("keys", "renewal")
        assert lent is borrow("keys", "renewal") and lent is not first
        assert kept()
    assert not kept()
    assert borrow("keys", "renewal") is not lent


def test_what_somebody_imported_stays_and_what_is_missing_is_left_to_borrow():
    if not MICROPYTHON:
        raise SkipTest("CPython keeps what it has imported")
    import sentill.keys.renewal

    with Lent("keys", "renewal"):
        assert borrow("keys", "renewal") is sentill.keys.renewal
    assert kept()
    del sys.modules["sentill.keys.renewal"]
    delattr(sys.modules["sentill.keys"], "renewal")
    with Lent("keys", "no_such_module"):
        raises(ImportError, borrow, "keys", "no_such_module")


def kept():
    return "sentill.keys.renewal" in sys.modules or hasattr(sys.modules["sentill.keys"], "renewal")
