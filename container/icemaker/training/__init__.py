"""Training of any task: one loop, its callbacks, and what a run leaves behind. Knows no task's data or model."""
