"""Tamper detection: what is watched, and what happens when somebody opens the case.

Inputs are data of the board: TAMPER in board.py holds (name, source, low, high, readings) each; that many readings in
a row outside low..high are an event. Others come from the node: `unlocks` failed too often, `board` id changed. The
first event latches: it survives resets, and only new keys end it. Without keys of its own a device only reports.

The response follows the policy (vault.py): record and alert always; erase all keys; lock, so that no unlock is
accepted; refuse, so that every verdict is "decline: tampered".
"""

from gc import collect

from sentill.errors import SentillError
from sentill.journal import chain

from .vault import ERASE, REFUSE

FILE = "tampered.txt"


class Tamper:
    """Watches `inputs` for `node`. `refusing` tells that no verdict but decline may leave."""

    def __init__(self, node, inputs):
        self.refusing = False
        self._node = node
        self._inputs = inputs
        self._outside = bytearray(len(inputs))

    def look(self) -> None:
        """Take one reading of each input."""
        i = 0
        for name, source, low, high, readings in self._inputs:
            value = self._node.hal.read(source)
            if value is None or low <= value <= high:
                self._outside[i] = 0
            elif self._outside[i] < readings:
                self._outside[i] += 1
                if self._outside[i] == readings:
                    self.trip(name)
            i += 1

    def trip(self, name: str) -> None:
        """An event. Whatever fails of the response, the rest is done; after a power cut, the next start does it."""
        node = self._node
        vault = node.vault
        if node.tampered:
            return
        steps = [lambda: node.event("tamper", [("by", name)], chain.TAMPER)]
        if vault.generation:
            node.tampered = name
            self.refusing = bool(vault.policy & REFUSE)
            steps.insert(0, lambda: vault.note_tries(vault.failed, 1))  # the latch
            steps.insert(1, lambda: node.store.save(FILE, lambda write: write(name.encode())))
            steps.append(self.erase if vault.policy & ERASE else node.session.end)
        for step in steps:
            try:
                step()
            except (OSError, MemoryError, SentillError) as error:
                node.report("tamper", error)

    def erase(self) -> None:
        """Erase all keys; end the session. What was recorded can still be read."""
        node = self._node
        node.session.end()
        log = node.audit.journal
        node.audit.journal = None
        if self.refusing:  # what judges is needed no more, but room for the code that erases
            node.assessor = None
            terminal = getattr(node, "terminal", None)  # not there yet at the start
            if terminal:
                terminal.assessor = None
            collect()
        try:
            node.vault.erase()
        finally:
            if log:
                log.erase_keys()
