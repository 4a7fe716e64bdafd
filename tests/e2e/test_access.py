"""A board with keys: what it refuses, what opens it, what a tamper event does, and that no card number is ever kept."""

import base64
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sentill.journal import recovery
from sentill.journal.chain import next_key
from sentill.keys import derivation
from sentill.wire import protocol
from sentill_host.board.link import Link
from sentill_host.deploy.deploy import deploy
from sentill_host.errors import LinkError
from sentill_host.keys.key_file import KeyFile
from sentill_host.node import access
from sentill_host.node.client import NodeClient
from sentill_host.node.frames import Frame, Text
from sentill_host.virtual import VirtualBoards
from sentill_host.virtual.api import Board
from tests.e2e.conftest import DEADLINE_S, until
from tests.e2e.test_no_secret_shows import leaks, secrets_of
from tests.e2e.test_node_virtual import identity, verdict

ATTEMPTS = 5_000
SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
# Test numbers of the card schemes, 13 to 19 digits, all passing the Luhn test.
PANS = ("4222222222222", "378282246310005", "4111111111111111", "6304000000000000000", "5555555555554444")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile.create(tmp_path_factory.mktemp("keys") / "keys.json", "a password of tests")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boards")


@pytest.fixture(scope="module")
def board(keys: KeyFile, home: Path) -> Iterator[Board]:
    """A board with keys, profile service; each test leaves it locked and at work."""
    with VirtualBoards(1, home, heap="288K") as boards:
        result = deploy([boards[0].usb])[0]
        assert not result.error, result
        with Link(boards[0].usb) as link:
            provision(NodeClient(link), keys, "service")
        yield boards[0]


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Board, KeyFile]]:
    """A board with heap for more than the node, and keys for it, which it does not have yet."""
    with VirtualBoards(1, heap="1M") as boards:
        result = deploy([boards[0].usb])[0]
        assert not result.error, result
        yield boards[0], KeyFile.create(tmp_path_factory.mktemp("keys") / "keys.json", "a password of tests")


def provision(client: NodeClient, keys: KeyFile, profile: str, policy: int = 7) -> None:
    """Give the board keys and wait until it runs with them."""
    fresh = access.provision(client, keys, profile, policy).fresh
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        fields = identity(client)
        if fields["gen"] == fresh:
            assert "faults" not in fields, fields
            return
    raise AssertionError("the board does not come back with its keys")


def refusal(client: NodeClient, line: bytes) -> str:
    """The code with which the node refuses a line, "" when it does not, "none" without an answer."""
    client.link.write(line)
    wanted = int(line[line.index(b'"q":') + 4 :].split(b",")[0])
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        item = client.receive(1)
        if isinstance(item, Frame) and item.kind == "R" and item.fields["re"] in (wanted, 0):
            return str(item.fields.get("err", ""))
    return "none"


def test_what_changes_something_needs_a_signature_and_counts_once(board: Board, keys: KeyFile) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        for command in ("reboot", "set-rate", "set-time", "count", "lock", "provision"):
            assert refusal(client, protocol.encode("C", [("q", 9009), ("cmd", command)])) == "mac", command
        access.attach(client, keys)
        assert client.signer is not None
        line = client.signer.encode("C", [("q", 9010), ("cmd", "set-rate"), ("hz", 2)])
        assert refusal(client, line) == ""
        assert refusal(client, line) == "stale"
        assert client.command("set-rate", hz=1)["hz"] == 1
        client.signer = None
        assert client.command("status")["ok"] is True


def test_feedback_is_signed_for_its_line(board: Board, keys: KeyFile) -> None:
    with Link(board.uart) as line:
        client = NodeClient(line)
        verdict(client, 31)
        frame = [("q", 9003), ("ref", 31), ("fraud", 1)]
        assert refusal(client, protocol.encode("P", frame)) == "mac"
        state = access.attach(client, keys)
        assert state.line == "uart" and client.signer is not None
        other = access.FrameSigner(keys.derive(state.uid, b"frame", state.generation), "usb", state.counter)
        assert refusal(client, other.encode("P", frame)) == "mac"
        assert refusal(client, client.signer.encode("P", frame)) == ""


