"""The tests of pyproxy; a package, so that helpers can be imported by their full name."""
