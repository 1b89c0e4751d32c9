"""From a config file to a checked `Config`."""
