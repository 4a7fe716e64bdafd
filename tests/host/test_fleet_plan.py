"""fleet.toml and the roster: what they mean, and that every mistake in them is named."""

import datetime as dt

import pytest

from sentill_host.errors import UsageError
from sentill_host.fleet import plan
from sentill_host.fleet.plan import Member, Window

ROSTER = "uid,label,site,group\naa01,till 1,Lyon,kiosks\nAA02,till 2,Lyon,\naa03,till 3,Brest,kiosks\n"


def write(folder, toml: str = "", roster: str = ROSTER) -> plan.Fleet:
    (folder / "fleet.toml").write_text(toml)
    (folder / "boards.csv").write_text(roster)
    return plan.load(folder / "fleet.toml")


def test_the_example_is_a_fleet(tmp_path):
    fleet = write(tmp_path, plan.EXAMPLE)
    assert (fleet.name, fleet.policy.canary, fleet.policy.stop_at) == ("my terminals", 1, 0.1)
    uncommented = plan.EXAMPLE.replace('"..."', f'"{"0" * 64}"')
    lines = [line.removeprefix("# ") if " = " in line or "[" in line else line for line in uncommented.splitlines()]
    uncommented = "\n".join(lines)
    full = write(tmp_path, uncommented)
    assert str(full.default.window) == "22:00-05:00 Europe/Paris"
    assert str(full.groups["kiosks"].window) == "01:00-04:00"
    assert full.groups["kiosks"].config == tmp_path / "kiosk.json"
    assert full.firmware_version == "1.26.1"


def test_words_choose_boards(tmp_path):
    fleet = write(tmp_path, "[groups.kiosks]\n")
    labels = lambda *words: [member.label for member in fleet.select(list(words))]  # noqa: E731
    assert labels() == ["till 1", "till 2", "till 3"]
    assert labels("till 2") == labels("aa02") == labels("AA02") == ["till 2"]
    assert labels("group:kiosks") == ["till 1", "till 3"]
    assert labels("site:Lyon", "till 3", "till 1") == ["till 1", "till 2", "till 3"]
    for word in ("till", "group:none", "site:", "aa0"):
        with pytest.raises(UsageError, match="no board of"):
            fleet.select([word])


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("nam = 'x'", "unknown key nam"),
        ("name = 3", "name is wrong"),
        ("ports = 'x'", "ports is wrong"),
        ("ports = [3]", "ports is wrong"),
        ("policy = 3", "policy is wrong"),
        ("[policy]\ncanary = -1", "policy.canary is wrong"),
        ("[policy]\ncanary = ['nobody']", "canary 'nobody' is no label"),
        ("[policy]\nstop_at = '100%'", "policy.stop_at is wrong"),
        ("[policy]\nstop_at = 0", "policy.stop_at is wrong"),
        ("[policy]\nstop_at = true", "policy.stop_at is wrong"),
        ("[policy]\nattempts = 0", "policy.attempts is wrong"),
        ("[policy]\nat_once = true", "policy.at_once is wrong"),
        ("[policy]\nwindow = '22:00'", "policy.window is wrong"),
        ("[policy]\nwindow = '24:00-05:00'", "policy.window is wrong"),
        ("[policy]\nwindow = '05:00-05:00'", "policy.window is wrong"),
        ("[policy]\ntimezone = 'Mars/Olympus'", "policy.timezone is wrong"),
        ("[policy]\ncolour = 1", "unknown key policy.colour"),
        ("[groups.kiosks]\nx = 1", "unknown key groups.kiosks.x"),
        ("[groups.others]\n", "group 'kiosks'"),
        ("[firmware]\nsha256 = {TOASTER = 'x'}", "unknown board 'TOASTER'"),
        ("[firmware]\nrelease = 'x'", "unknown key firmware.release"),
        ("name = [", "fleet.toml"),
    ],
)  # fmt: skip
def test_a_mistake_in_fleet_toml_is_named(tmp_path, toml, words):
    with pytest.raises(UsageError, match=words.replace("[", "\\[")):
        write(tmp_path, toml)


