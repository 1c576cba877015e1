"""py-libp2p under guard: peers, links between authorities, gossip, requests, rpc. `Network` is the way in."""
