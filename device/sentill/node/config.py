"""The node's settings: one JSON file, a table of what it may hold, and defaults that work without it.

`channels` is a list of health channels (health.Channel tells what each may hold); `null` means those of the board.
"""

import json

from sentill.compat import const, crc32
from sentill.errors import ConfigError
from sentill.pan import fields_hide_pan, looks_like_pan

PATH = "config.json"
_MAX_BYTES = const(8192)
_MAX_CHANNELS = const(16)
_MAX_DEPTH = const(3)

# Key: type, least, greatest (of a text: its length), default.
SCHEMA: dict = {
    "name": (str, 0, 24, ""),  # what people call this terminal
    "rate_hz": (int, 0, 10, 1),  # health frames per second
    "sample_ms": (int, 100, 60_000, 1000),  # between two readings of all channels
    "light_sleep": (bool, 0, 1, False),  # between readings; the terminal must then wake the node first
    "uart_baud": (int, 1200, 921_600, 115_200),
    "watchdog": (bool, 0, 1, True),
    "watchdog_ms": (int, 3000, 8300, 8000),  # the RP2040 counts to 8388
    "history": (int, 16, 2048, 512),  # transactions of the last 7 days the node can hold
    "journal_ms": (int, 100, 60_000, 1000),  # that a record may wait to be kept together with others
    "save_s": (int, 30, 86_400, 600),  # between two saves of the history
    "model_profile": (str, 1, 48, "models/profile.stm"),  # for requests with a card profile
    "model_local": (str, 1, 48, "models/local.stm"),  # for requests without
    "model_rules": (str, 1, 48, "models/rules.stm"),  # where either is missing
    "blocked": (str, 0, 1024, ""),  # tokens of blocked cards, parted by spaces, for hard rules that ask for them
}


def defaults() -> dict:
    """A fresh configuration with every key at its default; `channels` is None: those of the board."""
    values: dict = {key: SCHEMA[key][3] for key in SCHEMA}
    values["channels"] = None
    return values


def validate(given) -> dict:
    """A complete configuration from the dict `given`, which may leave keys out.

    Raises ConfigError: "type", "range" or "unknown", with a message that names the key and what it may hold.
    """
    if not isinstance(given, dict):
        raise ConfigError("type", "the configuration must be an object")
    values = defaults()
    for key in given:
        value = given[key]
        if key == "channels":
            values[key] = _channels(value)
            continue
        if key not in SCHEMA:
            raise ConfigError("unknown", "unknown key " + _show(key))
        kind, least, most, _ = SCHEMA[key]
        # A bool is an int in Python, but not here.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError("type", "%s must be %s" % (key, _wanted(kind, least, most)))
        size = len(value) if kind is str else value
        if not least <= size <= most or (kind is str and not _plain(value)):
            raise ConfigError("range", "%s must be %s" % (key, _wanted(kind, least, most)))
        values[key] = value
    return values


def _wanted(kind, least, most):
    if kind is bool:
        return "true or false"
    if kind is str:
        return "%d..%d printable ASCII characters" % (least, most)
    return "an integer %d..%d" % (least, most)


def _show(key):
    return key[:24] if isinstance(key, str) and _plain(key) else "(not text)"


def _plain(text):
    for c in text:
        if not " " <= c <= "~":
            return False
    return True


def _channels(specs):
    # Only the shape: the health monitor knows what the keys mean.
    if specs is None:
        return None
    if not isinstance(specs, list) or len(specs) > _MAX_CHANNELS:
        raise ConfigError("type", "channels must be a list of at most %d objects" % _MAX_CHANNELS)
    names = []
    for i in range(len(specs)):
        spec = specs[i]
        if not isinstance(spec, dict):
            raise ConfigError("type", "channels[%d] must be an object" % i)
        name = spec.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 16 or not _plain(name):
            raise ConfigError("range", "channels[%d].name must be 1..16 printable ASCII characters" % i)
        if name in names:
            raise ConfigError("range", "channels[%d].name %s occurs twice" % (i, name))
        names.append(name)
        for key in spec:
            value = spec[key]
            most = 80 if key == "advice" else 32
            if isinstance(value, str):
                if len(value) > most or not _plain(value):
                    raise ConfigError(
                        "range", "channels[%d].%s must be up to %d printable ASCII characters" % (i, key, most)
                    )
            elif not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError("type", "channels[%d].%s must be an integer or a string" % (i, _show(key)))
        if not spec.get("source"):
            raise ConfigError("range", "channels[%d].source is missing" % i)
    return specs


def parse(data: bytes) -> dict:
    """The configuration in the bytes of a JSON file. Raises ConfigError "json", "pan", or as `validate`."""
    if len(data) > _MAX_BYTES:
        raise ConfigError("range", "the configuration must be at most %d bytes" % _MAX_BYTES)
    _check_brackets(data)
    try:
        given = json.loads(data)
    except ValueError:
        raise ConfigError("json", "the configuration is not JSON")
    if _hides_pan(given):
        raise ConfigError("pan", "the configuration holds what looks like a card number; cards are named by tokens")
    return validate(given)


def _hides_pan(given):
    # Decoded, so that no escape hides a digit.
    if not isinstance(given, dict):
        return False
    # The limits of a channel that follow one another are no number: one in three or four channels would look like it.
    for spec in given.get("channels") or ():
        if isinstance(spec, dict) and _hides_pan_in(spec):
            return True
    given = {key: _texts(given[key]) if key == "channels" else given[key] for key in given}
    blocked = given.get("blocked")
    if isinstance(blocked, str):  # tokens may be short numbers; the spaces between them part them
        for token in blocked.split(" "):
            if looks_like_pan(token.encode()):
                return True
        return fields_hide_pan(given, ("blocked",))
    return fields_hide_pan(given)


def _hides_pan_in(spec):
    for key in spec:
        if _is_number(spec[key]) and looks_like_pan(str(spec[key]).encode()):
            return True
    return False


def _texts(specs):
    # The channels without their numbers.
    if not isinstance(specs, list):
        return specs
    kept = []
    for spec in specs:
        kept.append({k: spec[k] for k in spec if not _is_number(spec[k])} if isinstance(spec, dict) else spec)
    return kept


def _is_number(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _check_brackets(data):
    # What is nested deep could exhaust the stack of a JSON reader.
    depth = 0
    quoted = skip = False
    for c in data:
        if skip:
            skip = False
        elif quoted:
            skip = c == 92
            quoted = c != 34
        elif c == 34:
            quoted = True
        elif c == 91 or c == 123:
            depth += 1
            if depth > _MAX_DEPTH:
                raise ConfigError("json", "the configuration is nested too deep")
        elif c == 93 or c == 125:
            depth -= 1
    # MicroPython's reader takes a file cut short for a whole one.
    if depth or quoted or not data.strip().endswith(b"}"):
        raise ConfigError("json", "the configuration is not whole")


def load(path: str) -> tuple:
    """The configuration in the file `path` and the CRC-32 of the file, 8 hex digits.

    Raises ConfigError: "missing" when it cannot be read, else as `parse`.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)  # read() would take a buffer of all it may read
            file.seek(0)
            data = file.read(min(size, _MAX_BYTES + 1))
    except OSError:
        raise ConfigError("missing", "no configuration in " + path)
    return parse(data), "%08x" % crc32(data)