@pytest.mark.parametrize(
    ("roster", "words"),
    [
        ("till 1,aa01\n", "first line must name the columns"),
        ("uid,label\nxyz,till 1\n", "line 2: no unique id: 'xyz'"),
        ("uid,label\naa0,till 1\n", "no unique id"),
        ("uid,label\naa01,\n", "no label"),
        ("uid,label\naa01,group:x\n", "no label"),
        ("uid,label\naa01,till 1\nAA01,till 2\n", "line 3: aa01 is on line 2 already"),
        ("uid,label\naa01,till 1\naa02,aa01\n", "line 3: aa01 is on line 2 already"),
        ("uid,label\naa01,till 1\naa02,till 1\n", "line 3: till 1 is on line 2 already"),
    ],
)
def test_a_mistake_in_the_roster_is_named(tmp_path, roster, words):
    with pytest.raises(UsageError, match=words):
        write(tmp_path, roster=roster)


def test_a_spreadsheets_file_is_read_and_added_to(tmp_path):
    path = tmp_path / "boards.csv"
    path.write_bytes('\ufeffuid,label,site,group,bought\r\naa01,till 1,"Lyon, 3",,2024\r\n,,,,\r\n'.encode())
    assert plan.read_roster(path) == (Member("aa01", "till 1", "Lyon, 3", ""),)
    plan.add_to_roster(path, Member("aa02", "till, 2", "Brest", ""))
    assert plan.read_roster(path)[1] == Member("aa02", "till, 2", "Brest", "")
    with pytest.raises(UsageError, match="has till, 2 .aa02. already"):
        plan.add_to_roster(path, Member("aa02", "till 9"))
    short = tmp_path / "short.csv"
    short.write_text("uid,label\naa01,till 1")
    plan.add_to_roster(short, Member("aa02", "till 2"))
    assert len(plan.read_roster(short)) == 2
    with pytest.raises(UsageError, match="no column site"):
        plan.add_to_roster(short, Member("aa03", "till 3", "Lyon"))


@pytest.mark.parametrize("uid,label", [("zz", "till 1"), ("aa0", "till 1"), ("aa01", "a:b"), ("aa01", "")])
def test_a_wrong_line_is_not_added(tmp_path, uid, label):
    path = tmp_path / "boards.csv"
    plan.add_to_roster(path, Member("aa09", "till 9"))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="no unique id|no label"):
        plan.add_to_roster(path, Member(uid, label))
    assert path.read_bytes() == before
    assert [member.label for member in plan.read_roster(path)] == ["till 9"]


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError) as caught:
        plan.load(tmp_path / "fleet.toml")
    assert "fleet init" in caught.value.hint


def at(clock: str, zone: dt.tzinfo = dt.UTC) -> dt.datetime:
    return dt.datetime.fromisoformat(f"2026-07-01T{clock}").replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("window", "clock", "is_open", "wait_min"),
    [
        (Window(22 * 60, 5 * 60, "UTC"), "21:59:00", False, 1),
        (Window(22 * 60, 5 * 60, "UTC"), "22:00:00", True, 0),
        (Window(22 * 60, 5 * 60, "UTC"), "04:59:59", True, 0),
        (Window(22 * 60, 5 * 60, "UTC"), "05:00:00", False, 17 * 60),
        (Window(60, 4 * 60, "UTC"), "00:30:00", False, 30),
        (Window(60, 4 * 60, "UTC"), "12:00:00", False, 13 * 60),
        (Window(60, 4 * 60, "Europe/Paris"), "23:30:00", True, 0),  # 01:30 there in summer
        (Window(60, 4 * 60, "Europe/Paris"), "03:00:00", False, 20 * 60),
    ],
)
def test_a_maintenance_window_may_span_midnight_and_keeps_its_zone(window, clock, is_open, wait_min):
    now = at(clock)
    assert window.is_open(now) == is_open
    assert window.wait(now) == dt.timedelta(minutes=wait_min)
    assert window.is_open(now + window.wait(now))


@pytest.mark.parametrize(("stop_at", "targets", "tolerated"), [(0.1, 6, 1), (0.1, 100, 10), (3.0, 100, 3), (0.5, 5, 2)])
def test_the_threshold_counts_boards_or_a_share(stop_at, targets, tolerated):
    assert plan.Policy(stop_at=stop_at).tolerated(targets) == tolerated


def test_canaries_are_the_first_or_the_named(tmp_path):
    fleet = write(tmp_path, "[groups.kiosks]\n")
    members = list(fleet.members)
    assert [m.label for m in fleet.canaries(members)] == ["till 1"]
    assert fleet.canaries(members[:1]) == []
    named = write(tmp_path, "[policy]\ncanary = ['till 3']\n")
    assert [m.label for m in named.canaries(list(named.members))] == ["till 3"]
