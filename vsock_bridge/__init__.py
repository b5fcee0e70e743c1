"""How bytes travel between a host and the cell: frames, sessions, streams that survive a broken connection, transports.

Carries payloads it does not understand and trusts nobody with them: VSOCK is not a trust boundary.

- `codec`, `messages`   bytes <-> messages, incremental, every bound refused from the header
- `connection`          one connection: state tables, credit, resume; no socket, no clock
- `streams`             a stream outlives its connections: nothing lost, nothing run twice
- `transport`           AF_VSOCK, the hybrid Unix socket, in memory
- `server`, `host`      the cell's three ports and the host's library, thin over the above

Rules W1.. are in docs/spec/wire.md. Imports nothing of ours.
"""
