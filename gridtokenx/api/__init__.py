"""The HTTP and WebSocket interface: a node's own, or a read-only gateway beside it (`docs/api.md`)."""
