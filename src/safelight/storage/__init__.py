"""Bytes under keys. Knows no images and no HTTP server."""
