"""The files served to browsers are those of the lock of vendored packages."""

from __future__ import annotations

import base64
import hashlib
import json

from ginkgo_site.env import CHECKOUT

VENDOR = CHECKOUT / "ginkgo_site" / "static" / "vendor"


def test_the_committed_files_are_exactly_those_of_the_lock() -> None:
    lock = json.loads((VENDOR / "vendor.lock.json").read_text(encoding="utf-8"))
    locked = {name: digest for part in lock.values() for name, digest in part["files"].items()}
    found = {
        file.name: "sha512-" + base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
        for file in VENDOR.iterdir()
        if file.name != "vendor.lock.json"
    }
    assert found == locked
