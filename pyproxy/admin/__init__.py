"""The admin API: HTTP in front of a ``Control`` object."""
