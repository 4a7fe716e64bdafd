"""The boards that are known, their serial ports, and the link to one: bytes and raw REPL."""
