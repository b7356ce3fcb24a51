"""Annotations of detection: from a channel to checked, immutable tables. Knows no model and no library of models."""

from icemaker.data.annotations.preparation import Prepared, prepare
from icemaker.data.annotations.report import report_lines
from icemaker.data.annotations.table import AnnotationTable

__all__ = ["AnnotationTable", "Prepared", "prepare", "report_lines"]
