"""Wheels that tests and faults build."""

from __future__ import annotations

import io
import zipfile

from chaos.harness.wheels import build_wheel


def test_record_of_a_wheel_has_the_size_of_each_file_in_bytes() -> None:
    name, packed = build_wheel("demo", "1.0", {"demo.py": '"""Buy, sell …"""\n'})
    assert name == "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(packed)) as wheel:
        record = wheel.read("demo-1.0.dist-info/RECORD").decode().splitlines()
        sizes = {line.split(",")[0]: line.split(",")[2] for line in record[:-1]}
        assert sizes == {path: str(wheel.getinfo(path).file_size) for path in sizes}
    assert sizes["demo.py"] == "20"  # 18 characters, of which … takes three bytes
