"""For the differential tests: a profile of limits at work."""

from array import array

from sentill.errors import PolicyError
from sentill.policy import engine, profile


class _Store(dict):
    def put(self, key, data):
        self[bytes(key)] = bytes(data)


def play(words, steps, room):
    """What an Engine on the profile `words` answers to `steps`: [row, sure, card, group, take], [ref, ending, amount],
    [limit, t, card, group] for a balance, [t] for a clock that was wrong; and what it has counted at the end."""
    image = array("i", words)
    words = profile.load(bytes(memoryview(image)))
    e = engine.Engine(words, lambda at, n: words[at : at + n], _Store(), room, 16)
    seen = []
    for step in steps:
        if len(step) == 5:
            row, sure, card, group, take = step
            action = e.judge(array("I", row), sure, card.encode(), group.encode())
            seen.append([action, e.limit, e.why, e.left])
            if take:
                e.take(array("I", row))
                seen.append([list(mark) for mark in e.reached])
        elif len(step) == 3:
            seen.append(e.outcome(*step))
        elif len(step) == 4:
            seen.append(e.balance(step[0], step[1], step[2].encode(), step[3].encode()))
        else:
            e.begin(step[0])
    e.keep()
    return seen, [[key.decode(), list(value)] for key, value in sorted(e._holders[0]._store.items())]


def refusal(words):
    """Why the profile `words` is refused, or "" when it is taken."""
    try:
        profile.load(bytes(memoryview(array("i", words))))
        return ""
    except PolicyError as error:
        return error.code
