# SPDX-License-Identifier: Apache-2.0
"""Every behaviour that must hold through the proxy as it does on one machine, in the order of the table."""

from . import transfers, connects, datagrams, who, many, descriptors, faults  # noqa: F401: they register their own
from .scenario import SCENARIOS  # noqa: F401

SCENARIOS.sort(key=lambda scenario: not scenario.first)