def test_fuzzed_replayed_and_forged_commands_are_all_refused(board: Board, keys: KeyFile) -> None:
    rng = random.Random(5)
    boots = board.status()["boots"]
    with Link(board.usb) as link:
        client = NodeClient(link)
        state = access.attach(client, keys)
        signer, client.signer = client.signer, None
        assert signer is not None
        forger = access.FrameSigner(rng.randbytes(32), "usb", state.counter)
        used = signer.encode("C", [("q", 9001), ("cmd", "set-rate"), ("hz", 3)])
        assert refusal(client, used) == ""
        seen: dict[str, int] = {}
        for i in range(ATTEMPTS):
            kind = i % 5
            if kind == 0:
                line = used
            elif kind == 1:
                line = forger.encode("C", [("q", 9002), ("cmd", rng.choice(("reboot", "set-rate", "lock"))), ("hz", 9)])
            elif kind == 2:  # a right frame with one byte of its content changed, and a right checksum
                body = bytearray(used[1 : used.rindex(b"*")])
                at = rng.randrange(body.index(b'"hz"'), len(body))
                body[at] = rng.choice(b"0123456789abcdefXYZ")
                line = b"#" + bytes(body) + b"*%08x\r\n" % protocol.crc32(body)
            elif kind == 3:
                line = protocol.encode("C", [("q", 9004), ("cmd", "unlock"), ("min", 5), ("sig", _random(rng))])
            else:
                pairs = [("q", 9005), ("cmd", "order"), ("n", i), ("min", 5), ("sig", _random(rng))]
                line = protocol.encode("C", pairs)
            code = refusal(client, line)
            assert code or line == used[:0], (kind, line)
            seen[code] = seen.get(code, 0) + 1
        print("refused:", seen)
        assert "none" not in seen and sum(seen.values()) == ATTEMPTS
        after = access.challenge(client)
        assert (after.left_s, after.profile, after.tampered) == (0, "service", "")
        assert client.command("status")["hz"] == 3
    assert board.status()["boots"] == boots


def _random(rng: random.Random) -> str:
    return base64.b64encode(rng.randbytes(16)).decode()


def test_wrong_answers_make_it_wait_longer_and_longer(board: Board, keys: KeyFile) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        until(lambda: not access.challenge(client).wait_s)
        access.unlock(client, keys, 1)
        access.lock(client, keys)
        for wait in (2, 4):
            until(lambda: not access.challenge(client).wait_s)
            began = time.monotonic()
            wrong = base64.b64encode(bytes(16)).decode()
            with pytest.raises(LinkError, match="wrong answer"):
                client.command("unlock", min=5, sig=wrong)
            left = access.challenge(client).wait_s
            assert wait - 1 - (time.monotonic() - began) < left <= wait
            with pytest.raises(LinkError, match="wait"):
                client.command("unlock", min=5, sig=wrong)
        until(lambda: not access.challenge(client).wait_s)
        access.unlock(client, keys, 1)
        assert access.lock(client, keys).left_s > 0
        assert access.challenge(client).wait_s == 0


def test_a_session_is_ended_whatever_was_done_in_it(board: Board, keys: KeyFile) -> None:
    def with_mpremote() -> None:
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", os.path.realpath(board.usb), "fs", "ls"],
            capture_output=True, text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == 0 and "main.py" in done.stdout, (done.stdout, done.stderr)

    def at_the_raw_prompt() -> None:
        with Link(board.usb) as link:
            link.enter_repl()

    def in_a_program() -> None:
        with Link(board.usb) as link:
            link.enter_repl()
            link.launch("while True: pass")

    for what in (with_mpremote, at_the_raw_prompt, in_a_program):
        with Link(board.usb) as link:
            client = NodeClient(link)
            until(lambda: not access.challenge(client).wait_s)
            access.unlock(client, keys, 5)
        what()
        with Link(board.usb) as link:
            client = NodeClient(link)
            assert access.lock(client, keys).left_s > 0, what
            assert access.challenge(client).locked, what
            link.write(b"\x03\x03\x01\x03\r\n")
            assert client.command("status")["ok"] is True, what


