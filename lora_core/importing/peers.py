"""Every node of other packs that can be converted, by type."""

from __future__ import annotations

from . import comfyroll, easyuse, efficiency, loramanager, rgthree
from .model import Peer

PEERS: dict[str, Peer] = {
    peer.type: peer for family in (rgthree, loramanager, efficiency, comfyroll, easyuse) for peer in family.PEERS
}
