"""The byte path: one client connection, one backend connection, and the exchanges that join them."""
