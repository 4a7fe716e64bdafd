"""A journal that could not be opened is tried again while the node runs: what it may not take then."""

from struct import pack

from flash_model import Nor
from sentill.errors import StorageError
from sentill.flash import Region
from sentill.keys import derivation
from sentill.keys.store import KeyStore
from sentill.keys.vault import Vault
from sentill.node import boot_flash
from support import raises

NEXT = 5


class WentOn(Exception):
    """The journal would be opened now."""


class Hal:
    def raw_flash(self):
        raise WentOn


class Audit:
    pass


class Node:
    """One that runs with the keys of `generation` and `profile`, 0 and 2 after they were erased."""

    def __init__(self, generation, profile):
        keys = KeyStore(Region(Nor(2, 1024), 0, 2, 1, 1024))
        keys.open()
        self.hal = Hal()
        self.audit = Audit()
        self.audit.keys = keys
        if generation:
            give(keys, generation)
        self.vault = Vault(keys)
        self.vault.generation = generation
        self.vault.profile = profile


def give(keys, generation):
    """Keys are given, as provisioning does it before the restart."""
    derivation.store(keys, (generation, 1, 7, bytes(8)), bytearray(range(32)))


def test_the_first_key_of_new_keys_is_left_to_the_next_start():
    for generation, profile, fresh in ((0, 2, 2), (0, 0, 1), (1, 1, 2)):
        node = Node(generation, profile)
        give(node.audit.keys, fresh)
        assert raises(StorageError, boot_flash.recover, node).code == "keys", (generation, fresh)
        assert node.audit.keys.get(NEXT)[:2] == pack("<H", fresh), (generation, fresh)


def test_with_the_keys_it_runs_with_the_journal_is_opened():
    for generation, profile in ((0, 2), (0, 0), (3, 1)):
        raises(WentOn, boot_flash.recover, Node(generation, profile))
