"""Pictures and reports of what a model is worth. Knows nothing of a particular task."""
