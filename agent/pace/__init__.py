"""How closely a machine's windows follow each other: wide apart while calm, close when not."""
