"""The judge's side of nurseries and workers."""
