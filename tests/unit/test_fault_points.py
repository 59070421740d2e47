"""Fault points: nothing happens unless a test arms them, and a wrong step is named at the start."""

import subprocess
import sys

import pytest

from docfleet import fault_points
from docfleet.migrate import MigrateSettings
from docfleet.settings import InvalidSettings


def test_steps_that_are_not_armed_are_passed() -> None:
    for step in fault_points.STEPS:
        fault_points.reached(step)


def test_process_dies_by_sigkill_at_the_armed_step_and_count() -> None:
    program = """
from docfleet import fault_points
fault_points.arm("after_result:2")
fault_points.reached("after_result")
fault_points.reached("before_result")
print("once", flush=True)
fault_points.reached("after_result")
print("twice", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-9, "once\n")


@pytest.mark.parametrize("text", ["nowhere:1", "after_result", "after_result:0", "after_result:x"])
def test_wrong_step_is_named_with_those_that_there_are(text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"DOCFLEET_FAULT_AT: must be STEP:COUNT .* before_object_put"):
        MigrateSettings.from_mapping({"DOCFLEET_FAULT_AT": text, "DATABASE_URL": "postgresql://x/y"})
