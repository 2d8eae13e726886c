"""`auscult plant` and its subcommands, each loaded when it is run."""
