"""The price of the guard against card numbers: how many references it refuses, as docs/security-tests.md tells."""

import pytest

from tools import pan_false_alarms


@pytest.mark.parametrize("digits", [*pan_false_alarms.WHOLE])
def test_few_references_are_taken_for_card_numbers(digits: int) -> None:
    assert pan_false_alarms.share(digits) <= 0.03


def test_the_document_tells_what_was_counted() -> None:
    told = pan_false_alarms.BEGIN + pan_false_alarms.table() + pan_false_alarms.END
    assert told in pan_false_alarms.DOCUMENT.read_text()
