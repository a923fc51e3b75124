"""Which backend serves the next attempt. Pure: knows nothing of connections, sockets or the clock."""
