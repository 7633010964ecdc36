"""How a run is shared out among several processes, which pytest-xdist starts for `-n`."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests import tiers


class OneServer(LoadScopeScheduling):
    """A file at a time, so that its fixtures are made once; all that needs the running host in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return "the host" if tiers.tier_of(nodeid) in tiers.ON_HOST else nodeid.split("::", maxsplit=1)[0]