def test_ctrl_c_and_deploy_work_in_a_session_only(board: Board, keys: KeyFile) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        link.write(b"\x03\x03\x01\x03\r\n")
        assert client.command("status")["ok"] is True
        assert not [item for item in client.unclaimed if isinstance(item, Text) and ">>>" in item.line]
    config = b'{"rate_hz":2}'
    locked = deploy([board.usb], config=config)[0]
    assert "locked" in locked.error and "--keys" in locked.hint, locked
    done = deploy([board.usb], config=config, keys=keys)[0]
    assert not done.error, done
    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        state = access.challenge(client)
        assert state.locked and state.generation == 1


def test_who_wants_the_prompt_of_a_locked_node_is_told(board: Board) -> None:
    def told(seconds: float) -> list[str]:
        end = time.monotonic() + seconds
        items = list(client.unclaimed)
        while (left := end - time.monotonic()) > 0:
            items.append(client.receive(left))
        return [item.line for item in items if isinstance(item, Text) and "locked" in item.line]

    with Link(board.usb) as link:
        client = NodeClient(link)
        identity(client)
        for what in (b"\x03", b"\x01", b"\r\x03\x03\r\x01\x05A\x01"):
            client.unclaimed.clear()
            link.write(what)
            (line,) = told(1.5)
            assert line.lstrip().startswith("# sentill: this node is locked"), line
        for _ in range(100):
            link.write(b"\x03\x01")
            time.sleep(0.01)
        link.write(b"\r\n")
        assert 1 <= len(told(1.0)) <= 8  # in two or three seconds
        assert client.command("status")["ok"] is True
    # By its lasting name: of a pseudo-terminal mpremote reads without any time limit.
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", board.usb, "fs", "ls"],
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode and "this node is locked" in done.stdout + done.stderr, done


def reached(link: Link) -> tuple[bytes, set[str]]:
    """All bytes and texts that can be reached from the prompt behind `link`, and the classes on the way."""
    told = link.exec((Path(__file__).parent / "_reachable.py").read_text(), 60).decode().splitlines()
    assert told[-1].startswith("end "), told[-1]
    things = [bytes.fromhex(line[2:]) for line in told if line.startswith("b ")]
    things += [line.encode() for line in told if line.startswith("i ")]
    return b"\n".join(things), {line[2:] for line in told if line.startswith("t ")}


@pytest.mark.parametrize("profile", ["service", "sealed"])
def test_the_prompt_of_a_session_reaches_no_key(roomy: tuple[Board, KeyFile], profile: str) -> None:
    """Keys as they are, and as HMAC pads them; the journal's of all records so far."""
    board, keys = roomy
    with Link(board.usb) as link:
        client = NodeClient(link)
        provision(client, keys, profile)
        state = access.enter(client, keys, 5)
        records = client.command("audit")["next"]
        secrets = secrets_of(keys, [state.uid], [state.generation])
        journal = recovery.first_key(keys.root(state.uid, state.generation), state.generation)
        for number in range(records + 20):
            journal = next_key(journal)
            secrets[f"journal key {number}"] = journal
        for name, key in list(secrets.items()):
            for pad in (0x36, 0x5C):
                secrets[f"{name} in HMAC"] = bytes(byte ^ pad for byte in key)
        link.enter_repl()
        seen, classes = reached(link)
        assert {"module", "type", "Task"} <= classes, classes
        assert b"sentill.node.node" in seen and b"unlock" in seen
        print(f"{len(seen)} bytes by way of {len(classes)} classes:", *sorted(classes))
        assert not leaks(seen, secrets), leaks(seen, secrets)
        frame, root = keys.derive(state.uid, b"frame", state.generation), keys.root(state.uid, state.generation)
        for plant in (f"crypto.mac({frame!r})", f"{{1: [({root!r},)]}}", f"bytearray({journal!r})", repr(root.hex())):
            link.exec(f"from sentill import crypto\ncrypto.planted = type('Plant', (), {{}})()\n"
                      f"crypto.planted.inside = {plant}")  # fmt: skip
            seen, _ = reached(link)
            assert leaks(seen, secrets), plant
        boots = board.status()["boots"]
        link.reset()
        board.wait(boots=boots + 1)


