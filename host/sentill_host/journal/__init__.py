"""Journals on this computer: kept, verified, decoded, archived; and the ledger of what was done to which board."""
