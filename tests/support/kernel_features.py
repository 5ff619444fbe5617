"""Sandbox features of this kernel, detected without product code."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")

#: Filtering system calls: needs seccomp, and an architecture that the sandbox supports.
CAN_REFUSE_CALLS = (
    platform.machine() in ("x86_64", "aarch64")
    and _ACTIONS.exists()
    and "errno" in _ACTIONS.read_text().split()
)
#: Refusing changes of files: needs Landlock, any version.
CAN_REFUSE_FILES = (
    sys.platform == "linux" and ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) >= 1
)

NO_CALLS = (
    "strategies can start processes, send signals and use the network: this kernel has no "
    "system-call filter"
)
NO_FILES = "strategies can read and remove the files of their user: this kernel has no Landlock"
#: The missing features that the product must report.
LACKING = [*([] if CAN_REFUSE_FILES else [NO_FILES]), *([] if CAN_REFUSE_CALLS else [NO_CALLS])]
