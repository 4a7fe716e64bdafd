"""Many boards at once: who they are, what they get and when, what became of it.

`plan` reads fleet.toml and the roster, `store` keeps what was seen and done, `tasks` is what one worker process does to
one board, `campaign` carries a request through all boards, `report` tells of it.
"""
