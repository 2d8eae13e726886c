"""All systems of one report, with its settings, ending in its own tables (`auscult reproduce`)."""