def test_sealed_opens_for_an_order_once(board: Board, keys: KeyFile) -> None:
    with Link(board.usb) as link:
        client = NodeClient(link)
        provision(client, keys, "sealed")
        with pytest.raises(access.AccessError, match="sealed"):
            access.unlock(client, keys)
        client.signer = None
        state = access.challenge(client)
        order = access.Order.read(access.Order.sign(keys, state.uid, state.order, 5).text())
        access.follow(client, order)
        assert access.challenge(client).left_s > 0
        access.lock(client, keys)
        client.signer = None
        with pytest.raises(access.AccessError, match="used before"):
            access.follow(client, order)
        with pytest.raises(access.AccessError, match="n must be"):  # after the last number none would open it
            access.follow(client, access.Order.sign(keys, state.uid, (1 << 30) - 1, 5))
        access.follow(client, access.Order.sign(keys, state.uid, state.order + 1, 5))
        provision(client, keys, "service")


def spellings(pan: str) -> tuple[str, ...]:
    """A card number as people and machines write it."""
    return pan, " ".join(pan[i : i + 4] for i in range(0, len(pan), 4)), "-".join(pan)


def flood(client: NodeClient, uart: NodeClient) -> None:
    """Card numbers in every field of every frame, on both lines."""
    for pan in PANS:
        for text in spellings(pan):
            request = [("q", 9001), ("ref", 5), ("t", 1000), ("amt", 500), ("card", "tok")]
            for i in range(1, len(request) + 1):
                pairs = [*request[:i], ("x" if i == len(request) else request[i][0], text), *request[i + 1 :]]
                for port, kind in ((uart, "T"), (uart, "P"), (uart, "C"), (client, "C")):
                    port.link.write(protocol.encode(kind, pairs))
        client.link.write(b"not a frame " + pan.encode() + b"\r\n")


def traces(data: bytes) -> list[str]:
    """The card numbers of which `data` holds more than six digits in front and four behind, however spelled."""
    plain = data.translate(None, b" -_")
    return [pan for pan in PANS for part in (pan[:9], pan[6:]) if part.encode() in data or part.encode() in plain]


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What is in the files of a folder; of Parquet, which is compressed, what a reader sees too."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
            if path.suffix == ".parquet":
                yield str(path) + " read", repr(pq.ParquetFile(path).read().to_pylist()).encode()


def test_no_card_number_is_kept_or_sent(board: Board, keys: KeyFile, home: Path) -> None:
    """Test numbers in every field of every frame; then the flash image and all that was sent are searched."""
    said = bytearray()
    with Link(board.usb) as link, Link(board.uart) as line:
        client, uart = NodeClient(link), NodeClient(line)
        identity(client)
        flood(client, uart)
        assert verdict(uart, 77)["v"]
        client.command("audit")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for port in (client, uart):
                item = port.receive(0.1)
                said += repr(item).encode()
    assert not traces((home / "sim0" / "flash.img").read_bytes())
    assert not traces(bytes(said))
    assert traces(b"x 4111 1111 1111 1111 x") and traces(b"4-1-1-1-1-1-1-1-1-1") and not traces(b"411111******1111")


