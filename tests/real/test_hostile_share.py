"""A fixed share of the hostile campaign: files, settings and addresses of others are data."""

from pathlib import Path

import pytest

from campaigns.hostile import run_cases
from campaigns.hostile_cases import all_cases

pytestmark = pytest.mark.real

SHARE = 40


def test_hostile_inputs_execute_change_and_send_nothing(tmp_path: Path) -> None:
    cases = all_cases()
    assert len(cases) >= 500
    chosen = cases[:: len(cases) // SHARE]
    findings = [each for each in run_cases(chosen, tmp_path) if each.findings]
    report = [f"{each.case.name}: {each.findings} {each.output[-300:]}" for each in findings]
    assert not findings, "\n".join(report)
