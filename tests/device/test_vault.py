"""What the vault lets in: frames signed under the device's key, whole as they were signed, each once."""

from binascii import b2a_base64

from sentill import crypto
from sentill.errors import SentillError
from sentill.keys.vault import Vault
from sentill.wire import protocol
from support import raises

HEAD = "usb C "
BODY = b'{"q":1,"cmd":"count","c":%d'


class Keys:
    def put(self, name, payload):
        self.kept = payload


def vault(generation=1):
    made = Vault(Keys())
    made.generation = generation
    made.profile = 1
    made.frame = crypto.mac(b"k" * 32)
    return made


def signature(body, head=HEAD, key=b"k" * 32):
    return b2a_base64(crypto.mac(key).tag(head.encode(), body)[:16])[:-1]


def signed(body, *more, **how):
    return body + b',"mac":"' + signature(body, **how) + b'"' + b"".join(more) + b"}"


def refusal(of, data, c=None):
    """The code with which the frame is refused; with the counter it holds."""
    if c is None:
        c = protocol.parse_fields(data).get("c")
    return raises(SentillError, of.admit, 0, HEAD, data, c).code


def test_a_signed_frame_is_let_in_once():
    of = vault()
    of.admit(0, HEAD, signed(BODY % 5), 5)
    assert refusal(of, signed(BODY % 5)) == "stale"
    assert refusal(of, signed(BODY % 4)) == "stale"
    of.admit(0, HEAD, signed(BODY % 6), 6)
    assert of.counters[0] == 7 and of.kept[0] > 6


def test_nothing_can_be_added_to_a_signed_frame():
    """Base64 ends at its padding: what comes behind it in the text would not be missed."""
    of = vault()
    body = BODY % 5
    tag = signature(body)
    for data in (
        signed(body, b',"n":9999'),
        signed(body, b',"mac2":"' + tag + b'"'),
        body + b',"mac":"' + tag + b'x"}',
        body + b',"mac":"' + tag[:-2] + b'"}',
        body + b',"mac":"x' + tag + b'"}',
        body + b',"mac":"","mac2":"' + tag + b'"}',
        body + b',"n":9999,"mac":"' + tag + b'"}',
        body + b',"mad":"' + tag + b'"}',
        body + b"}",
        b"{}",
    ):
        assert refusal(of, data, 5) == "mac", data
    of.admit(0, HEAD, signed(body), 5)


def test_neither_another_line_or_key_nor_a_frame_without_counter_is_let_in():
    of = vault()
    assert refusal(of, signed(BODY % 5, head="uart C ")) == "mac"
    assert refusal(of, signed(BODY % 5, key=b"j" * 32)) == "mac"
    for c in (b"", b',"c":"5"'):
        data = signed(b'{"q":1' + c)
        assert refusal(of, data, protocol.parse_fields(data).get("c", "none")) == "mac"


def test_without_keys_everything_is_let_in_unless_they_were_erased():
    of = vault(0)
    assert refusal(of, b"{}", 0) == "tampered"
    of.profile = 0
    of.admit(0, HEAD, b"{}", None)
