"""The benchmarks run; how fast is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_section_runs_on_small_data_and_writes_nothing(contents):
    before = contents(ROOT / "docs")
    ran = subprocess.run([sys.executable, "tools/bench.py", "--quick"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert contents(ROOT / "docs") == before
    headings = [line for line in ran.stdout.splitlines() if line.startswith("## ")]
    sections = json.loads((ROOT / "docs" / "benchmarks.json").read_text())
    assert len(headings) == len(set(headings)) == len(sections)
