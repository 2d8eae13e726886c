"""From embeddings of healthy sound to a bundle: bank, threshold, gate, drift baseline, report."""
