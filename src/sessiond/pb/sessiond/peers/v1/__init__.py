"""Generated: the messages and services of the proto packages at and below sessiond.peers.v1."""
