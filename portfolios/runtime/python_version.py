"""The Python version of this process, as far as it affects results.

A minor version may round differently: `sum([0.1] * 10)` is 0.9999999999999999 in Python 3.11 and
1.0 from 3.12 on. Patch releases count as equal.
"""

from __future__ import annotations

import sys

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
