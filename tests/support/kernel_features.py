"""What this kernel can refuse a process, asked without the product's help."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")

#: System calls: a filter, and on a machine whose numbers the guard knows.
CAN_REFUSE_CALLS = (
    platform.machine() in ("x86_64", "aarch64")
    and _ACTIONS.exists()
    and "errno" in _ACTIONS.read_text().split()
)
#: Changes of files: Landlock of any version.
CAN_REFUSE_FILES = (
    sys.platform == "linux" and ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) >= 1
)

NO_CALLS = "strategies can start processes and send signals: this kernel has no system-call filter"
NO_FILES = "strategies can remove files: this kernel has no Landlock"
#: What the product has to say of this kernel.
LACKING = [
    *([] if CAN_REFUSE_FILES else [NO_FILES]),
    *([] if CAN_REFUSE_CALLS else [NO_CALLS]),
]
