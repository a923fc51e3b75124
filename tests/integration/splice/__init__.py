"""The program run as a user runs it, before real and misbehaving web nodes, driven over real sockets."""
