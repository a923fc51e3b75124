"""Built-in web nodes, so that there is something to put a proxy in front of."""
