"""Tiles of pictures: layout, masking, bits, noise and batching."""
