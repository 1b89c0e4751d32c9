"""The contracts of models, datasets, loaders and trainers, and what they are made of."""
