"""The configuration language: text to declarations. Opens nothing, decodes nothing."""
