"""The failover speaker: a program of its own, on the standard library alone."""
