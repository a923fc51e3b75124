"""Where the program gets its time; pure rooms never look here, they are told."""

from time import monotonic
from time import time as wall

__all__ = ["monotonic", "wall"]
