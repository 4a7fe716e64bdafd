"""What commands report of a job, and that the keys of its JSON stay what programs rely on."""

import dataclasses
import json
import os
import subprocess

import pytest

from sentill_host.deploy import deploy
from sentill_host.deploy.job_result import JobResult
from sentill_host.deploy.workers import Outcome
from sentill_host.errors import VerifyError
from sentill_host.flash import procedure
from tests.interpreters import unix_command

COMMON = {"port", "board", "uid", "before", "version", "seconds", "error", "hint", "exit_code"}
DEPLOY = {
    *("slot", "rung", "copied", "copied_bytes", "reused", "removed", "resent", "verified_s", "restart_s", "step"),
    *("unchanged", "keys", "keys_given", "warning", "foreign"),
}
FLASH = {"ulab", "file", "sha256", "pinned", "tool"}


def test_the_keys_of_the_json_stay():
    assert set(dataclasses.asdict(deploy.Result("p"))) == COMMON | DEPLOY
    assert set(dataclasses.asdict(procedure.Result("p"))) == COMMON | FLASH


@pytest.mark.parametrize("message", ["it is damaged", "/dev/x: it is damaged"])
def test_a_failure_is_taken_down_with_its_port(message):
    result = JobResult("/dev/x")
    with result.recording():
        raise VerifyError(message, "flash it")
    assert (result.error, result.hint, result.exit_code) == ("/dev/x: it is damaged", "flash it", 4)
    assert 0 <= result.seconds < 60


def test_a_success_has_no_error_and_a_bug_is_not_hidden():
    result = JobResult("/dev/x")
    with result.recording():
        pass
    assert (result.error, result.exit_code) == ("", 0)
    with pytest.raises(ZeroDivisionError), result.recording():
        raise ZeroDivisionError


def test_a_worker_without_a_result_failed():
    result = JobResult("/dev/x")
    result.fail(Outcome(step="copying", reason="ended").failure())
    assert (result.error, result.exit_code) == ("/dev/x: copying: ended", 3)
    assert "run this again" in result.hint


def test_a_folder_named_ulab_is_taken_for_no_firmware_with_it(tmp_path):
    (tmp_path / "ulab").mkdir()
    command = [*unix_command(), "-c", procedure._ABOUT]
    environment = {**os.environ, "MICROPYPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ulab"] == ""
