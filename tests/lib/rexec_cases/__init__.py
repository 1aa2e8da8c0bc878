# SPDX-License-Identifier: Apache-2.0
"""Every behaviour of programs that rexec runs, in the order of the table."""

from . import streams, terminals, files, descriptors, surroundings, outcomes, lifetime, management, servers  # noqa: F401: they register their own
from .case import CASES  # noqa: F401
