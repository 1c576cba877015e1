"""Keys, hashes, addresses and Merkle proofs."""
