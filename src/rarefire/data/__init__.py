"""Data in: sources, files, images, and named datasets."""
