"""The config room: from the text of lb.yml to the frozen objects that a worker runs on."""
