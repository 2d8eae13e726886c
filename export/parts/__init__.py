"""The parts of a bundle beside its encoder: drift baseline, patches, exemplars, detector."""
