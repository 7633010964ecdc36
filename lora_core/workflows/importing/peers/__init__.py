"""Every node of other packs that can be converted, by type."""

from __future__ import annotations

from ..model import Peer
from . import comfyroll, core, easyuse, efficiency, loramanager, rgthree

PEERS: dict[str, Peer] = {
    peer.type: peer for family in (rgthree, loramanager, efficiency, comfyroll, easyuse, core) for peer in family.PEERS
}
