"""Many image files through an engine: find them, name the results, run, write."""
