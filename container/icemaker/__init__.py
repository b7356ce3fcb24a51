"""Icemaker: train, serve and feed computer-vision models on Amazon SageMaker and on a laptop."""

__version__ = "0.1.0"
