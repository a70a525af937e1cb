"""Tiles of pictures: where they lie, which are worked on, their bits and noise, and running them in batches."""
