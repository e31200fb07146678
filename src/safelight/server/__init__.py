"""The HTTP face: the only package that knows methods, status codes and headers."""
