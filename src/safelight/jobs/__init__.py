"""Image jobs: fetch from a URL, transform, deliver to a URL; kept in a queue that survives the power cut."""
