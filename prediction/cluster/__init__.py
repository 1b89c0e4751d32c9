"""What `prediction.on_ray` is made of: object stores, actors and their calls."""
