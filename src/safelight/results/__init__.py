"""Answers kept on disk: files, what makes them invalid, and who computes a missing one."""