def test_no_card_number_reaches_the_host(board: Board, keys: KeyFile, home: Path, tmp_path: Path) -> None:
    """The same while the host watches; then cards named by their numbers; then all the host has kept and printed."""
    environment = {**os.environ, "SENTILL_KEYS": str(keys.path), "SENTILL_KEYS_PASSWORD": "a password of tests"}
    printed: dict[str, bytes] = {}

    def sentill(*arguments: object, code: int = 0) -> str:
        command = [*SENTILL, *(str(argument) for argument in arguments)]
        done = subprocess.run(command, capture_output=True, timeout=300, env=environment, cwd=tmp_path)
        assert done.returncode == code, f"{arguments}: {done.returncode} {done.stdout!r} {done.stderr!r}"
        printed[" ".join(command[3:])] = done.stdout + done.stderr
        return done.stdout.decode()

    with Link(board.uart) as line:
        uart = NodeClient(line)
        watching = [*SENTILL, "monitor", board.usb, "--seconds", "6", "--json"]
        with subprocess.Popen(watching, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as monitor:
            until(lambda: board.status()["usb_clients"])
            flood(uart, uart)
            assert verdict(uart, 78)["v"]
            printed["monitor"], _ = monitor.communicate(timeout=120)
    assert b'"kind":"H"' in printed["monitor"].replace(b" ", b""), printed["monitor"][-500:]

    rows = [(i * 3600 * (1 + i // 40), PANS[i % 5], 7, 900 + 37 * i, int(i % 9 == 4)) for i in range(120)]
    table = ["time_s,customer_id,terminal_id,amount_cents,fraud", *(",".join(map(str, row)) for row in rows)]
    transactions = tmp_path / "given" / "cards.csv"
    transactions.parent.mkdir()
    transactions.write_text("\n".join(table) + "\n")
    told = json.loads(sentill("replay", transactions, "--uart", board.uart, "--json"))
    assert told["answered"] == len(rows) and told["feedback"] > 0, told

    config = tmp_path / "given" / "node.json"
    config.write_text(json.dumps({"blocked": "tok " + PANS[2]}))
    sentill("deploy", board.usb, "--config", config, code=2)
    shutil.rmtree(tmp_path / "given")  # what the operator brought; the rest is what Sentill made of it

    journals = ["--dir", tmp_path / "journals"]
    sentill("journal", "pull", board.usb, *journals, "--json")
    sentill("journal", "verify", *journals, "--json")
    assert "verdict" in sentill("journal", "show", *journals, "--json")
    sentill("journal", "archive", *journals)
    assert len(json.loads(sentill("health", board.usb, "--keys", keys.path, "--json"))["channels"]) > 10
    sentill("fleet", "init", "--name", "Privacy")
    settings = tmp_path / "fleet.toml"
    settings.write_text(settings.read_text().replace("ports = []", f'ports = ["{board.usb}"]'))
    with Link(board.usb) as link:
        client = NodeClient(link)
        uid = access.attach(client, keys).uid
        client.command("set-rate", hz=10)  # it is read at its own pace: collect has no keys
    sentill("fleet", "add", uid, "till 1")
    sentill("fleet", "status", "--json")
    sentill("fleet", "collect", "--journals", tmp_path / "journals")
    sentill("fleet", "report", "--html", "report.html", "--csv", "report.csv", "--json")
    kept = dict(contents(tmp_path))
    assert {Path(name).suffix for name in kept} >= {".sjl", ".jsonl", ".parquet", ".db", ".html", ".csv", ".json"}
    assert any(name.endswith("read") and b"'verdict'" in data for name, data in kept.items())
    for name, data in [*printed.items(), *kept.items(), ("flash", (home / "sim0" / "flash.img").read_bytes())]:
        assert not traces(data), (name, traces(data))


def test_tampering_erases_locks_and_refuses_until_new_keys(board: Board, keys: KeyFile, home: Path) -> None:
    with Link(board.usb) as link, Link(board.uart) as line:
        client, uart = NodeClient(link), NodeClient(line)
        uid = identity(client)["uid"]
        generation = access.challenge(client).generation
        root = derivation.kept(keys.root(uid, generation))
        image = home / "sim0" / "flash.img"
        assert root in image.read_bytes()
        board.control("set", values={"pin.5": 1})
        end = time.monotonic() + DEADLINE_S
        while verdict(uart, 500)["why"] != "tampered":
            assert time.monotonic() < end
        assert verdict(uart, 501)["v"] == "decline"
        board.control("set", values={"pin.5": 0})
        data = image.read_bytes()
        for purpose in (b"frame", b"unlock", b"sign", b"token"):
            assert root not in data and keys.derive(uid, purpose, generation) not in data
        boots = board.status()["boots"]
        board.control("power_cycle")
        board.wait(boots=boots + 1)
        assert identity(client)["tamper"] == "case"
        assert verdict(uart, 502)["why"] == "tampered"
        with pytest.raises(access.AccessError, match="tampered"):
            access.unlock(client, keys)
        for command in ("reboot", "maintenance", "set-time"):
            assert refusal(client, protocol.encode("C", [("q", 9009), ("cmd", command)])), command
        told = client.command("audit")
        assert told["next"] > 0, "what was recorded can still be read"
        other = KeyFile.create(keys.path.with_name("other"), "a password of tests")
        with pytest.raises(access.AccessError, match="authorise"):
            access.provision(client, other, "service", 7)
        provision(client, keys, "service")
        assert verdict(uart, 503)["why"] != "tampered"
