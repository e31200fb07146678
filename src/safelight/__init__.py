"""Safelight: a self-hosted image server whose API is declared in a short configuration file."""

__version__ = "0.1.0"
