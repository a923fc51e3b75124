"""The control plane: the supervisor, the worker processes under it and what they share."""
