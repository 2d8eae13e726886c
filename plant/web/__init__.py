"""The plant's page: all machines, one alarm inbox, trends, export, users."""
