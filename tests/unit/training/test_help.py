"""What `train --help` and the page of hyperparameters say is what the settings are."""

from pathlib import Path

from icemaker.tasks.detection.settings import DetectionSettings
from icemaker.training import help as help_pages

REPOSITORY = Path(__file__).resolve().parents[3]


def test_page_of_hyperparameters_is_written_from_the_settings() -> None:
    """docs/hyperparameters.md is what the program prints; write it anew after a change, as it says."""
    assert (REPOSITORY / "docs/hyperparameters.md").read_text() == help_pages.page()


def test_help_names_every_hyperparameter_with_its_range() -> None:
    """Each setting is in the text for a terminal."""
    text = help_pages.text()
    for name in DetectionSettings.model_fields:
        assert f"  {name} (default: " in text
    assert max(len(line) for line in text.splitlines()) <= 120
