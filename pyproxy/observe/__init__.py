"""What the program can tell about itself: metrics, access log, operational log."""
