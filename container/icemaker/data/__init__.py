"""From files on disk to checked arrays and pixels. Knows nothing of models, HTTP or SageMaker."""
