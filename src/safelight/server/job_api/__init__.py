"""The HTTP API of image jobs: JSON in, JSON out."""
