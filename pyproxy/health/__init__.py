"""What is known of a backend's health: active checks, and what they mean together."""
