"""Which pool a request belongs to, and what it says of the client. Pure: no sockets, no clock."""
