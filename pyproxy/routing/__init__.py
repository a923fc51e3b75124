"""Which route a request takes, what the route changes, and who the client is. Pure: no sockets, no clock."""
