"""What is written of a prediction: masks, overlays, probabilities, polygons, tables."""
