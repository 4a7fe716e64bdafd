"""The record that tells what could not be recorded. Borrowed when there is something to tell."""

from . import chain


def add(audit) -> None:
    """Add it to the journal of `audit` (a recorder.Audit). Raises as Journal.append."""
    lost = audit.lost
    text = "n=%d verdicts=%d from=%d to=%d" % tuple(lost[:4]) + " why=" + audit.why
    audit.journal.append(chain.MISSING, audit.node.hal.now_s(), text.encode())
    lost[0] = lost[1] = lost[2] = lost[3] = 0  # takes no heap: it must not be told twice
    lost[5] = audit.journal.next - 1
