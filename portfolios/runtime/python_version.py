"""The Python version that computes here, as far as it may change what is computed.

A minor version may round differently: `sum([0.1] * 10)` is 0.9999999999999999 in Python 3.11 and
1.0 from 3.12 on. Patch releases are taken for equal.
"""

from __future__ import annotations

import sys

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
