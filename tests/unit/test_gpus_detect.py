"""Detection from nvidia-smi (a script that prints what it prints) and from the kernel driver's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelgrove.engine.gpus import detect as module
from kernelgrove.engine.gpus.detect import Detected, detect


def _smi(folder: Path, body: str) -> str:
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return str(script)


def test_devices_are_matched_to_specs(tmp_path: Path) -> None:
    smi = _smi(
        tmp_path,
        "echo '0, NVIDIA H200, 143771, 580.65.06, 9.0'; echo '1, NVIDIA RTX 9999, [N/A], 580.65.06, [N/A]'",
    )
    found = detect(smi, tmp_path / "none")
    assert found.gpus[0] == Detected(0, "NVIDIA H200", "580.65.06", 143771, "H200", (9, 0))
    assert found.gpus[1] == Detected(1, "NVIDIA RTX 9999", "580.65.06", 0, None, None)
    assert found.reason == ""


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = detect(None, tmp_path / "none")
    assert found.gpus == () and found.reason == "No NVIDIA driver is loaded (nvidia-smi is not installed)."


def test_nvidia_smi_that_fails_says_why(tmp_path: Path) -> None:
    smi = _smi(tmp_path, "echo 'NVIDIA-SMI has failed: driver mismatch'; exit 9")
    found = detect(smi, tmp_path / "none")
    assert found.gpus == () and "driver mismatch" in found.reason


def test_nvidia_smi_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    found = detect(_smi(tmp_path, "exec sleep 30"), tmp_path / "none")
    assert found.gpus == () and "did not answer" in found.reason


def test_the_drivers_files_stand_in(tmp_path: Path) -> None:
    gpu = tmp_path / "proc" / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA L4\nIRQ:   \t\t 42\n")
    (tmp_path / "proc" / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n")
    found = detect(_smi(tmp_path, "exit 1"), tmp_path / "proc")
    assert found.gpus == (Detected(0, "NVIDIA L4", "550.54.15", 0, "L4"),)
