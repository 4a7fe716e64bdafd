"""The configuration file: every key checked by type and range, unknown ones refused, defaults for the rest."""

import json

from sentill.errors import ConfigError
from sentill.node import config
from support import raises, scratch_path


def refused(given, code, *words):
    error = raises(ConfigError, config.validate, given)
    assert error.code == code, (given, error.code, code)
    for word in words:
        assert word in error.message, (given, error.message, word)


def test_defaults_are_valid_and_fresh():
    values = config.defaults()
    assert config.validate(values) == values
    assert config.validate({}) == values
    values["rate_hz"] = 7
    assert config.defaults()["rate_hz"] == 1


def test_every_key_is_checked():
    for key in config.SCHEMA:
        kind, least, most, default = config.SCHEMA[key]
        for wrong in (None, [], {}, 1.5, b"x", 0 if kind is not int else True, "1" if kind is not str else 1):
            if not isinstance(wrong, kind) or isinstance(wrong, bool):
                refused({key: wrong}, "type", key)
        if kind is int:
            refused({key: least - 1}, "range", key, str(least), str(most))
            refused({key: most + 1}, "range", key, str(least), str(most))
            assert config.validate({key: least})[key] == least
            assert config.validate({key: most})[key] == most
        elif kind is str:
            refused({key: "x" * (most + 1)}, "range", key, str(most))
            refused({key: "a\nb"}, "range", key)
            assert config.validate({key: "x" * most})[key] == "x" * most
        else:
            assert config.validate({key: not default})[key] is (not default)


def test_unknown_keys_are_refused():
    refused({"rate": 1}, "unknown", "rate")
    refused({"a\x00b": 1}, "unknown", "(not text)")
    refused({1: 1}, "unknown")
    for wrong in (None, [], 3, "x"):
        refused(wrong, "type", "object")


def test_channels_have_a_shape():
    good = {"name": "supply", "source": "adc:26", "unit": "mV", "num": 3300, "den": 65535, "advice": "x" * 80}
    assert config.validate({"channels": [good]})["channels"] == [good]
    assert config.validate({"channels": []})["channels"] == []
    assert config.validate({"channels": None})["channels"] is None
    refused({"channels": {}}, "type", "channels")
    refused({"channels": [good] * 17}, "type", "16")
    refused({"channels": [1]}, "type", "channels[0]")
    refused({"channels": [good, good]}, "range", "channels[1]", "supply", "twice")
    for key, value, code in (
        ("name", "", "range"),
        ("name", 1, "range"),
        ("name", "x" * 17, "range"),
        ("num", 1.5, "type"),
        ("num", None, "type"),
        ("num", True, "type"),
        ("num", [], "type"),
        ("unit", "x" * 33, "range"),
        ("source", "", "range"),
    ):
        spec = dict(good)
        spec[key] = value
        refused({"channels": [spec]}, code, "channels[0]", key)


def test_damaged_files_are_refused():
    for data, code in (
        (b"", "json"),
        (b"{", "json"),
        (b"\xff\xfe", "json"),
        (b'{"rate_hz": x}', "json"),
        (b"[" * 5000, "json"),
        (b"{" * 5000, "json"),
        (b'{"channels":[[[[]]]]}', "json"),
        (b" " * 9000, "range"),
        (b"[]", "json"),
        (b'{"rate_hz": 3', "json"),
        (b'{"name": "cut', "json"),
        (b'{"rate_hz": 11}', "range"),
        (b'{"name": "4111111111111111"}', "pan"),
        (b'{"blocked": "tok-1 4111-1111-1111-1111 tok-2"}', "pan"),
        (b'{"4111111111111111": 1}', "pan"),
        (b'{"name": "4111\\u0031111\\u002f11111111"}', "pan"),
        (b'{"name": "4111..1111//1111__1111"}', "pan"),
        (b'{"model_local": ["4111111", {"x": "111111111"}]}', "pan"),
        (b'{"channels": [{"name": "a", "source": "adc:1", "advice": "call 5555555555554444"}]}', "pan"),
        (b'{"channels": [{"name": "a", "source": "adc:1", "max": 4111111111111111}]}', "pan"),
    ):
        error = raises(ConfigError, config.parse, data)
        assert error.code == code, (data[:20], error.code, code)


def test_short_numbers_may_be_tokens():
    blocked = "100001 100002 100003 123456789012"
    assert config.parse(b'{"blocked": "%s"}' % blocked.encode())["blocked"] == blocked


def test_load_tells_the_checksum():
    path = scratch_path("config.json")
    assert raises(ConfigError, config.load, scratch_path("absent.json")).code == "missing"
    data = json.dumps({"rate_hz": 3, "name": 'a "quoted" [name] {'}).encode()
    with open(path, "wb") as file:
        file.write(data)
    values, digest = config.load(path)
    assert values["rate_hz"] == 3 and values["name"] == 'a "quoted" [name] {' and values["history"] == 512, values
    assert digest == "%08x" % config.crc32(data), digest


def test_the_limits_of_a_channel_are_no_card_number():
    # Put together they look like one: 10000 65536 0 9999 5000 4650 4400 ...
    limits = "10000 65536 0 9999 5000 4650 4400 5400 5600 40 1800 43200 300".split(" ")
    keys = "num den min max good lo_warn lo_fail hi_warn hi_fail hyst trend_s horizon_s step_s".split(" ")
    pairs = ", ".join(['"%s": %s' % (keys[i], limits[i]) for i in range(len(keys))])
    channel = '{"name": "supply", "unit": "mV", "source": "adc:1", ' + pairs + "}"
    assert len(config.parse(('{"channels": [%s, %s]}' % (channel, channel.replace("supply", "other"))).encode())) > 1
