"""Reports worth reading: one HTML file with its pictures and sounds inside."""
